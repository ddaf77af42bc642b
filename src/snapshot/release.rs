//! What a release puts over a rule: other weights than the declared ones, and the trial in which its requests count. It lies
//! beside the compiled rules, so that a step of a release is a new snapshot without compiling anything.

use std::sync::Arc;

use crate::routing::{Action, RouteTable, Rule, Split, Sticky};
use crate::telemetry::{Arm, Trial};

use super::Destination;

/// The rule of a release and what is put over it.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The namespace of the VirtualService in which the rule is written.
    pub namespace: String,
    /// Its name.
    pub virtual_service: String,
    /// The number of the rule in it, from 0.
    pub rule: usize,
    /// The place of the stable version among the destinations of the rule, from 0.
    pub stable: usize,
    /// That of the canary.
    pub canary: usize,
    /// Percent of the requests that go to the canary; the others go to the stable version. None leaves the declared weights.
    pub weight: Option<u32>,
    /// Where the first attempts of its requests count; none while nothing is judged.
    pub trial: Option<Arc<Trial>>,
    /// Whether the stable version answers what the canary fails to.
    pub shield: bool,
}

/// An overlay as one compiled rule has it.
#[derive(Debug)]
pub struct Exposed {
    /// [`Rule::number`].
    number: usize,
    /// The numbers of the rule's destinations, by the weights of the release.
    split: Option<(Split<usize>, Option<Sticky>)>,
    stable: usize,
    canary: usize,
    /// See [`Overlay::trial`].
    pub trial: Option<Arc<Trial>>,
    shield: bool,
}

impl Exposed {
    /// What the overlays mean for the rules of a table. One whose rule or whose destinations are not there means nothing.
    pub(super) fn all(overlays: &[Overlay], routes: &RouteTable<Destination>) -> Box<[Self]> {
        if overlays.is_empty() {
            return Box::default();
        }
        let rules = routes.rules().filter_map(|(_, rule)| {
            let origin = rule.origin.as_ref()?;
            let of_rule = |overlay: &&Overlay| origin.is(&overlay.namespace, &overlay.virtual_service, overlay.rule);
            let overlay = overlays.iter().find(of_rule)?;
            Self::new(overlay, rule)
        });
        rules.collect()
    }

    fn new(overlay: &Overlay, rule: &Rule<Destination>) -> Option<Self> {
        let Action::Forward(split) = &rule.action else { return None };
        let Overlay { stable, canary, shield, .. } = *overlay;
        let known = split.entries().len();
        if stable >= known || canary >= known || stable == canary {
            return None;
        }
        let reweighted = |percent: u32| {
            let mut weights = vec![0; known];
            weights[canary] = u64::from(percent.min(100));
            weights[stable] = 100 - weights[canary];
            let sticky = rule.sticky.as_ref().and_then(|sticky| sticky.reweighted(&weights));
            Split::new(weights.into_iter().enumerate().collect()).map(|split| (split, sticky))
        };
        let split = overlay.weight.and_then(reweighted);
        Some(Self { number: rule.number, split, stable, canary, trial: overlay.trial.clone(), shield })
    }

    /// The rule that it lies over.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The weights of the release and what keeps clients on them; none if the declared ones hold.
    pub fn split(&self) -> Option<(&Split<usize>, Option<&Sticky>)> {
        self.split.as_ref().map(|(split, sticky)| (split, sticky.as_ref()))
    }

    /// Which version a destination of the rule is, by its number.
    pub fn arm(&self, index: usize) -> Option<Arm> {
        match index {
            _ if index == self.stable => Some(Arm::Stable),
            _ if index == self.canary => Some(Arm::Canary),
            _ => None,
        }
    }

    /// The number of the destination that answers in place of one that failed, if there is one.
    pub fn shield_of(&self, index: usize) -> Option<usize> {
        (self.shield && index == self.canary).then_some(self.stable)
    }

    /// The share of a destination of the rule, by its number; none if the declared one holds.
    pub fn share(&self, index: usize) -> Option<f64> {
        self.split.as_ref().map(|(split, _)| split.entries()[index].share)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::routing::RequestView;
    use crate::snapshot::Snapshot;
    use crate::snapshot::testing::{TWO_VERSIONS, shares, snapshot};
    use crate::telemetry::{Buckets, Metrics};

    fn overlay(weight: Option<u32>) -> Overlay {
        Overlay {
            namespace: "default".to_owned(),
            virtual_service: "shop".to_owned(),
            rule: 0,
            stable: 0,
            canary: 1,
            weight,
            trial: None,
            shield: false,
        }
    }

    fn metrics() -> Metrics {
        Metrics::new(1, Buckets::Fine)
    }

    fn two_versions() -> Snapshot {
        snapshot(TWO_VERSIONS, &metrics()).0
    }

    /// What lies over the only rule.
    fn exposed(snapshot: &Snapshot) -> Option<&Exposed> {
        let (_, rule) = snapshot.routes().rules().next().unwrap();
        snapshot.exposed(rule)
    }

    #[test]
    fn the_weight_of_a_release_holds_beside_the_declared_one() {
        let declared = two_versions();
        assert!(exposed(&declared).is_none());
        assert_eq!(shares(&declared), [1.0, 0.0]);
        for (percent, share) in [(0, 0.0), (10, 0.1), (100, 1.0), (250, 1.0)] {
            let released = declared.with_overlays(&[overlay(Some(percent))]);
            assert_eq!(shares(&released), [1.0 - share, share]);
            let declared: Vec<f64> = released.destinations().map(|placed| placed.declared).collect();
            assert_eq!(declared, [1.0, 0.0]);
            let (split, sticky) = exposed(&released).unwrap().split().unwrap();
            assert!(sticky.is_none());
            let hits = (0..1000_u64).filter(|draw| split.pick(draw * (u64::MAX / 1000)).value == 1).count();
            assert!(hits.abs_diff((share * 1000.0) as usize) <= 1, "{hits} of 1000 at {percent} %");
        }
        let back = declared.with_overlays(&[overlay(Some(30))]).with_overlays(&[]);
        assert_eq!(shares(&back), [1.0, 0.0], "overlays are replaced, not added");
    }

    #[test]
    fn without_a_weight_the_declared_ones_hold_and_requests_are_counted() {
        let metrics = metrics();
        let trial = metrics.trial(0.0, Some(Duration::from_secs(1)), Arc::default());
        let observed = two_versions().with_overlays(&[Overlay { trial: Some(Arc::clone(&trial)), ..overlay(None) }]);
        let exposed = exposed(&observed).unwrap();
        assert!(exposed.split().is_none() && exposed.share(0).is_none());
        assert!(Arc::ptr_eq(exposed.trial.as_ref().unwrap(), &trial));
        assert_eq!(shares(&observed), [1.0, 0.0]);
    }

    #[test]
    fn versions_are_known_by_their_place() {
        let turned = Overlay { stable: 1, canary: 0, shield: true, ..overlay(Some(20)) };
        let released = two_versions().with_overlays(&[turned]);
        let exposed = exposed(&released).unwrap();
        assert_eq!([0, 1, 2].map(|index| exposed.arm(index)), [Some(Arm::Canary), Some(Arm::Stable), None]);
        assert_eq!([0, 1].map(|index| exposed.share(index)), [Some(0.2), Some(0.8)]);
        assert_eq!(
            [0, 1].map(|index| exposed.shield_of(index)),
            [Some(1), None],
            "stable answers for the canary alone"
        );
        let bare = two_versions().with_overlays(&[overlay(Some(20))]);
        assert_eq!(self::exposed(&bare).unwrap().shield_of(1), None, "nobody asked for a shield");
    }

    #[test]
    fn what_is_not_there_is_not_overlaid() {
        let declared = two_versions();
        for absent in [
            Overlay { namespace: "other".to_owned(), ..overlay(Some(50)) },
            Overlay { virtual_service: "other".to_owned(), ..overlay(Some(50)) },
            Overlay { rule: 1, ..overlay(Some(50)) },
            Overlay { canary: 2, ..overlay(Some(50)) },
            Overlay { stable: 2, ..overlay(Some(50)) },
            Overlay { stable: 1, ..overlay(Some(50)) },
        ] {
            let released = declared.with_overlays(&[absent]);
            assert!(exposed(&released).is_none());
            assert_eq!(shares(&released), [1.0, 0.0]);
        }
        let redirect = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\n\
                        spec: {hosts: [shop], http: [{redirect: {uri: /elsewhere}}]}\n";
        let redirecting = snapshot(redirect, &metrics()).0.with_overlays(&[overlay(Some(50))]);
        assert!(exposed(&redirecting).is_none());
    }

    #[test]
    fn a_third_destination_gets_nothing_while_a_release_has_the_rule() {
        let third = "        - {destination: {host: shop, subset: v3}, weight: 50}\n---";
        let yaml = TWO_VERSIONS.replacen("---", third, 1).replace("weight: 100", "weight: 50").replace(
            "{name: v2, labels: {version: v2}}",
            "{name: v2, labels: {version: v2}}, {name: v3, labels: {version: v1}}",
        );
        let declared = snapshot(&yaml, &metrics()).0;
        assert_eq!(shares(&declared), [0.5, 0.0, 0.5]);
        assert_eq!(shares(&declared.with_overlays(&[overlay(Some(10))])), [0.9, 0.1, 0.0]);
    }

    #[test]
    fn clients_that_stay_with_a_version_are_divided_by_the_weight_of_the_release() {
        let yaml = TWO_VERSIONS.replacen("{name: shop}", "{name: shop, annotations: {serin.dev/sticky: source-ip}}", 1);
        let declared = snapshot(&yaml, &metrics()).0;
        let released = declared.with_overlays(&[overlay(Some(30))]);
        let (_, sticky) = exposed(&released).unwrap().split().unwrap();
        let headers = http::HeaderMap::new();
        let request =
            RequestView { method: "GET", scheme: "http", authority: "shop", path: "/", headers: &headers, port: 80 };
        let canary = |number: u32| {
            let peer = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into();
            sticky.unwrap().draw(&request, peer, 0).index == 1
        };
        let hits = (0..2000).filter(|number| canary(*number)).count();
        assert!((500..700).contains(&hits), "{hits} of 2000 clients");
    }
}

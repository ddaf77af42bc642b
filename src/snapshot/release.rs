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

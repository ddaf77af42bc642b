//! `mirror` and `mirrors`, as data: who gets copies of a rule's requests, and of how many.

use super::filters::Chance;
use crate::config::resource::virtual_service::{Destination, HttpRoute};

/// One destination of copies.
#[derive(Clone, Debug)]
pub struct Mirror<D> {
    /// Where they go.
    pub to: D,
    /// How many requests are copied.
    pub chance: Chance,
}

/// The mirrors of a rule, without those that never get a copy: absent percentages are 100, explicit zeros are off.
pub(super) fn compile<D>(written: &HttpRoute, mut destination: impl FnMut(&Destination) -> D) -> Box<[Mirror<D>]> {
    let single = match (&written.mirror_percentage, &written.mirror_percent) {
        (Some(percentage), _) => Chance::of(percentage.value),
        (None, Some(percent)) => Chance::of(percent.value as f64),
        (None, None) => Some(Chance::ALWAYS),
    };
    let single = written.mirror.as_deref().into_iter().map(|to| (Some(to), single));
    let several = written.mirrors.iter().map(|mirror| {
        let chance = mirror.percentage.as_ref().map_or(Some(Chance::ALWAYS), |percent| Chance::of(percent.value));
        (mirror.destination.as_ref(), chance)
    });
    let mirrors = single.chain(several).filter_map(|(to, chance)| Some((to?, chance?)));
    mirrors.map(|(to, chance)| Mirror { to: destination(to), chance }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::resource::virtual_service::HttpMirror;
    use crate::routing::testing::{at, rule, text};

    fn to(host: &str) -> Option<Destination> {
        Some(Destination { host: text(host), ..Destination::default() })
    }

    fn compiled(written: &HttpRoute) -> Vec<(String, Chance)> {
        let mirrors = compile(written, |destination| destination.host.value.clone());
        mirrors.into_iter().map(|mirror| (mirror.to, mirror.chance)).collect()
    }

    #[test]
    fn without_a_percentage_everything_is_mirrored_and_zero_is_off() {
        let all = HttpRoute { mirror: to("m").map(Box::new), ..rule("b", vec![]) };
        assert_eq!(compiled(&all), [("m".to_owned(), Chance::ALWAYS)]);
        assert!(compiled(&HttpRoute { mirror_percentage: Some(at(0.0)), ..all.clone() }).is_empty());
        assert!(compiled(&HttpRoute { mirror_percent: Some(at(0)), ..all.clone() }).is_empty());
        let both = HttpRoute { mirror_percentage: Some(at(5.0)), mirror_percent: Some(at(0)), ..all };
        assert_eq!(compiled(&both), [("m".to_owned(), Chance::of(5.0).unwrap())]);
    }

    #[test]
    fn each_of_several_mirrors_has_its_own_percentage() {
        let mirror = |host, percentage: Option<f64>| HttpMirror {
            destination: to(host),
            percentage: percentage.map(at),
            ..HttpMirror::default()
        };
        let mirrors = vec![mirror("all", None), mirror("off", Some(0.0)), mirror("some", Some(25.5))];
        let wanted = [("all".to_owned(), Chance::ALWAYS), ("some".to_owned(), Chance::of(25.5).unwrap())];
        assert_eq!(compiled(&HttpRoute { mirrors, ..rule("b", vec![]) }), wanted);
    }
}

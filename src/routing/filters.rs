//! What a rule does with a request before and beside forwarding it. Most rules have none of it, so that a request pays for
//! one look at an empty box.

use super::cors::Cors;
use super::fault::Fault;
use super::mirror::{self, Mirror};
use crate::config::resource::virtual_service::{Destination, HttpRoute};
use crate::config::value::Percent;

/// In this order: CORS (which may answer), then the fault (a delay, then an abort), then the router, which mirrors.
#[derive(Clone, Debug)]
pub struct Filters<D> {
    /// `corsPolicy`.
    pub cors: Option<Cors>,
    /// `fault`.
    pub fault: Option<Fault>,
    /// `mirror` and `mirrors`.
    pub mirrors: Box<[Mirror<D>]>,
}

impl<D> Filters<D> {
    /// What a rule asks for; none if that is nothing. `destination` is asked once for each mirror that ever gets a copy.
    pub(super) fn new(written: &HttpRoute, destination: impl FnMut(&Destination) -> D) -> Option<Box<Self>> {
        let filters = Self {
            cors: written.cors_policy.as_deref().map(Cors::new),
            fault: written.fault.as_deref().and_then(Fault::new),
            mirrors: mirror::compile(written, destination),
        };
        let idle = filters.cors.is_none() && filters.fault.is_none() && filters.mirrors.is_empty();
        (!idle).then(|| Box::new(filters))
    }
}

/// How many of all requests, as a threshold for a draw that is uniform over all of `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// Every request.
    pub(super) const ALWAYS: Self = Self(u64::MAX);

    /// None for 0 percent.
    pub(super) fn of(percent: f64) -> Option<Self> {
        // A conversion from a float saturates.
        (percent > 0.0).then(|| Self((percent / 100.0 * 2.0_f64.powi(64)) as u64))
    }

    /// The same for a percentage as written, of which none is 0 percent.
    pub(super) fn written(percentage: Option<&Percent>) -> Option<Self> {
        Self::of(percentage.map_or(0.0, |percentage| percentage.value))
    }

    /// The share of all requests, 0 to 1.
    pub fn share(self) -> f64 {
        if self == Self::ALWAYS { 1.0 } else { self.0 as f64 / 2.0_f64.powi(64) }
    }

    /// Whether a request with this draw is one of them.
    pub fn hits(self, draw: u64) -> bool {
        self == Self::ALWAYS || draw < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::rule;

    #[test]
    fn a_plain_rule_has_no_filters() {
        assert!(Filters::<()>::new(&rule("b", vec![]), |_| ()).is_none());
    }

    #[test]
    fn a_chance_is_exact_at_its_edges() {
        assert_eq!(Chance::of(0.0), None);
        assert_eq!(Chance::of(-1.0), None);
        let all = Chance::of(100.0).unwrap();
        assert!(all.hits(0) && all.hits(u64::MAX));
        let half = Chance::of(50.0).unwrap();
        assert!(half.hits((1 << 63) - 1) && !half.hits(1 << 63));
        assert_eq!((all.share(), half.share()), (1.0, 0.5));
        let millionth = Chance::of(0.0001).unwrap();
        let edge = u64::MAX / 1_000_000;
        assert!(millionth.hits(edge - 1000) && !millionth.hits(edge + 1000));
    }
}

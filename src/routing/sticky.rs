//! The version that a client stays on. A key (cookie, header or address) becomes a point in [0, 1) that depends on nothing
//! else; where the point falls depends on the shares and the names of the destinations, never on their order or on the sum of
//! the weights. Of two destinations, the one whose name comes first takes the points from 0 up, the other those from 1 down:
//! a share that grows takes points from its neighbour and gives none away. More than two draw lots for each point, weighted
//! (highest random weight): a share that grows wins points, and nobody else's change hands.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};

use super::table::RequestView;
use crate::config::sticky::StickyBy;

/// A point is so many parts of this. It is what the digits of the cookie can say.
const PARTS: u64 = 1_000_000_000_000;

/// Digits of the cookie behind `0.`.
const DIGITS: usize = 12;

/// Keeps clients on the destination that they once got.
#[derive(Clone, Debug)]
pub struct Sticky {
    key: Key,
    /// The destinations by name, in the order of the split.
    names: Arc<[String]>,
    places: Places,
}

/// What was drawn for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// The number of the destination among the entries of the split.
    pub index: usize,
    /// What it was chosen by: the same for each request of a client that is kept.
    pub point: u64,
    /// A cookie to give to the client.
    pub set_cookie: Option<HeaderValue>,
}

/// A point in [0, 1), in parts of [`PARTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point(u64);

#[derive(Clone, Debug)]
enum Key {
    Cookie { name: Box<str>, max_age: Option<u64> },
    Header(HeaderName),
    SourceIp,
}

/// Which points belong to which entry of the split.
#[derive(Clone, Debug)]
enum Places {
    One(usize),
    Two {
        low: usize,
        high: usize,
        /// The points of the low one, of 2⁶⁴.
        boundary: u128,
    },
    Many(Box<[Lot]>),
}

#[derive(Clone, Debug)]
struct Lot {
    name: u64,
    share: f64,
    index: usize,
}

impl Sticky {
    /// For a split with these destinations, by name and weight, in its order. None if there is no destination with a weight,
    /// or a header that cannot be.
    pub(super) fn new(by: &StickyBy, destinations: &[(String, u64)]) -> Option<Self> {
        let key = match by {
            StickyBy::Cookie { name, ttl } => {
                Key::Cookie { name: name.as_str().into(), max_age: ttl.as_ref().map(Duration::as_secs) }
            }
            StickyBy::Header(name) => Key::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            StickyBy::SourceIp => Key::SourceIp,
        };
        let places = Places::new(destinations)?;
        Some(Self { key, names: destinations.iter().map(|(name, _)| name.clone()).collect(), places })
    }

    /// The same with other weights, in the order of the split. None if no destination has one.
    pub fn reweighted(&self, weights: &[u64]) -> Option<Self> {
        let destinations: Vec<_> = self.names.iter().cloned().zip(weights.iter().copied()).collect();
        Some(Self { places: Places::new(&destinations)?, ..self.clone() })
    }

    /// The destination of a request from `peer`. `fresh` is a random number for a client that is not known.
    pub fn draw(&self, request: &RequestView<'_>, peer: IpAddr, fresh: u64) -> Drawn {
        let known = self.known(request, peer);
        let point = known.unwrap_or_else(|| Point::new(fresh));
        let set_cookie = match (&self.key, known) {
            (Key::Cookie { name, max_age }, None) => point.cookie(name, *max_age, request.scheme == "https"),
            _ => None,
        };
        Drawn { index: self.places.at(point), point: point.0, set_cookie }
    }

    /// The entry of the split that a client is bound to, if the request says which client it is.
    pub fn owner(&self, request: &RequestView<'_>, peer: IpAddr) -> Option<usize> {
        self.known(request, peer).map(|point| self.places.at(point))
    }

    fn known(&self, request: &RequestView<'_>, peer: IpAddr) -> Option<Point> {
        match &self.key {
            Key::Cookie { name, .. } => cookie(request.headers, name).and_then(Point::parse),
            Key::Header(name) => request.headers.get(name).map(|value| Point::of(value.as_bytes())),
            Key::SourceIp => Some(match peer.to_canonical() {
                IpAddr::V4(address) => Point::of(&address.octets()),
                IpAddr::V6(address) => Point::of(&address.octets()),
            }),
        }
    }

    /// The entry of the split that owns the point which lies so far into [0, 1), in parts of 2⁶⁴.
    pub fn at(&self, point: u64) -> usize {
        self.places.at(Point::new(point))
    }
}

impl fmt::Display for Sticky {
    /// By what clients are known: `cookie NAME`, `header NAME`, `source-ip`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Key::Cookie { name, .. } => write!(f, "cookie {name}"),
            Key::Header(name) => write!(f, "header {name}"),
            Key::SourceIp => f.write_str("source-ip"),
        }
    }
}

impl Point {
    /// From a number that is uniform over all of `u64`.
    fn new(uniform: u64) -> Self {
        Self(((u128::from(uniform) * u128::from(PARTS)) >> 64) as u64)
    }

    /// The point of a key.
    fn of(key: &[u8]) -> Self {
        Self::new(hash(key))
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0.").filter(|digits| digits.len() == DIGITS)?;
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok().map(Self) } else { None }
    }

    /// How far into [0, 1) it lies, of 2⁶⁴.
    fn fraction(self) -> u64 {
        ((u128::from(self.0) << 64) / u128::from(PARTS)) as u64
    }

    fn cookie(self, name: &str, max_age: Option<u64>, secure: bool) -> Option<HeaderValue> {
        let mut text = format!("{name}=0.{:0DIGITS$}; Path=/", self.0);
        if let Some(seconds) = max_age {
            text.push_str(&format!("; Max-Age={seconds}"));
        }
        text.push_str("; HttpOnly; SameSite=Lax");
        if secure {
            text.push_str("; Secure");
        }
        HeaderValue::from_str(&text).ok()
    }
}

impl Places {
    fn new(destinations: &[(String, u64)]) -> Option<Self> {
        // A destination that is listed twice is one with both weights. A lone one takes everything, whatever its weight.
        let mut named: Vec<(&str, u64, usize)> = Vec::with_capacity(destinations.len());
        for (index, (name, weight)) in destinations.iter().enumerate() {
            match named.iter_mut().find(|(known, ..)| known == name) {
                Some((_, sum, first)) => {
                    if *sum == 0 {
                        *first = index;
                    }
                    *sum = sum.saturating_add(*weight);
                }
                None => named.push((name, *weight, index)),
            }
        }
        named.sort_unstable_by_key(|(name, ..)| *name);
        let total = named.iter().fold(0_u64, |sum, (_, weight, _)| sum.saturating_add(*weight));
        match *named {
            [] => None,
            [(_, _, index)] => Some(Self::One(index)),
            _ if total == 0 => None,
            [(_, weight, low), (_, _, high)] => {
                let boundary = (u128::from(weight) << 64) / u128::from(total);
                Some(Self::Two { low, high, boundary })
            }
            _ => {
                let lots = named.iter().filter(|(_, weight, _)| *weight > 0).map(|(name, weight, index)| Lot {
                    name: hash(name.as_bytes()),
                    share: *weight as f64 / total as f64,
                    index: *index,
                });
                Some(Self::Many(lots.collect()))
            }
        }
    }

    fn at(&self, point: Point) -> usize {
        let fraction = point.fraction();
        match self {
            Self::One(index) => *index,
            Self::Two { low, high, boundary } => {
                if u128::from(fraction) < *boundary {
                    *low
                } else {
                    *high
                }
            }
            Self::Many(lots) => {
                let best = lots.iter().min_by(|one, other| one.time(fraction).total_cmp(&other.time(fraction)));
                best.map_or(0, |lot| lot.index)
            }
        }
    }
}

impl Lot {
    /// When its turn would come if it had a random clock of its own for each point, as fast as its share: the first one wins.
    fn time(&self, point: u64) -> f64 {
        // From (0, 1], so that the logarithm is finite.
        let uniform = ((mix(point ^ self.name) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -uniform.ln() / self.share
    }
}

/// The value of the first cookie of this name.
fn cookie<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().trim_matches('"'))
}

/// FNV-1a, then mixed so that every bit counts. Part of what clients and several proxies rely on: it must not change.
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}

/// The finalizer of SplitMix64: one to one, and every bit of the result depends on every bit given.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::routing::testing::Request;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn by_cookie(ttl: Option<u64>) -> StickyBy {
        StickyBy::Cookie { name: "serin".to_owned(), ttl: ttl.map(Duration::from_secs) }
    }

    fn sticky(by: &StickyBy, weights: &[(&str, u64)]) -> Sticky {
        let named: Vec<_> = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        Sticky::new(by, &named).unwrap()
    }

    /// Who gets a point.
    fn owner<'n>(weights: &[(&'n str, u64)], point: u64) -> &'n str {
        weights[sticky(&by_cookie(None), weights).at(point)].0
    }

    fn shares(weights: &[(&str, u64)]) -> Vec<f64> {
        let sticky = sticky(&by_cookie(None), weights);
        let mut counts = vec![0; weights.len()];
        for step in 0..100_000_u64 {
            counts[sticky.at(step * (u64::MAX / 100_000))] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / 100_000.0).collect()
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        for (weights, wanted) in [
            (&[("v1", 90), ("v2", 10)][..], &[0.9, 0.1][..]),
            (&[("v2", 1), ("v1", 3)], &[0.25, 0.75]),
            (&[("v1", 50), ("v2", 30), ("v3", 20)], &[0.5, 0.3, 0.2]),
            (&[("v1", 60), ("v2", 0), ("v3", 40)], &[0.6, 0.0, 0.4]),
            (&[("v1", 0), ("v2", 100)], &[0.0, 1.0]),
            (&[("v1", 1), ("v1", 1), ("v2", 2)], &[0.5, 0.0, 0.5]),
            (&[("v1", 0), ("v1", 1), ("v2", 1)], &[0.0, 0.5, 0.5]),
            (&[("v1", 0)], &[1.0]),
        ] {
            for (got, wanted) in shares(weights).iter().zip(wanted) {
                assert!((got - wanted).abs() < 0.006, "{weights:?}: {got} is not {wanted}");
            }
        }
    }

    #[test]
    fn without_weights_there_is_nothing_to_stick_to() {
        let none = |weights: &[u64]| {
            let named: Vec<_> = weights.iter().enumerate().map(|(at, weight)| (at.to_string(), *weight)).collect();
            Sticky::new(&StickyBy::SourceIp, &named).is_none()
        };
        assert!(none(&[]) && none(&[0, 0]) && none(&[0, 0, 0]));
    }

    #[test]
    fn the_cookie_holds_the_point_and_brings_the_client_back() {
        let at = |weights: &[(&str, u64)], request: &Request, fresh| {
            sticky(&by_cookie(Some(90)), weights).draw(&request.view(), PEER, fresh)
        };
        let split = [("v1", 90), ("v2", 10)];
        let first = at(&split, &Request::get("/"), u64::MAX - 1);
        let cookie = first.set_cookie.unwrap().to_str().unwrap().to_owned();
        assert_eq!(cookie, "serin=0.999999999999; Path=/; Max-Age=90; HttpOnly; SameSite=Lax");
        let again = Request::get("/").header("cookie", "a=b; serin=0.999999999999").header("cookie", "serin=0.1");
        assert_eq!(at(&split, &again, 0), Drawn { index: 1, point: 999_999_999_999, set_cookie: None });
        assert_eq!(at(&[("v2", 1), ("v1", 99)], &again, 0).index, 0);
        assert_eq!(at(&[("v2", 0), ("v1", 100)], &again, 0).index, 1, "everybody is back");
    }

    #[test]
    fn the_answer_to_a_new_client_is_what_its_cookie_will_say() {
        let split = sticky(&by_cookie(None), &[("v1", 2), ("v2", 1)]);
        for fresh in
            [0, u64::MAX / 3 * 2 - 1, u64::MAX / 3 * 2, u64::MAX / 3 * 2 + 1, u64::MAX / 3 * 2 + (1 << 25), u64::MAX]
        {
            let first = split.draw(&Request::get("/").view(), PEER, fresh);
            let cookie = first.set_cookie.unwrap();
            assert!(cookie.to_str().unwrap().ends_with("; Path=/; HttpOnly; SameSite=Lax"));
            let value = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
            let second = split.draw(&Request::get("/").header("cookie", &value).view(), PEER, 0);
            assert_eq!(second, Drawn { set_cookie: None, ..first });
        }
    }

    #[test]
    fn a_cookie_that_is_no_point_is_replaced() {
        let split = sticky(&by_cookie(None), &[("v1", 1), ("v2", 1)]);
        for bad in ["", "v2", "1.000000000000", "0.5", "0.1234567890123", "0.+12345678901", "0.99999999999x"] {
            let request = Request::get("/").header("cookie", &format!("serin={bad}"));
            assert!(split.draw(&request.view(), PEER, 0).set_cookie.is_some(), "{bad}");
        }
        let mut secure = Request::get("/");
        secure.scheme = "https".to_owned();
        let cookie = split.draw(&secure.view(), PEER, 0).set_cookie.unwrap();
        assert!(cookie.to_str().unwrap().ends_with("; Secure"));
    }

    #[test]
    fn headers_and_addresses_are_keys_of_their_own() {
        let weights = [("v1", 1), ("v2", 1)];
        let by_header = sticky(&StickyBy::Header("X-User".to_owned()), &weights);
        let user = |name: &str| Request::get("/").header("x-user", name);
        let of = |name: &str, fresh| by_header.draw(&user(name).view(), PEER, fresh).index;
        assert!((0..50).all(|user| of(&user.to_string(), 0) == of(&user.to_string(), u64::MAX)));
        assert!((0..50).any(|user| of(&user.to_string(), 0) != of("0", 0)));
        let unknown = |fresh| by_header.draw(&Request::get("/").view(), PEER, fresh);
        assert_eq!((unknown(0).index, unknown(u64::MAX).index, unknown(0).set_cookie), (0, 1, None));
        let by_address = sticky(&StickyBy::SourceIp, &weights);
        let from = |address: &str| by_address.draw(&Request::get("/").view(), address.parse().unwrap(), 0).index;
        assert!((0..50).all(|last| from(&format!("10.0.0.{last}")) == from(&format!("::ffff:10.0.0.{last}"))));
        assert!((0..50).any(|last| from(&format!("10.0.0.{last}")) != from("10.0.0.0")));
    }

    #[test]
    fn the_points_of_keys_never_change() {
        // Written down once: another value would send clients elsewhere after an upgrade.
        assert_eq!(Point::of(b"jason"), Point(663_410_945_599));
    }

    const NAMES: [&str; 5] = ["app|v1|80", "app|v2|80", "app|v3|80", "other||", "z"];

    fn listed(weights: &[u64]) -> Vec<(&'static str, u64)> {
        NAMES.iter().copied().zip(weights.iter().copied()).collect()
    }

    #[test]
    fn other_weights_move_only_whom_they_must() {
        let split = sticky(&by_cookie(None), &[("v1", 90), ("v2", 10)]);
        let raised = split.reweighted(&[70, 30]).unwrap();
        for step in 0..1000_u64 {
            let point = step * (u64::MAX / 1000);
            assert_eq!(raised.at(point), sticky(&by_cookie(None), &[("v1", 70), ("v2", 30)]).at(point));
        }
        assert!(split.reweighted(&[0, 0]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_share_that_grows_takes_and_gives_nothing(
            mut weights in prop::collection::vec(0u64..100, 2..6), more in 0u64..100, who in any::<prop::sample::Index>(), point in any::<u64>()
        ) {
            prop_assume!(weights.iter().sum::<u64>() > 0);
            let grown = who.index(weights.len());
            let before = owner(&listed(&weights), point);
            weights[grown] += more;
            let after = owner(&listed(&weights), point);
            prop_assert!(after == before || after == NAMES[grown], "{before} → {after}");
        }

        #[test]
        fn ten_to_thirty_moves_nobody_back(point in any::<u64>(), low in 0u64..=100, high in 0u64..=100) {
            let (low, high) = (low.min(high), low.max(high));
            if owner(&[("v1", 100 - low), ("v2", low)], point) == "v2" {
                prop_assert_eq!(owner(&[("v1", 100 - high), ("v2", high)], point), "v2");
            }
        }

        #[test]
        fn neither_order_nor_scale_moves_anybody(
            weights in prop::collection::vec(0u64..100, 1..6), factor in 1u64..1000, turn in 0usize..5, point in any::<u64>()
        ) {
            prop_assume!(weights.iter().sum::<u64>() > 0);
            let plain = listed(&weights);
            let mut other: Vec<_> = plain.iter().map(|(name, weight)| (*name, weight * factor)).collect();
            other.rotate_left(turn % weights.len());
            prop_assert_eq!(owner(&plain, point), owner(&other, point));
        }

        #[test]
        fn nobody_is_left_on_a_share_of_zero(mut weights in prop::collection::vec(0u64..100, 2..6), point in any::<u64>()) {
            weights[1] = 0;
            prop_assume!(weights.iter().sum::<u64>() > 0);
            let named = listed(&weights);
            let index = sticky(&by_cookie(None), &named).at(point);
            prop_assert!(named[index].1 > 0);
        }
    }
}

//! Choosing an endpoint by a key of the request, so that equal keys meet the same endpoint: Envoy's ring and Maglev tables.
//! Pure. Equal sets of endpoints give equal tables in every process.

use std::time::Duration;

/// What of a request is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The values of a header.
    Header(http::HeaderName),
    /// A cookie.
    Cookie(CookieKey),
    /// The address of the client.
    SourceIp,
    /// The first value of a query parameter.
    Query(String),
}

/// A cookie as a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieKey {
    /// Its name.
    pub name: String,
    /// Given: a request without it gets one, which lasts this long; 0 is until the browser is closed.
    pub ttl: Option<Duration>,
    /// `Path` of a cookie given out.
    pub path: Option<String>,
    /// More attributes of it, as they are written.
    pub attributes: Vec<(String, String)>,
}

/// The most points of a ring (Envoy's default is 8 million, of twice that size).
const LARGEST_RING: u64 = 1 << 20;

/// The hash of a key: the same in every process and version.
pub fn hash(key: &[u8]) -> u64 {
    let bytes = blake3::hash(key);
    bytes.as_bytes().iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

/// The next of a sequence of hashes (SplitMix64).
fn next(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Which endpoint a hash means, by the endpoint's index.
#[derive(Debug)]
pub(super) enum Table {
    /// Points on a ring, sorted: a hash means the next one.
    Ring(Vec<(u64, u32)>),
    /// Equal shares of all hashes.
    Maglev(Vec<u32>),
}

impl Table {
    /// A ring on which each endpoint has as many points as its weight asks for. Envoy gives a ring of the minimum size to all
    /// of them together; here it is the share of each, so that no other endpoint's points move when one comes or goes.
    pub(super) fn ring(endpoints: &[(&str, u32)], minimum: u32) -> Self {
        let divisor = endpoints.iter().fold(0, |divisor, (_, weight)| gcd(divisor, u64::from(*weight))).max(1);
        let units: u64 = endpoints.iter().map(|(_, weight)| u64::from(*weight) / divisor).sum();
        let points = |weight: u32| {
            let wanted = u128::from(u64::from(weight) / divisor) * u128::from(minimum.max(1));
            let room = u128::from(weight) * u128::from(LARGEST_RING) / u128::from(units * divisor).max(1);
            wanted.min(room).max(1)
        };
        let mut ring = Vec::new();
        for (index, (name, weight)) in (0..).zip(endpoints) {
            let mut at = hash(name.as_bytes());
            for _ in 0..points(*weight) {
                ring.push((at, index));
                at = next(at);
            }
        }
        ring.sort_unstable();
        Self::Ring(ring)
    }

    /// Google's Maglev table; `size` is prime.
    pub(super) fn maglev(endpoints: &[(&str, u32)], size: u32) -> Self {
        let size = u64::from(size.max(1));
        let largest = f64::from(endpoints.iter().map(|(_, weight)| *weight).max().unwrap_or(1));
        let mut builders: Vec<_> = endpoints
            .iter()
            .map(|(name, weight)| {
                let seed = hash(name.as_bytes());
                (next(seed) % size, next(next(seed)) % (size - 1).max(1) + 1, f64::from(*weight), 0.0)
            })
            .collect();
        const FREE: u32 = u32::MAX;
        let mut table = vec![FREE; size as usize];
        let mut left = if endpoints.is_empty() { 0 } else { size };
        let mut turn = 0.0;
        while left > 0 {
            turn += 1.0;
            for (index, (at, skip, weight, due)) in (0..).zip(&mut builders) {
                // A lighter endpoint takes fewer turns.
                if turn * *weight < *due {
                    continue;
                }
                *due += largest;
                while table[*at as usize] != FREE {
                    *at = (*at + *skip) % size;
                }
                table[*at as usize] = index;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Self::Maglev(table)
    }

    /// The endpoint of a hash, then those that stand in for it one after the other. Never ends, unless there is none at all.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let (start, length) = match self {
            Self::Ring(ring) => (ring.partition_point(|(point, _)| *point < hash), ring.len()),
            Self::Maglev(table) => (((u128::from(hash) * table.len() as u128) >> 64) as usize, table.len()),
        };
        let at = move |index: usize| match self {
            Self::Ring(ring) => ring[index].1 as usize,
            Self::Maglev(table) => table[index] as usize,
        };
        (0..length).cycle().skip(if length == 0 { 0 } else { start % length }).map(at)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    type Make = fn(&[(&str, u32)]) -> Table;

    const BOTH: [Make; 2] = [|endpoints| Table::ring(endpoints, 1024), |endpoints| Table::maglev(endpoints, 65_537)];

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.0.0.{n}:80")).collect()
    }

    fn equal(names: &[String]) -> Vec<(&str, u32)> {
        names.iter().map(|name| (name.as_str(), 1)).collect()
    }

    /// The names that keys get.
    fn chosen<'n>(endpoints: &[(&'n str, u32)], make: Make) -> Vec<&'n str> {
        let table = make(endpoints);
        (0..4_000_u64).map(|key| endpoints[table.from(hash(&key.to_le_bytes())).next().unwrap()].0).collect()
    }

    fn shares(chosen: &[&str]) -> HashMap<String, f64> {
        let mut shares = HashMap::new();
        chosen.iter().for_each(|name| *shares.entry((*name).to_owned()).or_default() += 1.0 / chosen.len() as f64);
        shares
    }

    #[test]
    fn a_hash_is_the_same_for_ever() {
        assert_eq!(hash(b""), 0xaf13_49b9_f5f9_a1a6);
        assert_eq!(hash(b"user-1"), hash(b"user-1"));
        assert_ne!(hash(b"user-1"), hash(b"user-2"));
    }

    #[test]
    fn shares_follow_the_weights() {
        for make in BOTH {
            let even = shares(&chosen(&equal(&names(5)), make));
            assert!(even.len() == 5 && even.values().all(|share| (0.15..0.25).contains(share)), "{even:?}");
            let weighted = shares(&chosen(&[("a", 3), ("b", 1)], make));
            assert!((0.7..0.8).contains(&weighted["a"]), "{weighted:?}");
        }
    }

    #[test]
    fn without_endpoints_there_is_none() {
        for make in BOTH {
            assert!(make(&[]).from(3).take(5).count() == 0 || matches!(make(&[]), Table::Maglev(_)));
        }
    }

    #[test]
    fn those_that_stand_in_are_all_of_them() {
        for make in BOTH {
            let names = names(4);
            let mut seen: Vec<usize> = make(&equal(&names)).from(u64::MAX).take(4_000).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn a_ring_stays_within_its_largest_size() {
        let Table::Ring(ring) = Table::ring(&[("a", u32::MAX), ("b", 1), ("c", 7)], 8_000_000) else { unreachable!() };
        assert!(ring.len() as u64 <= LARGEST_RING + 3, "{}", ring.len());
        assert!(ring.iter().any(|(_, index)| *index == 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn whoever_leaves_or_comes_moves_nobody_else(count in 2_usize..12, gone in 0_usize..12) {
            let all = names(count);
            let gone = gone % count;
            let mut rest = all.clone();
            rest.remove(gone);
            for (make, allowed) in BOTH.into_iter().zip([0.0, 0.05]) {
                let (before, after) = (chosen(&equal(&all), make), chosen(&equal(&rest), make));
                let moved = before.iter().zip(&after).filter(|(old, new)| **old != all[gone] && old != new).count();
                prop_assert!(moved as f64 <= allowed * 4_000.0, "{moved} moved of {count}");
            }
        }

        #[test]
        fn the_order_of_endpoints_does_not_matter_to_a_ring(count in 2_usize..12) {
            let names = names(count);
            let mut turned = equal(&names);
            turned.reverse();
            prop_assert_eq!(chosen(&equal(&names), BOTH[0]), chosen(&turned, BOTH[0]));
        }
    }
}

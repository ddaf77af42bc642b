//! Durations in JSON: seconds as a number, which people and `jq` read more easily than serde's pair of integers.
//!
//! Exact to the nanosecond below 52 days, which no release lasts.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    duration.as_secs_f64().serialize(serializer)
}

/// Refuses what is no duration: negative, or too large.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The same for `Option<Duration>`: `null` is none.
pub(super) mod option {
    use super::{Deserialize, Deserializer, Duration, Error, Serialize, Serializer};

    /// For `#[serde(with)]`.
    pub(in crate::rollout) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|duration| duration.as_secs_f64()).serialize(to)
    }

    /// Refuses what is no duration: negative, or too large.
    pub(in crate::rollout) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(from)?.map(Duration::try_from_secs_f64).transpose().map_err(D::Error::custom)
    }
}

/// The same for a list.
pub(super) mod list {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    /// For `#[serde(with)]`.
    pub(in crate::rollout) fn serialize<S: Serializer>(value: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(Duration::as_secs_f64))
    }

    /// Refuses what is no duration: negative, or too large.
    pub(in crate::rollout) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        let seconds = Vec::<f64>::deserialize(from)?;
        seconds.into_iter().map(|s| Duration::try_from_secs_f64(s).map_err(D::Error::custom)).collect()
    }
}

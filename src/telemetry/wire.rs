//! How counters are written as JSON, and read again by the commands that ask a running proxy.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::histogram::Distribution;
use super::record::Class;
use super::report::Codes;

/// The quantiles that are written out.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// `{"count", "p50", "p90", "p99", "p999", "cells": [[n, count], …]}`; quantiles in seconds, null without any duration. Cell n
/// begins at 2^(10 + n/32) ns; empty cells are left out.
impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Distribution", QUANTILES.len() + 2)?;
        object.serialize_field("count", &self.count())?;
        for (name, q) in QUANTILES {
            object.serialize_field(name, &self.quantile(q).map(|duration| duration.as_secs_f64()))?;
        }
        object.serialize_field("cells", &self.cells().collect::<Vec<_>>())?;
        object.end()
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            cells: Vec<(usize, u64)>,
        }
        let written = Written::deserialize(deserializer)?;
        Self::from_cells(&written.cells).ok_or_else(|| D::Error::custom("there is no such cell"))
    }
}

/// `{"1xx": n, …, "5xx": n, "other": n}`.
impl Serialize for Codes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Codes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written: BTreeMap<String, u64> = BTreeMap::deserialize(deserializer)?;
        Ok(Self(Class::ALL.map(|class| written.get(class.as_str()).copied().unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[test]
    fn a_distribution_is_read_as_it_was_written() {
        let cells = [(0, 1), (421, 98), (895, 1)];
        let distribution = Distribution::from_cells(&cells).unwrap();
        let written = to_value(&distribution).unwrap();
        assert_eq!((&written["count"], &written["cells"]), (&json!(100), &json!(cells)));
        // The middle of 2^(10 + 421/32) and the next cell, in ns.
        let middle = 2f64.powf(10.0 + 421.5 / 32.0) / 1e9;
        for quantile in ["p50", "p90", "p99"] {
            let found = written[quantile].as_f64().unwrap();
            assert!((found / middle - 1.0).abs() < 1e-5, "{quantile}: {found} for {middle}");
        }
        assert!(written["p999"].as_f64().unwrap() > 250.0);
        assert_eq!(from_value::<Distribution>(written).unwrap(), distribution);
        assert_eq!(to_value(Distribution::default()).unwrap()["p50"], json!(null));
        assert!(from_value::<Distribution>(json!({ "cells": [[896, 1]] })).is_err());
        assert!(from_value::<Distribution>(json!({ "cells": [[1, -1]] })).is_err());
    }

    #[test]
    fn codes_are_read_as_they_were_written() {
        let written = json!({ "1xx": 0, "2xx": 7, "3xx": 0, "4xx": 2, "5xx": 1, "other": 3 });
        let codes: Codes = from_value(written.clone()).unwrap();
        assert_eq!(codes.0, [0, 7, 0, 2, 1, 3]);
        assert_eq!(to_value(codes).unwrap(), written);
    }
}

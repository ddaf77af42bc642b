//! Counters for the tests of the views.

use serde_json::{from_value, json};

use crate::telemetry::VersionSummary;

/// A version of `shop` with so many requests, of which so many failed, all on the rule `a/0`. The others took 8.9 ms (or 9.1 ms
/// and more where `slower` cells further on the scale).
pub(in crate::cli) fn counted(version: &str, requests: u64, errors: u64, slower: usize) -> VersionSummary {
    let share = json!({ "declared": 0.5, "effective": 0.5, "got": null });
    through("a/0", version, (requests, errors, slower), &share)
}

/// The same on another rule, with these shares.
pub(in crate::cli) fn through(
    route: &str,
    version: &str,
    (requests, errors, slower): (u64, u64, usize),
    shares: &serde_json::Value,
) -> VersionSummary {
    let tally = json!({
        "requests": requests,
        "errors": errors,
        "codes": { "2xx": requests - errors, "5xx": errors },
        "latency": { "cells": [[419 + slower, requests - errors]] },
    });
    let mut route = json!({ "route": route });
    let mut whole = json!({
        "app": "shop", "version": version, "configured": true, "inFlight": 0, "bytesIn": 0, "bytesOut": requests * 100,
        "flags": if errors > 0 { json!({ "UT": errors }) } else { json!({}) },
    });
    for part in [&tally, shares] {
        route.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    }
    whole.as_object_mut().unwrap().extend(tally.as_object().unwrap().clone());
    whole["routes"] = json!([route]);
    from_value(whole).unwrap()
}

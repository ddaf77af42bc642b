//! A release in the middle of its way, as the admin port sends it.

use serde_json::{Value, json};

/// At its second of four steps.
pub(in crate::cli) fn release() -> Value {
    let step = |weight: u32, state: &str, left: Value| {
        json!({
            "weight": weight, "state": state, "minDuration": 60.0, "left": left, "minRequests": 300,
            "approve": false, "soak": false, "adopted": false,
        })
    };
    let test = |test: &str, ln: f64, bad: [u64; 2]| {
        let limit = 200f64.ln();
        json!({
            "test": test, "lnRatio": ln + 1.0, "lnGuard": ln, "lnLimit": limit, "p": 0.25, "progress": ln / limit,
            "stableBad": bad[0], "canaryBad": bad[1],
        })
    };
    let arm = |version: &str, wanted: f64, got: f64, numbers: [u64; 4], p99: Value| {
        json!({
            "version": version, "wanted": wanted, "got": got, "routed": numbers[0], "finished": numbers[1],
            "errors": numbers[2], "slow": numbers[3], "p99": p99,
        })
    };
    let running = |step: usize, phase: &str| json!({ "name": "running", "step": step, "phase": phase });
    let event = |sequence: u64, at: f64, (from, to): (Value, Value), reason: &str, sentence: &str| {
        json!({
            "sequence": sequence, "attempt": 1, "at": at, "from": from, "to": to, "reason": reason,
            "weight_before": null, "weight": 10, "sentence": sentence,
            "numbers": {
                "weight": 10, "ln_limit": 5.3, "tests": [], "stable": numbers(), "canary": numbers(),
            },
        })
    };
    json!({
        "name": "product-service", "virtualService": "product-service-vs", "route": "canary", "mode": "run",
        "state": running(1, "gathering"), "attempt": 1, "elapsed": 132.4, "weight": 30,
        "waits": "gathering: 180 of 300 canary requests, 23 s of bake time left",
        "steps": [
            step(10, "done", json!(null)), step(30, "current", json!(22.4)), step(50, "next", json!(null)),
            step(100, "next", json!(null)),
        ],
        "tests": [test("error", 1.5, [1, 3]), test("slow", 0.0, [0, 0])],
        "stable": arm("v1", 0.7, 0.6964, [422, 420, 1, 0], json!({ "above": 0.005, "up_to": 0.0075 })),
        "canary": arm("v2", 0.3, 0.3036, [184, 180, 3, 0], json!(null)),
        "gates": [],
        "events": [
            event(1, 0.0, (json!({ "name": "idle" }), running(0, "warming")), "started",
                "started product-service: v2 gets 10 %"),
            event(2, 71.2, (running(0, "gathering"), running(1, "warming")), "passed",
                "advanced product-service to 30 %: v2 failed 0 of 702 requests at 10 %, v1 1 of 6318; evidence against v2 1:1, a \
                 rollback needs 200:1"),
        ],
        "declaredWeight": 0, "effectiveWeight": 30, "since": "2026-11-25T12:03:11.250Z", "trouble": null,
        "canaryRate": 30.1, "stableRate": 69.8,
    })
}

fn numbers() -> Value {
    json!({ "routed": 1, "finished": 1, "errors": 0, "slow": 0, "p99": null })
}

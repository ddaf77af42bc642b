//! What a webhook is told, field by field: docs/api.md. Written out here and not derived, because programs of others read it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::rollout::{ArmNumbers, Numbers, Plan, TestNumbers, Transition};

/// The field with the name of the event.
const EVENT: &str = "event";

/// The body about one move of a release, made when it happens; none for moves of which no webhook is told. `release` is the
/// name by which people call it, [`Order::name`](crate::control::rollout::Order::name).
#[must_use]
pub fn message(release: &str, plan: &Plan, transition: &Transition) -> Option<Value> {
    Some(json!({
        EVENT: transition.webhook()?,
        "release": release,
        "sentence": transition.sentence,
        "time": format!("{:.3}", Timestamp::now()),
        "virtual_service": plan.virtual_service,
        "route": plan.route,
        "stable": plan.stable,
        "canary": plan.canary,
        "mode": plan.mode,
        "attempt": transition.attempt,
        "sequence": transition.sequence,
        "elapsed": transition.at.as_secs_f64(),
        "from": transition.from,
        "to": transition.to,
        "reason": transition.reason.name(),
        "weight_before": transition.weight_before,
        "weight": transition.weight,
        "numbers": numbers(&transition.numbers),
    }))
}

/// The event of a body; empty if it is none of [`message`].
pub(super) fn event(body: &Value) -> &str {
    body[EVENT].as_str().unwrap_or_default()
}

fn numbers(numbers: &Numbers) -> Value {
    json!({
        "weight": numbers.weight,
        "ln_limit": numbers.ln_limit,
        "tests": numbers.tests.iter().map(test).collect::<Vec<_>>(),
        "stable": arm(&numbers.stable),
        "canary": arm(&numbers.canary),
    })
}

fn test(numbers: &TestNumbers) -> Value {
    json!({
        "test": numbers.test,
        "ln_ratio": numbers.ln_ratio,
        "ln_guard": numbers.ln_guard,
        "ln_acceptance": numbers.ln_acceptance,
        "p": numbers.p,
        "stable_bad": numbers.stable_bad,
        "canary_bad": numbers.canary_bad,
        "canary_requests": numbers.canary_requests,
    })
}

fn arm(numbers: &ArmNumbers) -> Value {
    let p99 = numbers.p99.map(|interval| {
        json!({ "above": interval.above.as_secs_f64(), "up_to": interval.up_to.as_ref().map(Duration::as_secs_f64) })
    });
    json!({
        "routed": numbers.routed,
        "finished": numbers.finished,
        "errors": numbers.errors,
        "slow": numbers.slow,
        "p99": p99,
    })
}

#[cfg(test)]
mod tests {
    use crate::rollout::{Interval, Phase, Reason, State, Step, Test, testing};

    use super::*;

    fn plan() -> Plan {
        Plan {
            name: "product-service".to_owned(),
            virtual_service: "product-service-vs".to_owned(),
            steps: vec![Step::new(10)],
            ..testing::plan()
        }
    }

    fn rolled_back() -> Transition {
        let test = TestNumbers {
            test: Test::Error,
            ln_ratio: 4.75,
            ln_guard: 5.5,
            p: 0.25,
            stable_bad: 4,
            canary_bad: 5,
            canary_requests: 61,
            ln_acceptance: f64::NEG_INFINITY,
        };
        let p99 = Interval { above: Duration::from_millis(250), up_to: None };
        let canary = ArmNumbers { routed: 61, finished: 60, errors: 5, slow: 1, p99: Some(p99) };
        let stable = ArmNumbers { routed: 549, finished: 549, errors: 4, ..ArmNumbers::default() };
        Transition {
            sequence: 4,
            attempt: 1,
            at: Duration::from_millis(93_500),
            from: State::Running { step: 0, phase: Phase::Gathering },
            to: State::RolledBack,
            reason: Reason::Errors,
            weight_before: Some(10),
            weight: Some(0),
            numbers: Numbers { weight: 10, ln_limit: 5.25, tests: vec![test], stable, canary },
            sentence: "rolled back product-service at 10 %".to_owned(),
        }
    }

    /// The same object is in docs/api.md.
    #[test]
    fn the_body_is_as_documented() {
        let mut body = message("shop/product-service", &plan(), &rolled_back()).unwrap();
        let time = body["time"].take();
        time.as_str().unwrap().parse::<Timestamp>().unwrap();
        assert_eq!(event(&body), "rolledBack");
        let page = include_str!("../../../../docs/api.md");
        let (_, section) = page.split_once("## Webhooks").unwrap();
        let (_, example) = section.split_once("```json").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let mut documented: Value = serde_json::from_str(example).unwrap();
        documented["time"].take().as_str().unwrap().parse::<Timestamp>().unwrap();
        assert_eq!(body, documented);
    }

    #[test]
    fn a_move_of_which_nobody_is_told_has_no_body() {
        let (from, to) =
            (State::Running { step: 0, phase: Phase::Warming }, State::Running { step: 0, phase: Phase::Gathering });
        let warmed = Transition { from, to, reason: Reason::WarmedUp, weight: Some(10), ..rolled_back() };
        assert_eq!(message("a", &plan(), &warmed), None);
    }

    #[test]
    fn weights_that_are_as_declared_are_null() {
        let started = Transition {
            from: State::Idle,
            to: State::Running { step: 0, phase: Phase::Warming },
            reason: Reason::Started,
            weight_before: None,
            weight: Some(10),
            ..rolled_back()
        };
        let body = message("a", &plan(), &started).unwrap();
        assert_eq!(body["weight_before"], Value::Null);
        assert_eq!(body["to"], json!({ "name": "running", "step": 0, "phase": "warming" }));
        assert_eq!((event(&body), event(&json!({}))), ("started", ""));
    }
}

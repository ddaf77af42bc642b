//! The releases as Prometheus reads them.

use std::f64::consts::LN_10;

use prometheus::proto::{Metric, MetricFamily};

use super::sets::label;
use super::{counter, family, gauge, labelled};
use crate::telemetry::limit::{LABEL_SETS, OTHER};
use crate::telemetry::names;
use crate::telemetry::rollout::{Move, ROLLOUT_STATES, RolloutGauges, Rollouts};

/// All families of `serin_rollout_…`. Gauges have no meaningful sum: beyond the cap they are left out.
pub(super) fn families(rollouts: &Rollouts) -> [MetricFamily; 6] {
    let each = |name, series: fn(&RolloutGauges) -> Vec<Metric>| {
        family(name, rollouts.gauges.iter().flat_map(series).take(LABEL_SETS).collect())
    };
    [
        each(names::ROLLOUT_STATE, |rollout| {
            let one = |state| one(rollout, &[("state", state)], f64::from(u8::from(state == rollout.state)));
            ROLLOUT_STATES.into_iter().map(one).collect()
        }),
        each(names::ROLLOUT_STEP, |rollout| vec![one(rollout, &[], rollout.step as f64)]),
        each(names::ROLLOUT_WEIGHT, |rollout| {
            let weights = [("declared", rollout.declared), ("effective", rollout.effective)];
            weights.into_iter().map(|(source, share)| one(rollout, &[("source", source)], share)).collect()
        }),
        each(names::ROLLOUT_EVIDENCE, |rollout| {
            let pairs = rollout.evidence.iter().flat_map(|evidence| {
                [("stable", evidence.ln_ratio), ("floor", evidence.ln_guard)].map(|pair| (evidence.test, pair))
            });
            let one = |(test, (against, ln))| one(rollout, &[("test", test), ("against", against)], ln / LN_10);
            pairs.map(one).collect()
        }),
        each(names::ROLLOUT_EVIDENCE_LIMIT, |rollout| {
            let tests = rollout.evidence.iter();
            tests.map(|evidence| one(rollout, &[("test", evidence.test)], evidence.ln_limit / LN_10)).collect()
        }),
        family(names::ROLLOUT_TRANSITIONS, transitions(rollouts)),
    ]
}

fn transitions(rollouts: &Rollouts) -> Vec<Metric> {
    let own = rollouts.moves.iter().map(|((name, words), count)| (&**name, *words, *count));
    let folded = (rollouts.folded > 0).then_some((OTHER, [OTHER; 3], rollouts.folded));
    let metric = |(name, [from, to, reason], count): (&str, Move, u64)| {
        let labels = [("rollout", name), ("from", from), ("to", to), ("reason", reason)];
        labelled(counter(count), labels.map(|(name, value)| label(name, value)).into())
    };
    own.chain(folded).map(metric).collect()
}

fn one(rollout: &RolloutGauges, own: &[(&str, &str)], value: f64) -> Metric {
    let mut labels = vec![label("rollout", &rollout.name)];
    labels.extend(own.iter().map(|(name, value)| label(name, value)));
    labelled(gauge(value), labels)
}

//! A release as the metrics show it.

use super::Status;
use crate::rollout::{Test, TestView};
use crate::telemetry::{EvidenceGauges, RolloutGauges};

impl Status {
    /// What [`crate::telemetry::RolloutMetrics::set`] is told of it.
    pub fn gauges(&self) -> RolloutGauges {
        RolloutGauges {
            name: self.view.name.clone(),
            state: self.view.state.name(),
            step: self.view.state.step().map_or(0, |step| step + 1),
            declared: f64::from(self.declared_weight) / 100.0,
            effective: f64::from(self.effective_weight) / 100.0,
            evidence: self.view.tests.iter().map(evidence).collect(),
        }
    }
}

fn evidence(view: &TestView) -> EvidenceGauges {
    let test = match view.test {
        Test::Error => "error",
        Test::Slow => "slow",
    };
    let TestView { ln_ratio, ln_guard, ln_limit, .. } = *view;
    EvidenceGauges { test, ln_ratio, ln_guard, ln_limit }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rollout::{Phase, Plan, Rollout, State, Step};
    use crate::telemetry::ROLLOUT_STATES;

    fn status(state: State) -> Status {
        let plan = Plan {
            name: "shop".to_owned(),
            virtual_service: "shop-vs".to_owned(),
            route: "shop-vs/0".to_owned(),
            stable: "v1".to_owned(),
            canary: "v2".to_owned(),
            steps: vec![Step::new(10), Step::new(50)],
            analysis: crate::rollout::Analysis::default(),
            mode: crate::rollout::Mode::Run,
            latency_edges: Vec::new(),
        };
        let mut view = Rollout::new(plan).unwrap().view(std::time::Duration::ZERO, 0.0);
        view.state = state;
        view.tests = vec![TestView {
            test: Test::Slow,
            ln_ratio: 1.5,
            ln_guard: -0.5,
            ln_limit: 5.3,
            p: 0.2,
            progress: 0.0,
            stable_bad: 4,
            canary_bad: 5,
        }];
        Status {
            view,
            declared_weight: 0,
            effective_weight: 30,
            since: None,
            trouble: None,
            canary_rate: 0.0,
            stable_rate: 0.0,
        }
    }

    #[test]
    fn every_state_is_one_that_the_metrics_know() {
        let phases = [Phase::Warming, Phase::Gathering, Phase::Held, Phase::AwaitingApproval];
        let mut states: Vec<_> = phases.map(|phase| State::Running { step: 0, phase }).into();
        states.extend([State::Idle, State::Paused { step: 0, phase: Phase::Held }]);
        states.extend([State::Promoted, State::RolledBack, State::Aborted]);
        let shown: BTreeSet<_> = states.into_iter().map(|state| status(state).gauges().state).collect();
        assert_eq!(shown, BTreeSet::from(ROLLOUT_STATES));
    }

    #[test]
    fn steps_count_from_one_and_shares_are_of_one() {
        let gauges = status(State::Paused { step: 1, phase: Phase::Held }).gauges();
        assert_eq!((gauges.name.as_str(), gauges.step), ("shop", 2));
        assert_eq!((gauges.declared, gauges.effective), (0.0, 0.3));
        let evidence = EvidenceGauges { test: "slow", ln_ratio: 1.5, ln_guard: -0.5, ln_limit: 5.3 };
        assert_eq!(gauges.evidence, [evidence]);
        assert_eq!(status(State::Idle).gauges().step, 0);
    }
}

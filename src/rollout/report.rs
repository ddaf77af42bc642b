//! What is left of a release: every step, both histograms, every decision with its numbers, and enough to compute each of them again.

use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::evidence::{Tape, WhatIf, p99};
use super::input::{Interval, Test};
use super::machine::{Reason, Rollout, State, Tally, Transition, Window, words};
use super::plan::{Analysis, Mode, Plan};
use super::seconds;

/// How far a number that was computed again may be from the one that was decided on.
const ROUNDING: f64 = 1e-6;

/// The report of one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked.
    pub plan: Plan,
    /// From 1; one more with each retry.
    pub attempt: u32,
    /// Where it stood.
    pub state: State,
    /// Running time of the release by then.
    #[serde(with = "seconds")]
    pub elapsed: Duration,
    /// What was counted, step by step.
    pub windows: Vec<Window>,
    /// Every move, oldest first.
    pub decisions: Vec<Transition>,
    /// What happened to each test.
    pub tapes: Vec<TestTape>,
    /// After a promotion: the lines that the operator can remove, as the caller knows them.
    pub remove: Vec<String>,
}

/// What happened to one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestTape {
    /// Which test.
    pub test: Test,
    /// Its history.
    pub tape: Tape,
}

/// A decision that does not follow from what the report holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("decision {sequence} ({test:?}): {what}")]
pub struct Disagreement {
    /// The transition's number.
    pub sequence: u64,
    /// Whose evidence.
    pub test: Test,
    /// What is wrong.
    pub what: String,
}

impl Report {
    /// Of the current attempt.
    #[must_use]
    pub fn of(rollout: &Rollout) -> Self {
        let tape =
            |evidence: &super::evidence::Evidence| TestTape { test: evidence.test(), tape: evidence.tape().clone() };
        let attempt = rollout.attempt();
        Self {
            plan: rollout.plan().clone(),
            attempt,
            state: rollout.state(),
            elapsed: rollout.elapsed(),
            windows: rollout.windows().to_vec(),
            decisions: rollout.history().iter().filter(|moved| moved.attempt == attempt).cloned().collect(),
            tapes: rollout.evidence().iter().map(tape).collect(),
            remove: Vec::new(),
        }
    }

    /// Computes every decision again from the tapes: its evidence, and that it is what the evidence asked for. Decisions whose
    /// part of a tape was left out are skipped.
    #[must_use]
    pub fn check(&self) -> Vec<Disagreement> {
        self.tapes.iter().flat_map(|TestTape { test, tape }| self.check_test(*test, tape)).collect()
    }

    fn check_test(&self, test: Test, tape: &Tape) -> Vec<Disagreement> {
        let mut wrong = Vec::new();
        let replayed = tape.replay();
        for decision in &self.decisions {
            let numbers = decision.numbers.tests.iter().find(|numbers| numbers.test == test);
            let again = replayed.iter().find(|again| again.sequence == decision.sequence);
            let (Some(numbers), Some(again)) = (numbers, again) else { continue };
            let mut disagree = |what: String| wrong.push(Disagreement { sequence: decision.sequence, test, what });
            for (name, was, is) in
                [("ratio", numbers.ln_ratio, again.ln_ratio), ("guard", numbers.ln_guard, again.ln_guard)]
            {
                if (was - is).abs() > ROUNDING * was.abs().max(1.0) {
                    disagree(format!("ln E of the {name} was {was}, computed again {is}"));
                }
            }
            let is_alone = self.plan.mode == Mode::Run && decision.numbers.weight == 100;
            let limit = decision.numbers.ln_limit;
            let against = again.ln_guard >= limit && (is_alone || again.ln_ratio >= limit);
            let blamed = match decision.reason {
                Reason::Errors => Some(Test::Error),
                Reason::Latency => Some(Test::Slow),
                _ => None,
            };
            if blamed == Some(test) && !against {
                disagree("the evidence does not ask for a rollback".to_owned());
            }
        }
        wrong
    }

    /// What would have come of the same bad events under another analysis; none for a test whose tape was shortened.
    #[must_use]
    pub fn what_if(&self, analysis: &Analysis) -> Vec<(Test, Option<WhatIf>)> {
        let floor = |test| if test == Test::Error { analysis.max_error_rate } else { super::machine::SLOW_FLOOR };
        let tries = self.tapes.iter().map(|TestTape { test, tape }| {
            (*test, tape.what_if(analysis.tolerance, floor(*test), analysis.ln_limit()))
        });
        tries.collect()
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Plan { name, virtual_service, route, stable, canary, analysis, .. } = &self.plan;
        writeln!(text, "release {name}: {stable} to {canary} on {virtual_service}/{route}, attempt {}", self.attempt)?;
        writeln!(text, "{} after {}", self.state.name(), words::duration(self.elapsed))?;
        let alpha = words::percent(analysis.false_rollback_rate);
        let floor = words::percent(analysis.max_error_rate);
        write!(text, "false rollback rate {alpha}, tolerance {}, floor {floor}", analysis.tolerance)?;
        match analysis.slower_than {
            Some(tau) => writeln!(text, ", slow above {} ms", words::millis(tau))?,
            None => writeln!(text, ", latency not judged")?,
        }
        for window in &self.windows {
            self.write_window(text, window)?;
        }
        writeln!(text, "\ndecisions")?;
        for decision in &self.decisions {
            writeln!(text, "  {:>9}  {}", clock(decision.at), decision.sentence)?;
        }
        if !self.remove.is_empty() {
            writeln!(text, "\n{stable} is retired; to remove:")?;
            self.remove.iter().try_for_each(|line| writeln!(text, "  {line}"))?;
        }
        Ok(())
    }

    fn write_window(&self, text: &mut String, window: &Window) -> std::fmt::Result {
        let until = window.left.map_or_else(|| "now".to_owned(), clock);
        writeln!(text, "\nstep {} %, {} to {until}", window.weight, clock(window.entered))?;
        writeln!(text, "  {:<12} {:>9} {:>9} {:>7} {:>7}  p99", "version", "requests", "finished", "failed", "slow")?;
        for (version, tally) in [(&self.plan.stable, &window.stable), (&self.plan.canary, &window.canary)] {
            let Tally { routed, finished, errors, slow, latency } = tally;
            let p99 = p99(&self.plan.latency_edges, latency).map_or_else(|| "-".to_owned(), words::interval);
            writeln!(text, "  {version:<12} {routed:>9} {finished:>9} {errors:>7} {slow:>7}  {p99}")?;
        }
        self.write_histograms(text, window)
    }

    fn write_histograms(&self, text: &mut String, window: &Window) -> std::fmt::Result {
        let count = |tally: &Tally, bucket: usize| tally.latency.get(bucket).copied().unwrap_or(0);
        let edges = &self.plan.latency_edges;
        let edge = |bucket: usize| edges.get(bucket).copied();
        let mut is_first = true;
        for bucket in 0..=edges.len() {
            let (stable, canary) = (count(&window.stable, bucket), count(&window.canary, bucket));
            if stable + canary == 0 {
                continue;
            }
            if is_first {
                writeln!(text, "  {:<16} {:>9} {:>9}", "latency", self.plan.stable, self.plan.canary)?;
                is_first = false;
            }
            let above = bucket.checked_sub(1).and_then(edge).unwrap_or_default();
            let between = words::interval(Interval { above, up_to: edge(bucket) });
            writeln!(text, "  {between:<16} {stable:>9} {canary:>9}")?;
        }
        Ok(())
    }
}

/// Running time as `h:mm:ss`.
fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::super::input::{Arm, Bad, Count, Totals};
    use super::super::machine::Verb;
    use super::super::plan::Step;
    use super::*;

    /// A release that gets from 10 to 50 % and is rolled back there.
    fn rolled_back() -> Rollout {
        let edges = [100, 300].into_iter().map(Duration::from_millis).collect();
        let plan = Plan {
            name: "shop".to_owned(),
            virtual_service: "shop-vs".to_owned(),
            route: "main".to_owned(),
            stable: "v1".to_owned(),
            canary: "v2".to_owned(),
            steps: [10, 50, 100].into_iter().map(Step::new).collect(),
            analysis: Analysis { slower_than: Some(Duration::from_millis(300)), ..Analysis::default() },
            mode: Mode::Run,
            latency_edges: edges,
        };
        let mut rollout = Rollout::new(plan).unwrap();
        rollout.apply(Verb::Start, Duration::ZERO).unwrap();
        let mut n = 0;
        for tick in 1..4_000 {
            let at = Duration::from_millis(tick * 100);
            n += 9;
            let count = |n: u64| Count { routed: n, finished: n, latency: vec![n - n / 50, n / 50, 0] };
            rollout.totals(&Totals { stable: count(n), canary: count(n) }, at);
            let share = f64::from(rollout.weight().unwrap()) / 100.0;
            if tick % 70 == 0 || (tick > 1_000 && tick % 2 == 0) {
                let arm = if tick > 1_000 && tick % 6 > 0 { Arm::Canary } else { Arm::Stable };
                rollout.bad(&Bad { at, arm, test: Test::Error, share, key: None });
            }
            rollout.decide(at);
        }
        assert_eq!(rollout.state(), State::RolledBack);
        rollout
    }

    #[test]
    fn a_report_survives_json_and_its_decisions_follow_from_it() {
        let report = Report::of(&rolled_back());
        let json = serde_json::to_string_pretty(&report).unwrap();
        let mut read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read, report);
        assert_eq!(read.check(), []);
        assert_eq!(read.windows.len(), 2);
        read.decisions.last_mut().unwrap().numbers.tests[0].ln_ratio += 0.1;
        assert!(read.check()[0].to_string().contains("ln E of the ratio was"), "{:?}", read.check());
        read.decisions[1].reason = Reason::Errors;
        assert!(read.check().iter().any(|wrong| wrong.what.contains("does not ask for a rollback")));
    }

    #[test]
    fn other_limits_can_be_tried_on_it() {
        let report = Report::of(&rolled_back());
        let at = |analysis: &Analysis| report.what_if(analysis)[0].1.unwrap().against;
        let rolled_back_at = report.decisions.last().unwrap().at;
        assert!(at(&report.plan.analysis).unwrap() <= rolled_back_at);
        let laxer = Analysis { tolerance: 20.0, ..report.plan.analysis.clone() };
        assert_eq!(at(&laxer), None);
    }

    #[test]
    fn its_text_has_every_step_and_decision() {
        let mut report = Report::of(&rolled_back());
        report.remove = vec!["vs.yaml:12-14: destination v1".to_owned()];
        let text = report.text();
        for wanted in [
            "release shop: v1 to v2 on shop-vs/main, attempt 1",
            "rolledBack after",
            "false rollback rate 1 %, tolerance 1.2, floor 1 %, slow above 300 ms",
            "step 10 %, 0:00:00 to 0:01:10",
            "step 50 %, 0:01:10 to",
            "(100, 300] ms",
            "    0:00:00  started shop at 10 %",
            "rolled back shop at 50 %: v2 took",
            "vs.yaml:12-14: destination v1",
        ] {
            assert!(text.contains(wanted), "no `{wanted}` in\n{text}");
        }
    }
}

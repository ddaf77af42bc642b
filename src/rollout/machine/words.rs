//! What a release says: one sentence for each move, one line for what it waits for.

use std::time::Duration;

use super::decide::Missing;
use super::{Numbers, Phase, Reason, Rollout, State, TestNumbers, Transition};
use crate::rollout::evidence::LN_ACCEPTED;
use crate::rollout::input::{GateState, Interval, Test};
use crate::rollout::plan::Mode;

/// A percentage without needless digits: `10 %`, `0.5 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent >= 10.0 || (percent - percent.round()).abs() < 1e-9 { 0 } else { 2 };
    let text = format!("{percent:.digits$}");
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{short} %")
}

/// A duration in one unit, or two: `7 s`, `4 min`, `1 h 5 min`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().ceil() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Odds of evidence: `107:1`.
#[must_use]
pub fn odds(ln_e: f64) -> String {
    let digits = if ln_e < 1.0 { 2 } else { 0 };
    if ln_e < 1e6_f64.ln() {
        format!("{:.digits$}:1", ln_e.exp())
    } else {
        format!("10^{:.0}:1", ln_e / std::f64::consts::LN_10)
    }
}

/// Where a p99 lies: `(200, 400] ms`.
#[must_use]
pub fn interval(interval: Interval) -> String {
    let above = millis(interval.above);
    interval.up_to.map_or_else(|| format!("above {above} ms"), |up_to| format!("({above}, {}] ms", millis(up_to)))
}

/// Milliseconds without needless digits.
#[must_use]
pub fn millis(duration: Duration) -> String {
    let text = format!("{:.3}", duration.as_secs_f64() * 1e3);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of requests a second, short.
fn rate(rate: f64) -> String {
    if rate >= 10.0 { format!("{rate:.0} rps") } else { format!("{rate:.1} rps") }
}

impl Rollout {
    /// The sentence of a move that has just been made.
    pub(super) fn sentence(&self, moved: &Transition) -> String {
        let name = &self.plan.name;
        let now = moved.to.step().map_or(0, |step| self.plan.steps[step].weight);
        let before = moved.numbers.weight;
        let by_hand = if moved.reason == Reason::FileEdited { "the file was edited" } else { "by hand" };
        match (moved.reason, moved.to) {
            (Reason::Started, _) => format!("started {name} at {now} %"),
            (Reason::Retried, _) => format!("retried {name} at {now} %, attempt {}", moved.attempt),
            (Reason::WarmedUp, _) => format!("{name} is warm at {now} %: counting from here"),
            (Reason::Waiting | Reason::Ready | Reason::BothFail, _) => {
                let waits = self.waits(self.elapsed, 0.0);
                format!("{name} at {now} %: {waits}")
            }
            (Reason::Paused, _) => format!("paused {name} at {now} %"),
            (Reason::Resumed, _) => format!("resumed {name} at {now} %"),
            (Reason::Errors | Reason::Latency | Reason::Inconclusive, State::RolledBack) => self.why_back(moved),
            (_, State::Aborted) if before == 0 => format!("aborted {name} before it began"),
            (_, State::Aborted) => format!("aborted {name} at {before} %: {by_hand}"),
            (Reason::FileEdited, State::Idle) => format!("{name} is over: the file's weights are in force"),
            (Reason::FileEdited, _) => format!("{name} is at {now} % now: the file was edited"),
            (Reason::Restarted, State::Idle) => format!("{name} had not begun when the process ended: it is idle"),
            (Reason::Restarted, _) => {
                format!("{name} goes on at {now} % after a restart: the step's window begins anew")
            }
            (_, State::Promoted) => self.why_promoted(moved),
            _ => format!("{} {name} to {now} %: {}", self.done("advanced"), self.why_on(moved)),
        }
    }

    /// In observe mode nothing was done.
    fn done(&self, participle: &str) -> String {
        if self.plan.mode == Mode::Observe { format!("would have {participle}") } else { participle.to_owned() }
    }

    fn why_back(&self, moved: &Transition) -> String {
        let numbers = &moved.numbers;
        let head = format!("{} {} at {} %", self.done("rolled back"), self.plan.name, numbers.weight);
        let wanted = if moved.reason == Reason::Latency { Test::Slow } else { Test::Error };
        let Some(test) = numbers.tests.iter().find(|test| test.test == wanted) else { return head };
        let tail = self.p99s(numbers);
        if moved.reason == Reason::Inconclusive {
            let after = duration(self.plan.analysis.max_step_duration);
            return format!("{head}: undecided after {after}; {}{tail}", self.counts(numbers));
        }
        let (weaker, what) = if self.is_alone_at(numbers) {
            (test.ln_guard, self.share_of_its_own(test))
        } else {
            (test.ln_ratio.min(test.ln_guard), self.share_of_all(test))
        };
        format!("{head}: {what}; evidence {}, needed {}{tail}", odds(weaker), odds(numbers.ln_limit))
    }

    fn is_alone_at(&self, numbers: &Numbers) -> bool {
        self.plan.mode == Mode::Run && numbers.weight == 100
    }

    /// `v2 took 5 of 9 failures while it had 10 % of the traffic`.
    fn share_of_all(&self, test: &TestNumbers) -> String {
        let shares = self.evidence.iter().find(|evidence| evidence.test() == test.test).and_then(|it| it.shares());
        let share = match shares {
            Some((low, high)) if low < high => format!("{} to {}", percent(low), percent(high)),
            Some((low, _)) => percent(low),
            None => "its share".to_owned(),
        };
        let all = test.canary_bad + test.stable_bad;
        format!(
            "{} took {} of {all} {} while it had {share} of the traffic",
            self.plan.canary,
            test.canary_bad,
            self.bad_ones(test.test)
        )
    }

    /// `v2 has 20 failures in 1000 requests, more than 1 % allows`.
    fn share_of_its_own(&self, test: &TestNumbers) -> String {
        let window = self.windows.last().map(|window| &window.canary);
        let (bad, all) = window.map_or((0, 0), |canary| (canary.bad(test.test), canary.judged(test.test)));
        let floor = self
            .evidence
            .iter()
            .find(|evidence| evidence.test() == test.test)
            .map_or(self.floor(test.test), |evidence| evidence.engine().floor());
        format!(
            "{} has {bad} {} in {all} requests, more than {} allows",
            self.plan.canary,
            self.bad_ones(test.test),
            percent(floor)
        )
    }

    fn bad_ones(&self, test: Test) -> String {
        match (test, self.plan.analysis.slower_than) {
            (Test::Error, _) => "failures".to_owned(),
            (Test::Slow, tau) => format!("slow requests (over {} ms)", millis(tau.unwrap_or_default())),
        }
    }

    fn p99s(&self, numbers: &Numbers) -> String {
        let versions = [(&self.plan.canary, numbers.canary.p99), (&self.plan.stable, numbers.stable.p99)];
        let known: Vec<String> = versions
            .into_iter()
            .filter_map(|(version, p99)| p99.map(|p99| (version, interval(p99))))
            .enumerate()
            .map(|(nth, (version, p99))| match (nth, p99.starts_with('(')) {
                (0, true) => format!("p99 {version} in {p99}"),
                (0, false) => format!("p99 {version} {p99}"),
                (_, true) => format!("{version} in {p99}"),
                (_, false) => format!("{version} {p99}"),
            })
            .collect();
        if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
    }

    fn why_promoted(&self, moved: &Transition) -> String {
        let head = format!("{} {}", self.done("promoted"), self.plan.name);
        let (canary, stable) = (&self.plan.canary, &self.plan.stable);
        format!("{head}: {}; {canary} has all the traffic, {stable} is retired", self.why_on(moved))
    }

    fn why_on(&self, moved: &Transition) -> String {
        let counts = self.counts(&moved.numbers);
        match moved.reason {
            Reason::PromotedByHand => format!("by hand, while {counts}"),
            Reason::Approved => format!("approved, and {counts}"),
            Reason::Inconclusive => {
                format!("undecided after {}, and {counts}", duration(self.plan.analysis.max_step_duration))
            }
            _ => counts,
        }
    }

    /// `v2 failed 1 of 312 requests at 10 %, v1 14 of 2801`.
    fn counts(&self, numbers: &Numbers) -> String {
        let Numbers { weight, canary, stable, .. } = numbers;
        let (v2, v1) = (&self.plan.canary, &self.plan.stable);
        let first = format!("{v2} failed {} of {} requests at {weight} %", canary.errors, canary.finished);
        if stable.finished == 0 { first } else { format!("{first}, {v1} {} of {}", stable.errors, stable.finished) }
    }

    /// What it does or waits for, as one line: `held: 180 of 300 canary requests, about 7 min left at 0.3 rps`.
    /// `rate` is canary requests a second.
    #[must_use]
    pub fn waits(&self, at: Duration, rate: f64) -> String {
        let plan = &self.plan;
        let (phase, step) = match self.state {
            State::Running { phase, step } => (phase, step),
            State::Paused { step, .. } => return format!("paused at {} %: `resume` goes on", plan.steps[step].weight),
            State::Idle => return "idle: the declared weights are in force".to_owned(),
            State::Promoted => return format!("promoted: {} is retired", plan.stable),
            State::RolledBack => return format!("rolled back: {} has no traffic", plan.canary),
            State::Aborted => return format!("aborted: {} has no traffic", plan.canary),
        };
        // Time has gone on since the last call that moved it.
        let later = at.saturating_sub(self.elapsed);
        let mut waits: Vec<String> = Vec::new();
        for missing in self.missing() {
            let text = self.wait_for(&missing, later, rate);
            if !text.is_empty() && !waits.contains(&text) {
                waits.push(text);
            }
        }
        if waits.is_empty() && self.needs_approval(step) {
            waits.push("`approve` takes the next step".to_owned());
        }
        let doing = match phase {
            Phase::Warming => "warming up",
            Phase::Gathering => "gathering",
            Phase::Held => "held",
            Phase::AwaitingApproval => "awaiting approval",
        };
        if waits.is_empty() { doing.to_owned() } else { format!("{doing}: {}", waits.join("; ")) }
    }

    fn wait_for(&self, missing: &Missing, later: Duration, rate: f64) -> String {
        let v2 = &self.plan.canary;
        match missing {
            Missing::WarmUp(left) | Missing::Time(left) if *left > later => {
                format!("{} left", duration(left.saturating_sub(later)))
            }
            Missing::WarmUp(_) => "the first count of requests".to_owned(),
            Missing::Time(_) => String::new(),
            Missing::Requests(have, wanted) => {
                format!("{have} of {wanted} canary requests{}", at_rate(wanted - have, rate))
            }
            Missing::Suspicion(test, ln_e) => {
                format!("{v2} may be worse by its {}: evidence {}, 5:1 at most", self.bad_ones(*test), odds(*ln_e))
            }
            Missing::Acceptance(test) => self.wait_for_acceptance(*test, rate),
            Missing::BothFail(test) => {
                let Some(window) = self.windows.last() else { return String::new() };
                let share = |tally: &super::Tally| percent(tally.bad(*test) as f64 / tally.judged(*test).max(1) as f64);
                let (v1, floor) = (&self.plan.stable, percent(self.floor(*test)));
                let (one, other) = (share(&window.stable), share(&window.canary));
                let what = self.bad_ones(*test);
                format!(
                    "both versions have more than {floor} {what} ({v1} {one}, {v2} {other}), so it is not {v2}'s fault"
                )
            }
            Missing::Gate(gate) => {
                let state = if gate.state == GateState::Outside { "is out of bounds" } else { "has no value" };
                let value = gate.value.map(|value| format!(" at {value}")).unwrap_or_default();
                format!("gate `{}` {state}{value} ({})", gate.name, gate.detail)
            }
            Missing::Blocked(reason) => reason.clone(),
        }
    }

    /// How many clean requests would still convince.
    fn wait_for_acceptance(&self, test: Test, rate: f64) -> String {
        let Some(window) = self.windows.last() else { return String::new() };
        let floor = self.floor(test);
        let for_each = crate::rollout::evidence::ln_acceptance(0, 1, floor);
        let more = ((LN_ACCEPTED - self.ln_acceptance(test)) / for_each).ceil().max(1.0) as u64;
        let (bad, all) = (window.canary.bad(test), window.canary.judged(test));
        format!(
            "{bad} {} in {all} canary requests, {more} more without would do{}",
            self.bad_ones(test),
            at_rate(more, rate)
        )
    }
}

/// `, about 7 min left at 0.3 rps`.
fn at_rate(requests: u64, per_second: f64) -> String {
    let seconds = requests as f64 / per_second;
    match Duration::try_from_secs_f64(seconds) {
        Ok(left) if per_second > 0.0 && seconds < 1e7 => {
            format!(", about {} left at {}", duration(left), rate(per_second))
        }
        _ => String::new(),
    }
}

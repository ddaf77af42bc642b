//! One release on this process: the pure machine, the trials that feed it, and the weight that is really in force.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::gates::Gates;
use super::state_file::Kept;
use super::{Order, Status};
use crate::rollout::report::Report;
use crate::rollout::{self, Bad, Mode, Plan, Rollout, State, Test, Totals, Transition, View, Watermark};
use crate::snapshot::Overlay;
use crate::telemetry::{Arm, Counts, Metrics, Mishap, Trial, Wrong};

/// How long the requests of a step that is over are waited for.
const LAST_REQUESTS: Duration = Duration::from_secs(60);
/// A request that read the snapshot before a step began counts in the one before, but no later than this.
const STRAGGLERS: Duration = Duration::from_secs(1);
/// Over how long rates are taken.
const RATE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Release {
    /// As the configuration in force has it.
    pub order: Order,
    /// The machine.
    pub rollout: Rollout,
    /// The canary's percentage in force; none: the declared one.
    pub in_force: Option<u32>,
    /// Since when that is not the file's (RFC 3339).
    pub since: Option<String>,
    /// What is wrong with keeping its state.
    pub trouble: Option<String>,
    clock: Option<(Duration, Instant)>,
    gates: Option<Gates>,
    trials: Trials,
    watermark: Watermark,
    rates: VecDeque<(Instant, u64, u64)>,
}

/// The trial of this step and those before it.
#[derive(Default)]
struct Trials {
    current: Option<Arc<Trial>>,
    /// With when they were over.
    past: Vec<(Arc<Trial>, Instant)>,
    /// What came of those before these.
    settled: Totals,
}

impl Release {
    /// Not begun; or as it was kept.
    pub(super) fn new(order: Order, rollout: Rollout, since: Option<String>) -> Self {
        let watermark = Watermark::new(rollout.plan().analysis.slower_than);
        let in_force = rollout.weight();
        Self {
            order,
            rollout,
            in_force,
            since,
            trouble: None,
            clock: None,
            gates: None,
            trials: Trials::default(),
            watermark,
            rates: VecDeque::new(),
        }
    }

    /// Takes another machine: a release that begins.
    pub(super) fn begin(&mut self, rollout: Rollout) {
        self.watermark = Watermark::new(rollout.plan().analysis.slower_than);
        self.rollout = rollout;
        self.clock = None;
    }

    /// The running time. It stands still while nothing is on its way.
    pub(super) fn at(&mut self, now: Instant) -> Duration {
        if !self.rollout.state().is_active() {
            self.clock = None;
            return self.rollout.elapsed();
        }
        let (base, since) = *self.clock.get_or_insert((self.rollout.elapsed(), now));
        base + now.saturating_duration_since(since)
    }

    fn time_of(&self, moment: Instant) -> Duration {
        let Some((base, since)) = self.clock else { return self.rollout.elapsed() };
        match moment.checked_duration_since(since) {
            Some(after) => base + after,
            None => base.saturating_sub(since - moment),
        }
    }

    /// Hands the machine what has happened, and takes what it decides.
    pub(super) fn judge(&mut self, now: Instant) -> Vec<Transition> {
        let at = self.at(now);
        if !self.rollout.state().is_active() {
            self.gates = None;
            return Vec::new();
        }
        let open = self.gather(now);
        let totals = self.trials.totals();
        self.note_rates(now, &totals);
        self.watch_gates();
        self.rollout.totals(&totals, at);
        let mut moves = Vec::new();
        for bad in self.watermark.release(at, open) {
            self.rollout.bad(&bad);
            moves.extend(self.rollout.decide(at));
        }
        moves.extend(self.rollout.decide(at));
        moves
    }

    /// Asks the gates while it is on its way.
    fn watch_gates(&mut self) {
        if self.order.gates.is_empty() {
            return;
        }
        let gates = self.gates.get_or_insert_with(|| Gates::start(self.order.gates.clone()));
        self.rollout.gates(gates.states());
    }

    /// Collects what went wrong. When the oldest request that may still turn bad began; none if nothing is under way.
    fn gather(&mut self, now: Instant) -> Option<Duration> {
        let mut oldest = now;
        let silent = self.trials.silent(now);
        for trial in self.trials.all().cloned().collect::<Vec<_>>() {
            let look = trial.look(now);
            oldest = oldest.min(look.settled);
            for mishap in look.mishaps {
                let bad = self.bad(&mishap, trial.share());
                self.watermark.hold(bad);
            }
        }
        self.trials.let_go(&silent);
        (oldest < now).then(|| self.time_of(oldest))
    }

    fn bad(&self, mishap: &Mishap, share: f64) -> Bad {
        let arm = match mishap.arm {
            Arm::Stable => rollout::Arm::Stable,
            Arm::Canary => rollout::Arm::Canary,
        };
        let test = match mishap.wrong {
            Wrong::Error => Test::Error,
            Wrong::Slow => Test::Slow,
        };
        Bad { at: self.time_of(mishap.begun), arm, test, share, key: mishap.key }
    }

    /// Whether something bad waits for older requests.
    pub(super) fn is_waiting(&self) -> bool {
        !self.watermark.is_empty()
    }

    /// Puts the weight that the machine wants in force, in a step of its own. The overlay has to be published after it.
    pub(super) fn put_in_force(&mut self, now: Instant, metrics: &Metrics, bell: &Arc<Notify>) {
        self.in_force = self.rollout.weight();
        self.since = self.in_force.filter(|weight| *weight != self.order.declared_percent()).map(|_| {
            self.since.take().unwrap_or_else(|| jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        });
        self.open_trial(now, metrics, bell);
        self.rollout.applied(self.in_force);
    }

    /// Counts from now on what requests bring at the share in force, as long as the release goes on.
    pub(super) fn open_trial(&mut self, now: Instant, metrics: &Metrics, bell: &Arc<Notify>) {
        self.trials.past.extend(self.trials.current.take().map(|trial| (trial, now)));
        if self.rollout.state().is_active() {
            let share = f64::from(self.effective_percent()) / 100.0;
            let slower_than = self.rollout.plan().analysis.slower_than;
            self.trials.current = Some(metrics.trial(share, slower_than, Arc::clone(bell)));
        }
    }

    /// Whether requests are counted at the share in force.
    pub(super) fn is_counting(&self) -> bool {
        self.trials.current.is_some() == self.rollout.state().is_active()
    }

    /// The canary's percentage in force.
    pub(super) fn effective_percent(&self) -> u32 {
        self.in_force.unwrap_or_else(|| self.order.declared_percent())
    }

    /// Whether the machine wants more for the canary than is in force.
    pub(super) fn wants_more(&self) -> bool {
        let wanted = self.rollout.weight().unwrap_or_else(|| self.order.declared_percent());
        wanted > self.effective_percent()
    }

    /// What is put over its rule; none while the file alone decides.
    pub(super) fn overlay(&self) -> Option<Overlay> {
        if self.in_force.is_none() && self.trials.current.is_none() {
            return None;
        }
        let Order { rule, stable, canary, shield, .. } = &self.order;
        Some(Overlay {
            namespace: rule.namespace.clone(),
            virtual_service: rule.virtual_service.clone(),
            rule: rule.number,
            stable: *stable,
            canary: *canary,
            weight: self.in_force,
            trial: self.trials.current.clone(),
            shield: *shield && self.rollout.plan().mode == Mode::Run,
        })
    }

    /// What a restart needs.
    pub(super) fn kept(&self) -> Kept {
        Kept::new(self.order.rule.clone(), self.order.declared.clone(), self.since.clone(), self.rollout.clone())
    }

    /// What it has done so far, in full.
    pub(super) fn report(&self) -> Report {
        let mut report = Report::of(&self.rollout);
        if self.rollout.state() == State::Promoted {
            let Plan { virtual_service, route, stable, .. } = self.rollout.plan();
            report.remove = vec![
                format!(
                    "VirtualService `{virtual_service}`: the destination with subset `{stable}` of route `{route}`"
                ),
                format!("DestinationRule: the subset `{stable}`, if no other route names it, and its endpoints"),
            ];
        }
        report
    }

    /// Its picture.
    pub(super) fn status(&mut self, now: Instant) -> Status {
        let at = self.at(now);
        let (stable_rate, canary_rate) = self.rates(now);
        let view: View = self.rollout.view(at, canary_rate);
        Status {
            view,
            declared_weight: self.order.declared_percent(),
            effective_weight: self.effective_percent(),
            since: self.since.clone(),
            trouble: self.trouble.clone(),
            canary_rate,
            stable_rate,
        }
    }

    fn note_rates(&mut self, now: Instant, totals: &Totals) {
        let due = self.rates.back().is_none_or(|(last, ..)| now.duration_since(*last) >= Duration::from_secs(1));
        if due {
            self.rates.push_back((now, totals.stable.routed, totals.canary.routed));
        }
        while self.rates.len() > 2 && self.rates.front().is_some_and(|(first, ..)| now.duration_since(*first) > RATE) {
            self.rates.pop_front();
        }
    }

    /// Counted requests a second lately, stable and canary.
    fn rates(&self, now: Instant) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.rates.front(), self.rates.back()) else { return (0.0, 0.0) };
        let fresh = self.rollout.state().is_active() && now.duration_since(last.0) < RATE;
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        if !fresh || seconds <= 0.0 {
            return (0.0, 0.0);
        }
        let rate = |then: u64, now: u64| now.saturating_sub(then) as f64 / seconds;
        (rate(first.1, last.1), rate(first.2, last.2))
    }
}

impl Trials {
    fn all(&self) -> impl Iterator<Item = &Arc<Trial>> {
        self.past.iter().map(|(trial, _)| trial).chain(&self.current)
    }

    /// Everything that was counted in this process.
    fn totals(&self) -> Totals {
        let mut sum = self.settled.clone();
        self.all().for_each(|trial| add(&mut sum, trial));
        sum
    }

    /// The past trials that will have nothing more to say once they are looked at.
    fn silent(&self, now: Instant) -> Vec<Arc<Trial>> {
        let silent = self.past.iter().filter(|(trial, over)| {
            let since = now.saturating_duration_since(*over);
            since > LAST_REQUESTS || since > STRAGGLERS && trial.is_quiet()
        });
        silent.map(|(trial, _)| Arc::clone(trial)).collect()
    }

    /// Forgets trials, and keeps what they counted.
    fn let_go(&mut self, silent: &[Arc<Trial>]) {
        silent.iter().for_each(|trial| add(&mut self.settled, trial));
        self.past.retain(|(trial, _)| !silent.iter().any(|gone| Arc::ptr_eq(gone, trial)));
    }
}

fn add(sum: &mut Totals, trial: &Trial) {
    for (sum, arm) in [(&mut sum.stable, Arm::Stable), (&mut sum.canary, Arm::Canary)] {
        let Counts { routed, requests, latency, .. } = trial.counts(arm);
        sum.routed += routed;
        sum.finished += requests;
        sum.latency.resize(latency.len().max(sum.latency.len()), 0);
        sum.latency.iter_mut().zip(latency).for_each(|(sum, more)| *sum += more);
    }
}

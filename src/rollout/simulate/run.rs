//! One release from start to end, driven as the proxy drives it: counters and bad events as they come, a tick each 100 ms.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::Rng;
use serde::Serialize;

use super::traffic::{Recorded, Traffic};
use crate::rollout::input::{Arm, Bad, Gate, GateState, Test, Totals};
use crate::rollout::machine::{Phase, Rollout, State, Transition, Verb};
use crate::rollout::plan::{InvalidPlan, Mode, Plan};
use crate::rollout::watermark::Watermark;

/// Between two decisions while requests come.
const TICK: Duration = Duration::from_millis(100);
/// Between two decisions while none come.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// How one release ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Where it stood at the end.
    pub state: State,
    /// When that was.
    #[serde(with = "crate::rollout::seconds")]
    pub at: Duration,
    /// All requests until then.
    pub requests: u64,
    /// Those that were counted: not in a warm-up.
    pub counted: u64,
    /// Requests that the canary got.
    pub canary_requests: u64,
    /// Of these, the failed ones: what the release cost.
    pub canary_failures: u64,
    /// What it would have waited for next; empty where it is over.
    pub waits: String,
    /// Every move.
    pub transitions: Vec<Transition>,
}

impl Outcome {
    /// Before the first request.
    pub(super) fn nothing() -> Self {
        Self {
            state: State::Idle,
            at: Duration::ZERO,
            requests: 0,
            counted: 0,
            canary_requests: 0,
            canary_failures: 0,
            waits: String::new(),
            transitions: Vec::new(),
        }
    }
}

/// Runs one release against made-up traffic. Approvals are given at once, and gates are inside their bounds.
///
/// # Errors
/// The plan is none.
pub fn run(plan: &Plan, traffic: &Traffic, random: &mut impl Rng) -> Result<Outcome, InvalidPlan> {
    let mut simulation = Simulation::new(plan.clone())?;
    simulation.start();
    let mut last = Duration::ZERO;
    while !simulation.is_over() && last < traffic.longest {
        let request = traffic.next(last, simulation.share(traffic.declared), random);
        last = request.at.min(traffic.longest);
        simulation.advance(last);
        // The weight may have moved before it arrived; then the coin is flipped again at the moment that counts.
        let share = simulation.share(traffic.declared);
        let again = (share - request.share).abs() > f64::EPSILON;
        let request =
            if again { Recorded { at: request.at, ..traffic.next(request.at, share, random) } } else { request };
        if !simulation.is_over() && request.at <= traffic.longest {
            simulation.arrive(&request);
        }
    }
    Ok(simulation.finish())
}

/// Runs one release against traffic that was written down, in order of time. The versions were drawn with the shares written
/// down, so the plan only observes.
///
/// # Errors
/// The plan is none.
pub fn replay(plan: &Plan, requests: impl IntoIterator<Item = Recorded>) -> Result<Outcome, InvalidPlan> {
    let mut simulation = Simulation::new(Plan { mode: Mode::Observe, ..plan.clone() })?;
    simulation.start();
    for request in requests {
        simulation.advance(request.at);
        if simulation.is_over() {
            break;
        }
        simulation.arrive(&request);
    }
    let settled = simulation.now + crate::rollout::watermark::LONGEST_WAIT;
    simulation.advance(settled);
    Ok(simulation.finish())
}

/// What happens to a request after it was routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    GetsSlow,
    Ends { bad: bool, latency: Duration },
}

/// When, which request, what.
type Happening = Reverse<(Duration, u64, Happens)>;

struct Simulation {
    rollout: Rollout,
    watermark: Watermark,
    totals: Totals,
    now: Duration,
    next_tick: Duration,
    is_quiet: bool,
    to_come: BinaryHeap<Happening>,
    /// Requests by number from `first_open`; none: it has ended.
    open: VecDeque<Option<Recorded>>,
    first_open: u64,
    outcome: Outcome,
}

impl Simulation {
    fn new(plan: Plan) -> Result<Self, InvalidPlan> {
        let watermark = Watermark::new(plan.analysis.slower_than);
        let mut totals = Totals::default();
        totals.stable.latency = vec![0; plan.latency_edges.len() + 1];
        totals.canary.latency = vec![0; plan.latency_edges.len() + 1];
        let inside = |name: &String| Gate {
            name: name.clone(),
            state: GateState::Inside,
            value: None,
            detail: "simulated".to_owned(),
        };
        let gates = plan.analysis.gates.iter().map(inside).collect();
        let mut rollout = Rollout::new(plan)?;
        rollout.gates(gates);
        Ok(Self {
            rollout,
            watermark,
            totals,
            now: Duration::ZERO,
            next_tick: Duration::ZERO,
            is_quiet: true,
            to_come: BinaryHeap::new(),
            open: VecDeque::new(),
            first_open: 0,
            outcome: Outcome::nothing(),
        })
    }

    fn start(&mut self) {
        // A new release can always be started.
        let moved = self.rollout.apply(Verb::Start, Duration::ZERO).unwrap_or_default();
        self.moved(moved);
    }

    fn is_over(&self) -> bool {
        self.rollout.state().is_over()
    }

    fn share(&self, declared: f64) -> f64 {
        self.rollout.weight().map_or(declared, |weight| f64::from(weight) / 100.0)
    }

    /// A request is routed now.
    fn arrive(&mut self, request: &Recorded) {
        let number = self.first_open + self.open.len() as u64;
        let count = match request.version {
            Arm::Stable => &mut self.totals.stable,
            Arm::Canary => &mut self.totals.canary,
        };
        count.routed += 1;
        self.outcome.requests += 1;
        self.outcome.canary_requests += u64::from(request.version == Arm::Canary);
        let Recorded { at, bad, latency, .. } = *request;
        if let Some(tau) = self.rollout.plan().analysis.slower_than.filter(|tau| latency > *tau) {
            self.to_come.push(Reverse((at + tau, number, Happens::GetsSlow)));
        }
        self.to_come.push(Reverse((at.saturating_add(latency), number, Happens::Ends { bad, latency })));
        self.open.push_back(Some(*request));
        self.is_quiet = false;
    }

    /// Lets everything happen until this moment.
    fn advance(&mut self, until: Duration) {
        while !self.is_over() {
            let happens = self.to_come.peek().map(|Reverse((at, ..))| *at).filter(|at| *at <= until);
            match happens {
                Some(at) if at <= self.next_tick => {
                    self.now = at;
                    if let Some(Reverse((_, number, happens))) = self.to_come.pop() {
                        self.happen(number, happens);
                    }
                }
                _ if self.next_tick <= until => {
                    self.now = self.next_tick;
                    self.next_tick += if self.is_quiet { IDLE_TICK } else { TICK };
                    self.is_quiet = true;
                    self.look();
                }
                _ => break,
            }
        }
        if !self.is_over() {
            self.now = self.now.max(until);
        }
    }

    fn happen(&mut self, number: u64, happens: Happens) {
        let place = (number - self.first_open) as usize;
        let Some(request) = self.open.get(place).copied().flatten() else { return };
        self.is_quiet = false;
        let bad = match happens {
            Happens::GetsSlow => Some(Test::Slow),
            Happens::Ends { bad, latency } => {
                self.end(place, request.version, bad, latency);
                bad.then_some(Test::Error)
            }
        };
        if let Some(test) = bad {
            let Recorded { at, version: arm, share, key, .. } = request;
            self.watermark.hold(Bad { at, arm, test, share, key });
            self.look();
        }
    }

    fn end(&mut self, place: usize, version: Arm, bad: bool, latency: Duration) {
        let bucket = self.rollout.plan().latency_edges.partition_point(|edge| *edge < latency);
        let count = match version {
            Arm::Stable => &mut self.totals.stable,
            Arm::Canary => &mut self.totals.canary,
        };
        count.finished += 1;
        count.latency[bucket] += 1;
        self.outcome.canary_failures += u64::from(bad && version == Arm::Canary);
        self.open[place] = None;
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.first_open += 1;
        }
    }

    /// What the driver does on each tick and on each bad event.
    fn look(&mut self) {
        self.rollout.totals(&self.totals, self.now);
        let oldest_open = self.open.front().copied().flatten().map(|request| request.at);
        for bad in self.watermark.release(self.now, oldest_open) {
            self.rollout.bad(&bad);
        }
        let moved = self.rollout.decide(self.now);
        self.moved(moved);
        if let State::Running { phase: Phase::AwaitingApproval, .. } = self.rollout.state() {
            let moved = self.rollout.apply(Verb::Approve, self.now).unwrap_or_default();
            self.moved(moved);
        }
    }

    fn moved(&mut self, moved: Vec<Transition>) {
        self.rollout.applied(self.rollout.weight());
        self.outcome.transitions.extend(moved);
    }

    fn finish(mut self) -> Outcome {
        let windows = self.rollout.windows().iter();
        self.outcome.counted = windows.map(|window| window.stable.routed + window.canary.routed).sum();
        self.outcome.state = self.rollout.state();
        self.outcome.at = self.now;
        if !self.is_over() {
            let rate = self.outcome.canary_requests as f64 / self.now.as_secs_f64().max(1.0);
            self.outcome.waits = self.rollout.waits(self.now, rate);
        }
        self.outcome
    }
}

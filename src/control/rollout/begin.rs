//! How a release comes to be, starts, changes with its file, and goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::release::Release;
use super::state_file::{Kept, StateDir, Unusable};
use super::threshold::{Baseline, freeze};
use super::{Latency, Order};
use crate::rollout::{Plan, Refused, Rollout, State, Transition, Verb};
use crate::telemetry::{DestinationMetrics, Distribution};

/// How long the answers of each stable version took lately, with where that is counted.
#[derive(Debug, Default)]
pub(super) struct Baselines(BTreeMap<String, (Baseline, Arc<DestinationMetrics>)>);

impl Baselines {
    /// Whether it is time to look at a stable version again.
    pub(super) fn is_due(&self, name: &str, now: Instant) -> bool {
        self.0.get(name).is_none_or(|(baseline, _)| baseline.is_due(now))
    }

    /// Takes note of what a stable version does.
    pub(super) fn look(&mut self, name: &str, now: Instant, stable: &Arc<DestinationMetrics>) {
        let baseline = self.0.remove(name).map(|(baseline, _)| baseline);
        let mut baseline = baseline.unwrap_or_default();
        baseline.look(now, stable.upstream_latency());
        self.0.insert(name.to_owned(), (baseline, Arc::clone(stable)));
    }

    /// What came of the last minutes.
    pub(super) fn recent(&self, name: &str) -> Distribution {
        self.0.get(name).map_or_else(Distribution::default, |(baseline, all)| baseline.recent(&all.upstream_latency()))
    }
}

/// Whether two orders are of the same release: the same versions of the same rule.
pub(super) fn is_same(one: &Order, other: &Order) -> bool {
    one.rule == other.rule && one.plan.stable == other.plan.stable && one.plan.canary == other.plan.canary
}

/// A release that the configuration names for the first time in this process: as it was kept, or not begun.
pub(super) fn resumed(order: Order, folder: Option<&StateDir>) -> (Release, Vec<Transition>) {
    let name = order.name.clone();
    let kept = folder.map_or(Ok(None), |folder| folder.load(&name));
    match kept {
        Ok(Some(kept)) if is_kept_for(&order, &kept) => resume(order, kept),
        Ok(Some(_)) => {
            tracing::warn!("release {name}: the kept state is of another rule or other versions");
            put_aside(&name, folder);
            (fresh(order), Vec::new())
        }
        Ok(None) => (fresh(order), Vec::new()),
        Err(error) => unreadable(order, folder, &error),
    }
}

fn is_kept_for(order: &Order, kept: &Kept) -> bool {
    let plan = kept.rollout.plan();
    kept.rule == order.rule && plan.stable == order.plan.stable && plan.canary == order.plan.canary
}

fn fresh(order: Order) -> Release {
    let rollout = idle(order.plan.clone());
    Release::new(order, rollout, None)
}

fn idle(plan: Plan) -> Rollout {
    Rollout::new(plan).expect("a valid configuration makes valid plans")
}

fn resume(order: Order, kept: Kept) -> (Release, Vec<Transition>) {
    let Kept { declared, since, mut rollout, .. } = kept;
    let mut moves = rollout.restarted();
    if declared != order.declared {
        moves.extend(rollout.edited(order.declared_percent(), rollout.elapsed()));
    }
    if rollout.state() == State::Idle {
        rollout = idle(order.plan.clone());
    }
    tracing::info!("release {}: goes on where it was: {}", order.name, rollout.state().name());
    (Release::new(order, rollout, since), moves)
}

/// Nothing is known of what was: the canary gets nothing.
fn unreadable(order: Order, folder: Option<&StateDir>, error: &Unusable) -> (Release, Vec<Transition>) {
    tracing::error!("release {}: the kept state cannot be used: {error}; the canary gets no traffic", order.name);
    put_aside(&order.name, folder);
    let mut release = fresh(order);
    let moves = release.rollout.apply(Verb::Abort, Duration::ZERO).unwrap_or_default();
    (release, moves)
}

fn put_aside(name: &str, folder: Option<&StateDir>) {
    match folder.map(|folder| folder.put_aside(name)) {
        Some(Ok(aside)) => tracing::warn!("release {name}: it is now {}", aside.display()),
        Some(Err(error)) => tracing::error!("release {name}: it cannot be put aside: {error}"),
        None => {}
    }
}

/// The configuration was read anew and still has the release.
pub(super) fn reordered(mut release: Release, order: Order, now: Instant) -> (Release, Vec<Transition>) {
    let edited = release.order.declared != order.declared;
    let percent = order.declared_percent();
    if release.rollout.state().is_active() && planned(&release.order) != planned(&order) {
        tracing::info!("release {}: its new plan holds from its next start on", order.name);
    }
    release.order = order;
    let at = release.at(now);
    let moves = if edited { release.rollout.edited(percent, at) } else { Vec::new() };
    if release.rollout.state() == State::Idle {
        release.begin(idle(release.order.plan.clone()));
    }
    (release, moves)
}

fn planned(order: &Order) -> (&Plan, Latency) {
    (&order.plan, order.latency)
}

/// The configuration does not have the release any more: its rule is the file's alone.
pub(super) fn abandon(name: &str, gone: &mut Release, folder: Option<&StateDir>, now: Instant) {
    if gone.rollout.state().is_active() {
        tracing::warn!(
            "release {name}: its Canary is gone from the configuration; the weights of the file are in force"
        );
    }
    let at = gone.at(now);
    let _ = gone.rollout.apply(Verb::Abort, at);
    if let Some(Err(error)) = folder.filter(|_| !gone.rollout.history().is_empty()).map(|f| f.save(name, &gone.kept()))
    {
        tracing::error!("release {name}: the state cannot be saved: {error}");
    }
}

/// A mistake of this program in judging a release must not leave its canary in front of clients.
pub(super) fn broken(name: &str, release: &mut Release, now: Instant) -> Vec<Transition> {
    tracing::error!("release {name}: serin failed in judging it; the canary gets no traffic. Please report this");
    release.begin(idle(release.order.plan.clone()));
    let at = release.at(now);
    release.rollout.apply(Verb::Abort, at).unwrap_or_default()
}

/// A person's word, or that of the canary's first endpoint.
///
/// # Errors
/// It makes no sense in this state.
pub(super) fn said(
    release: &mut Release,
    verb: Verb,
    (now, edges): (Instant, &[f64]),
    recent: Distribution,
) -> Result<Vec<Transition>, Refused> {
    let begins = match verb {
        Verb::Start => release.rollout.state() == State::Idle,
        Verb::Retry => release.rollout.state().is_over() && !is_as_planned(release),
        _ => false,
    };
    if !begins {
        let at = release.at(now);
        return release.rollout.apply(verb, at);
    }
    let edges: Vec<Duration> = edges.iter().map(|edge| Duration::from_secs_f64(*edge)).collect();
    let mut plan = Plan { latency_edges: edges, ..release.order.plan.clone() };
    plan.analysis.slower_than = freeze(release.order.latency, &recent, &plan.latency_edges).unwrap_or_else(|why| {
        tracing::warn!("release {}: latency is not judged: {why}", release.order.name);
        None
    });
    release.begin(idle(plan));
    release.rollout.apply(Verb::Start, Duration::ZERO)
}

/// Whether the plan of a release that is over is still the configuration's, so that it can be tried again as it was.
fn is_as_planned(release: &Release) -> bool {
    let was = release.rollout.plan();
    let mut wanted = Plan { latency_edges: was.latency_edges.clone(), ..release.order.plan.clone() };
    wanted.analysis.slower_than = was.analysis.slower_than;
    *was == wanted
}

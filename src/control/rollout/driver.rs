//! The thread of the releases: takes what is asked, judges on every bad event and each 100 ms, and publishes snapshots with the
//! weights that follow. It is the only one that publishes, so that a new configuration and a step never lose one another.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep};

use super::begin::{self, Baselines};
use super::keeper::{Keeper, Saved};
use super::release::Release;
use super::state_file::StateDir;
use super::webhook::{self, DeliveryId, Webhooks};
use super::{CommandError, Meant, Order, Start, Status};
use crate::failpoint;
use crate::rollout::{State, Transition, Verb};
use crate::snapshot::{Overlay, Snapshot, Snapshots, active_routes};
use crate::telemetry::Metrics;

/// How often a release is judged when nothing happens.
const TICK: Duration = Duration::from_millis(100);
/// How often, while something bad waits for older requests to end.
const WAITING: Duration = Duration::from_millis(5);
/// How often anything is looked at while no release is on its way.
const IDLE: Duration = Duration::from_secs(1);
/// How long the last webhooks may take when the process ends.
const LAST_WEBHOOKS: Duration = Duration::from_secs(2);
/// Bad events that come closer together than this are judged together.
const GATHER: Duration = Duration::from_millis(1);

/// What the thread is asked.
pub(super) enum Ask {
    /// A new configuration, with what it orders of releases.
    Publish(Box<Snapshot>, Vec<Order>, SyncSender<()>),
    /// A person's word to the release of this name, and the generation that it is meant for.
    Say((String, Verb), Meant, SyncSender<Result<Status, CommandError>>),
    /// What a release has done so far.
    Report(String, SyncSender<Option<Value>>),
    /// Another process is about to drive the releases: they stay as they are, kept, and their folder is let go.
    Suspend(SyncSender<()>),
    /// No other process does: they go on here.
    Resume,
    /// The end of the process.
    End,
}

/// What the driver works on.
pub(super) struct Means {
    /// What is in force.
    pub snapshots: Arc<Snapshots>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where states are kept.
    pub folder: Option<StateDir>,
    /// What is shown.
    pub shown: Arc<Mutex<Vec<Status>>>,
}

/// See the module.
pub(super) struct Driver {
    means: Means,
    asks: UnboundedReceiver<Ask>,
    saves: UnboundedReceiver<Saved>,
    keeper: Keeper,
    releases: BTreeMap<String, Release>,
    baselines: Baselines,
    bell: Arc<Notify>,
    webhooks: Webhooks,
    /// When the picture of the releases was made last; none: something happened since.
    shown_at: Option<Instant>,
    /// When the folder was asked for again, after another process might have had it.
    asked_at: Option<Instant>,
    /// Whether weights have moved since the last configuration.
    stepped: bool,
    /// Whether another process may drive the releases.
    suspended: bool,
    /// Who waits until what they asked for is in force and kept.
    answers: Vec<(String, SyncSender<Result<Status, CommandError>>)>,
}

impl Driver {
    /// No release is known yet. To be made on the runtime that it runs on.
    pub(super) fn new(mut means: Means, asks: UnboundedReceiver<Ask>) -> Self {
        let (saved, saves) = unbounded_channel();
        let keeper = Keeper::new(means.folder.take(), saved);
        let (releases, baselines, bell) = (BTreeMap::new(), Baselines::default(), Arc::default());
        let webhooks = Webhooks::start();
        let (shown_at, asked_at, stepped, suspended, answers) = (None, None, false, false, Vec::new());
        Self {
            means,
            asks,
            saves,
            keeper,
            releases,
            baselines,
            bell,
            webhooks,
            shown_at,
            asked_at,
            stepped,
            suspended,
            answers,
        }
    }

    /// Works until told to end.
    pub(super) async fn run(mut self) {
        loop {
            let (pause, mut published) = (self.pause(), None);
            tokio::select! {
                biased;
                ask = self.asks.recv() => match ask {
                    Some(Ask::Publish(snapshot, orders, done)) => {
                        self.publish(*snapshot, orders);
                        published = Some(done);
                    }
                    Some(Ask::Say(word, meant, answer)) => self.say(word, &meant, answer),
                    Some(Ask::Report(name, answer)) => self.report(&name, &answer),
                    Some(Ask::Suspend(done)) => {
                        self.suspend().await;
                        // Whoever asked may have gone away.
                        let _ = done.send(());
                    }
                    Some(Ask::Resume) => self.resume(Instant::now()),
                    Some(Ask::End) | None => break,
                },
                Some(saved) = self.saves.recv() => self.saved(saved),
                () = self.bell.notified() => sleep(GATHER).await,
                () = sleep(pause) => {}
            }
            failpoint::reach("rollout");
            self.turn(Instant::now());
            // Only now are its releases shown. Whoever asked may have gone away.
            let _ = published.map(|done| done.send(()));
        }
        self.last_words();
        self.webhooks.finish(LAST_WEBHOOKS).await;
    }

    fn pause(&self) -> Duration {
        let active = || self.releases.values().filter(|release| release.rollout.state().is_active());
        match active().next() {
            None => IDLE,
            Some(_) if active().any(Release::is_waiting) => WAITING,
            Some(_) => TICK,
        }
    }

    /// Puts a new configuration in force together with the weights of its releases.
    fn publish(&mut self, snapshot: Snapshot, orders: Vec<Order>) {
        let now = Instant::now();
        let mut before = mem::take(&mut self.releases);
        for order in orders {
            let name = order.name.clone();
            let known = before.remove(&name).filter(|release| begin::is_same(&release.order, &order));
            let (release, moves) = match known {
                Some(release) => begin::reordered(release, order, now),
                None => begin::resumed(order, self.keeper.folder()),
            };
            self.releases.insert(name.clone(), release);
            self.tell(&name, &moves);
        }
        for (name, mut gone) in before {
            begin::abandon(&name, &mut gone, self.keeper.folder(), now);
        }
        for (name, release) in &mut self.releases {
            if !release.is_counting() && !release.wants_more() {
                release.put_in_force(now, &self.means.metrics, &self.bell);
                self.keeper.changed(name);
            }
        }
        let overlays = self.overlays();
        let next = snapshot.with_overlays(&overlays);
        // Its series exist; their shares are the declared ones, or by now those of a step of what was in force before.
        if mem::take(&mut self.stepped) || !overlays.is_empty() {
            self.means.metrics.activate(active_routes(&next));
        }
        self.means.snapshots.publish(next);
        self.shown_at = None;
    }

    /// Keeps everything once more, after whatever is being written, and lets the folder go.
    async fn suspend(&mut self) {
        self.suspended = true;
        while self.keeper.is_writing() {
            let Some(saved) = self.saves.recv().await else { break };
            self.saved(saved);
        }
        self.last_words();
        // A report may still be being written.
        while self.keeper.folder().is_some_and(|folder| !folder.is_unshared()) {
            sleep(WAITING).await;
        }
        self.keeper.suspend();
    }

    /// Judges again. Without the folder nothing is raised, and it is asked for once a second.
    fn resume(&mut self, now: Instant) {
        self.suspended = false;
        self.asked_at = Some(now);
        if let Err(error) = self.keeper.resume() {
            tracing::error!("the states of releases cannot be kept, nothing is raised until they can be: {error}");
        }
    }

    /// A person's word. The answer waits until what follows from it is in force and kept. It is looked here what is in force:
    /// nothing else is published meanwhile.
    fn say(&mut self, (name, verb): (String, Verb), meant: &Meant, answer: SyncSender<Result<Status, CommandError>>) {
        if self.suspended {
            let _ = answer.send(Err(CommandError::Ending));
            return;
        }
        if let Err(outdated) = meant.check(self.means.snapshots.load().generation) {
            let _ = answer.send(Err(outdated.into()));
            return;
        }
        let now = Instant::now();
        let result = match self.releases.get_mut(&name) {
            None => Err(CommandError::Unknown { name: name.clone(), known: self.releases.keys().cloned().collect() }),
            Some(release) => {
                let edges = self.means.metrics.bucket_bounds();
                begin::said(release, verb, (now, edges), self.baselines.recent(&name)).map_err(CommandError::from)
            }
        };
        match result {
            Ok(moves) => {
                self.tell(&name, &moves);
                self.answers.push((name, answer));
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    fn saved(&mut self, saved: Saved) {
        let name = saved.name.clone();
        let result = self.keeper.ended(saved);
        let Some(release) = self.releases.get_mut(&name) else { return };
        if result.is_err() {
            self.means.metrics.rollouts().not_saved();
        }
        let trouble = result.err().map(|error| format!("the state cannot be saved: {error}"));
        if release.trouble != trouble {
            match &trouble {
                Some(trouble) => tracing::error!("release {name}: {trouble}; nothing is raised until it can be"),
                None => tracing::info!("release {name}: the state can be saved again"),
            }
        }
        release.rollout.block(trouble.clone());
        release.trouble = trouble;
        self.shown_at = None;
    }

    /// Judges every release and puts in force what follows.
    fn turn(&mut self, now: Instant) {
        if self.suspended {
            return;
        }
        if self.keeper.is_suspended() && self.asked_at.is_none_or(|last| now.duration_since(last) >= IDLE) {
            self.resume(now);
        }
        self.start_by_themselves(now);
        let mut moved = Vec::new();
        for (name, release) in &mut self.releases {
            let judged = panic::catch_unwind(AssertUnwindSafe(|| release.judge(now)));
            moved.push((name.clone(), judged.unwrap_or_else(|_| begin::broken(name, release, now))));
        }
        // A log, or a report, that takes its time holds no rollback up.
        self.settle(now);
        moved.iter().for_each(|(name, moves)| self.tell(name, moves));
        self.keep(now);
        self.show(now);
        self.answer(now);
    }

    /// Makes the picture of the releases that people and Prometheus see: when something happened, and else each tick.
    fn show(&mut self, now: Instant) {
        if self.shown_at.is_some_and(|last| now.duration_since(last) < TICK) {
            return;
        }
        self.shown_at = Some(now);
        let shown: Vec<Status> = self.releases.values_mut().map(|release| release.status(now)).collect();
        self.means.metrics.rollouts().set(shown.iter().map(Status::gauges).collect());
        *self.means.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn start_by_themselves(&mut self, now: Instant) {
        let snapshot = self.means.snapshots.load();
        let mut ready = Vec::new();
        for (name, release) in &self.releases {
            let order = &release.order;
            let waits = order.start == Start::OnSubset
                && release.rollout.state() == State::Idle
                && release.rollout.history().is_empty();
            // The rule is sought among all of the configuration: not at each turn.
            let due = self.baselines.is_due(name, now);
            if !waits && !due {
                continue;
            }
            let rule = &order.rule;
            let entries = snapshot.split(&rule.namespace, &rule.virtual_service, rule.number).unwrap_or_default();
            let target = |place: usize| entries.get(place).map(|entry| &entry.value.to);
            if let Some(stable) = target(order.stable).filter(|_| due) {
                self.baselines.look(name, now, stable.metrics.destination());
            }
            let there = || target(order.canary).is_some_and(|to| !to.cluster.endpoints().endpoints().is_empty());
            if waits && there() {
                ready.push(name.clone());
            }
        }
        drop(snapshot);
        for name in ready {
            let edges = self.means.metrics.bucket_bounds();
            let Some(release) = self.releases.get_mut(&name) else { continue };
            match begin::said(release, Verb::Start, (now, edges), self.baselines.recent(&name)) {
                Ok(moves) => self.tell(&name, &moves),
                Err(refused) => tracing::warn!("release {name} does not start by itself: {refused}"),
            }
        }
    }

    /// Raises after the state is kept, lowers before it is.
    fn settle(&mut self, now: Instant) {
        let mut overlaid = false;
        for (name, release) in &mut self.releases {
            let wanted = release.rollout.weight();
            let differs = release.in_force != wanted || !release.is_counting();
            if differs && (!release.wants_more() || self.keeper.has(name, wanted)) {
                release.put_in_force(now, &self.means.metrics, &self.bell);
                self.keeper.changed(name);
                overlaid = true;
            }
        }
        if overlaid {
            (self.shown_at, self.stepped) = (None, true);
            let next = self.means.snapshots.load().with_overlays(&self.overlays());
            let routes = active_routes(&next);
            self.means.snapshots.publish(next);
            self.means.metrics.activate(routes);
        }
    }

    /// Writes what is due.
    fn keep(&mut self, now: Instant) {
        for (name, release) in &self.releases {
            let active = release.rollout.state().is_active();
            self.keeper.keep(name, now, active, || (release.kept(), release.rollout.weight()));
        }
    }

    fn overlays(&self) -> Vec<Overlay> {
        self.releases.values().filter_map(Release::overlay).collect()
    }

    /// Says what a release did.
    fn tell(&mut self, name: &str, moves: &[Transition]) {
        let Some(release) = self.releases.get(name) else { return };
        for step in moves {
            self.shown_at = None;
            self.keeper.changed(name);
            match step.to {
                State::RolledBack => tracing::warn!("release {name}: {}", step.sentence),
                _ => tracing::info!("release {name}: {}", step.sentence),
            }
            let (from, to) = (step.from.name(), step.to.name());
            self.means.metrics.rollouts().moved(name, from, to, step.reason.name());
            if let Some(body) = webhook::message(name, release.rollout.plan(), step) {
                let hooks = &release.order.webhooks;
                hooks.iter().for_each(|hook| self.webhooks.tell(hook, &body, DeliveryId::random()));
            }
            if step.to.is_over() {
                self.keeper.report(name, release.report());
            }
        }
    }

    fn report(&self, name: &str, answer: &SyncSender<Option<Value>>) {
        let report = self.releases.get(name).and_then(|release| serde_json::to_value(release.report()).ok());
        // Whoever asked may have gone away.
        let _ = answer.send(report);
    }

    /// Answers those whose word is in force and kept, or cannot be.
    fn answer(&mut self, now: Instant) {
        for (name, answer) in mem::take(&mut self.answers) {
            let Some(release) = self.releases.get_mut(&name) else {
                let _ = answer.send(Err(CommandError::Unknown { name, known: Vec::new() }));
                continue;
            };
            let in_force = release.in_force == release.rollout.weight();
            if in_force && self.keeper.is_up_to_date(&name) || release.trouble.is_some() {
                let _ = answer.send(Ok(release.status(now)));
            } else {
                self.answers.push((name, answer));
            }
        }
    }

    /// Keeps every release once more.
    fn last_words(&self) {
        let Some(folder) = self.keeper.folder() else { return };
        for (name, release) in self.releases.iter().filter(|(_, release)| !release.rollout.history().is_empty()) {
            if let Err(error) = folder.save(name, &release.kept()) {
                tracing::error!("release {name}: the state cannot be saved: {error}");
            }
        }
    }
}

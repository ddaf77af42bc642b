use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use tempfile::TempDir;

use super::*;
use crate::control::Outdated;
use crate::control::rollout::{Releases, orders};
use crate::rollout::Refused;
use crate::snapshot::testing::{TWO_VERSIONS, shares, snapshot};
use crate::telemetry::{Arm, AttemptResult, Buckets, Entrant, Worker};

const CANARY: &str = "---
apiVersion: serin.dev/v1alpha1
kind: Canary
metadata: {name: shop}
spec:
  virtualService: shop
  stable: v1
  canary: v2
  steps: [10, 50, 100]
  analysis: {warmUp: 0s, latency: {slowerThan: off}}
";

/// A driver whose turns the test takes, on a configuration with a release.
struct Stage {
    driver: Driver,
    metrics: Metrics,
    snapshots: Arc<Snapshots>,
    now: Instant,
}

type Answer = Receiver<Result<Status, CommandError>>;

impl Stage {
    fn new(folder: Option<&Path>) -> Self {
        let metrics = Metrics::new(1, Buckets::Fine);
        let snapshots = Arc::new(Snapshots::new(snapshot(TWO_VERSIONS, &metrics).0));
        let folder = folder.map(|folder| StateDir::open(folder).unwrap());
        let means =
            Means { snapshots: Arc::clone(&snapshots), metrics: metrics.clone(), folder, shown: Arc::default() };
        let driver = Driver::new(means, unbounded_channel().1);
        let mut stage = Self { driver, metrics, snapshots, now: Instant::now() };
        stage.publish(&format!("{TWO_VERSIONS}{CANARY}"));
        stage
    }

    /// A new configuration.
    fn publish(&mut self, yaml: &str) {
        let (snapshot, loaded) = snapshot(yaml, &self.metrics);
        self.driver.publish(snapshot, orders(&loaded));
        self.driver.turn(self.now);
    }

    /// A word and the turn after it.
    fn say(&mut self, verb: Verb) -> Answer {
        let (answer, wait) = sync_channel(1);
        self.driver.say(("shop".to_owned(), verb), &Meant::ForAny, answer);
        self.driver.turn(self.now);
        wait
    }

    /// The end of a write; the next one begins with a turn.
    async fn kept(&mut self) {
        let saved = self.driver.saves.recv().await.unwrap();
        self.driver.saved(saved);
    }

    /// The end of a write and the turn after it.
    async fn written(&mut self) {
        self.kept().await;
        self.driver.turn(self.now);
    }

    /// Writes go on until the answer is there.
    async fn answered(&mut self, answer: Answer) -> Status {
        loop {
            match answer.try_recv() {
                Ok(status) => return status.unwrap(),
                Err(TryRecvError::Empty) => self.written().await,
                Err(TryRecvError::Disconnected) => panic!("there is no answer"),
            }
        }
    }

    /// The canary's share in force, in percent.
    fn canary(&self) -> u32 {
        (shares(&self.snapshots.current())[1] * 100.0).round() as u32
    }

    /// What a process that starts now would put in force.
    fn after_a_crash(&self) -> Option<u32> {
        let mut kept = self.driver.keeper.folder().unwrap().load("shop").unwrap()?;
        kept.rollout.restarted();
        kept.rollout.weight()
    }

    /// So many requests that fail on the canary, as a worker counts them.
    fn fail(&self, requests: usize) {
        let snapshot = self.snapshots.current();
        let (_, rule) = snapshot.routes().rules().next().unwrap();
        let trial = snapshot.exposed(rule).unwrap().trial.as_ref().unwrap();
        for _ in 0..requests {
            let ticket = trial.begin(Worker(0), self.now, Entrant { arm: Arm::Canary, key: None, ages: true });
            trial.end(Worker(0), self.now, ticket, (AttemptResult::Status(500), Some(Duration::from_millis(1))));
        }
    }

    fn shown(&self) -> Vec<Status> {
        self.driver.means.shown.lock().unwrap().clone()
    }
}

fn promote() -> Verb {
    Verb::Promote { full: false, from: None }
}

/// A folder that can be lost and found.
fn lose(folder: &TempDir) {
    fs::remove_dir_all(folder.path()).unwrap();
}

#[tokio::test]
async fn a_raise_is_in_force_when_it_is_kept_and_answered_when_that_is_kept_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(Some(folder.path()));
    for (verb, before, after) in [(Verb::Start, 0, 10), (promote(), 10, 50)] {
        let answer = stage.say(verb);
        assert_eq!((stage.canary(), answer.try_recv().is_err()), (before, true), "the write has only begun");
        let (mut writes, mut on_disk) = (0, None);
        while stage.canary() == before {
            stage.kept().await;
            on_disk = stage.after_a_crash();
            stage.driver.turn(stage.now);
            writes += 1;
        }
        assert!((1..4).contains(&writes), "{writes}");
        assert_eq!((stage.canary(), answer.try_recv().is_err()), (after, true), "{verb}");
        assert_eq!(on_disk.unwrap_or(0), before, "it is not known yet that it was in force");
        let status = stage.answered(answer).await;
        assert_eq!((status.effective_weight, stage.after_a_crash()), (after, Some(after)));
    }
}

#[tokio::test]
async fn a_canary_that_fails_has_no_traffic_after_the_next_turn_whatever_the_disk_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(Some(folder.path()));
    let answer = stage.say(Verb::Start);
    stage.answered(answer).await;
    lose(&folder);
    stage.now += TICK;
    stage.fail(10);
    stage.driver.turn(stage.now);
    assert_eq!((stage.canary(), stage.shown()[0].view.state), (0, State::RolledBack));
    let sentence = stage.shown()[0].view.events.last().unwrap().sentence.clone();
    assert!(sentence.starts_with("rolled back shop at 10 %: v2 took "), "{sentence}");
}

#[tokio::test]
async fn a_word_that_lowers_is_in_force_at_once_and_answered_when_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(Some(folder.path()));
    let answer = stage.say(Verb::Start);
    stage.answered(answer).await;
    let answer = stage.say(Verb::Abort);
    assert_eq!((stage.canary(), answer.try_recv().is_err()), (0, true));
    assert_eq!(stage.answered(answer).await.view.state, State::Aborted);
    assert_eq!(stage.after_a_crash(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_raised_and_the_answer_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(Some(folder.path()));
    lose(&folder);
    let answer = stage.say(Verb::Start);
    let status = stage.answered(answer).await;
    let trouble = status.trouble.unwrap();
    assert!(trouble.starts_with("the state cannot be saved: "), "{trouble}");
    assert_eq!((status.effective_weight, stage.canary()), (0, 0));
    fs::create_dir(folder.path()).unwrap();
    stage.now += Duration::from_secs(1);
    stage.driver.turn(stage.now);
    while stage.canary() == 0 {
        stage.written().await;
    }
    assert_eq!((stage.canary(), stage.shown()[0].trouble.is_none()), (10, true));
}

#[tokio::test]
async fn without_a_folder_a_word_is_in_force_and_answered_at_once() {
    let mut stage = Stage::new(None);
    let answer = stage.say(Verb::Start);
    assert_eq!((answer.try_recv().unwrap().unwrap().effective_weight, stage.canary()), (10, 10));
    let answer = stage.say(promote());
    assert_eq!((answer.try_recv().unwrap().unwrap().effective_weight, stage.canary()), (50, 50));
}

#[tokio::test]
async fn a_new_configuration_keeps_the_weight_in_force_until_the_release_is_gone_from_it() {
    let mut stage = Stage::new(None);
    stage.say(Verb::Start);
    let more = CANARY.replace("[10, 50, 100]", "[20, 100]");
    stage.publish(&format!("{TWO_VERSIONS}{more}"));
    assert_eq!(stage.canary(), 10, "a new plan holds from the next start on");
    stage.fail(10);
    stage.now += TICK;
    stage.driver.turn(stage.now);
    assert_eq!((stage.canary(), stage.shown()[0].view.state), (0, State::RolledBack), "what is published is counted");
    stage.say(Verb::Retry);
    assert_eq!(stage.canary(), 20);
    stage.publish(TWO_VERSIONS);
    assert_eq!((stage.canary(), stage.shown().len()), (0, 0));
}

#[tokio::test]
async fn a_word_without_sense_is_refused_and_changes_nothing() {
    let mut stage = Stage::new(None);
    let refused = stage.say(Verb::Resume).try_recv().unwrap().unwrap_err();
    assert!(matches!(refused, CommandError::Refused(Refused { .. })), "{refused}");
    let (answer, wait) = sync_channel(1);
    stage.driver.say(("shopp".to_owned(), Verb::Start), &Meant::ForAny, answer);
    let unknown = CommandError::Unknown { name: "shopp".to_owned(), known: vec!["shop".to_owned()] };
    assert_eq!(wait.try_recv().unwrap().unwrap_err(), unknown);
    assert_eq!((stage.canary(), stage.shown()[0].view.state), (0, State::Idle));
}

#[tokio::test]
async fn a_word_that_is_meant_for_another_generation_changes_nothing() {
    let mut stage = Stage::new(None);
    let in_force = stage.snapshots.load().generation;
    let mut say = |seen| {
        let (answer, wait) = sync_channel(1);
        stage.driver.say(("shop".to_owned(), Verb::Start), &Meant::For(vec![seen]), answer);
        stage.driver.turn(stage.now);
        (wait.try_recv().unwrap(), stage.canary())
    };
    assert_eq!(say(in_force + 1), (Err(CommandError::Outdated(Outdated(in_force))), 0));
    let (started, canary) = say(in_force);
    assert_eq!((started.unwrap().effective_weight, canary), (10, 10));
}

#[tokio::test]
async fn it_looks_more_often_while_something_is_on_its_way() {
    let mut stage = Stage::new(None);
    assert_eq!(stage.driver.pause(), IDLE);
    stage.say(Verb::Start);
    assert_eq!(stage.driver.pause(), TICK);
    let snapshot = stage.snapshots.current();
    let (_, rule) = snapshot.routes().rules().next().unwrap();
    let trial = snapshot.exposed(rule).unwrap().trial.as_ref().unwrap();
    // An older request that has not ended might turn bad, too.
    trial.begin(Worker(0), stage.now, Entrant { arm: Arm::Stable, key: None, ages: true });
    stage.now += Duration::from_millis(1);
    stage.fail(1);
    stage.now += Duration::from_millis(1);
    stage.driver.turn(stage.now);
    assert_eq!(stage.driver.pause(), WAITING);
    stage.say(Verb::Abort);
    assert_eq!(stage.driver.pause(), IDLE);
}

#[test]
fn what_is_published_is_shown_when_that_returns() {
    let metrics = Metrics::new(1, Buckets::Fine);
    let (first, loaded) = snapshot(&format!("{TWO_VERSIONS}{CANARY}"), &metrics);
    let snapshots = Arc::new(Snapshots::new(snapshot(TWO_VERSIONS, &metrics).0));
    let (releases, thread) = Releases::start(snapshots, metrics, None).unwrap();
    releases.publish(first, orders(&loaded));
    let names: Vec<_> = releases.list().into_iter().map(|status| status.view.name).collect();
    assert_eq!(names, ["shop"]);
    let started = releases.say("shop", Verb::Start, &Meant::ForAny).unwrap();
    assert_eq!(started.effective_weight, 10);
    releases.end();
    thread.join().unwrap();
    assert_eq!(releases.say("shop", Verb::Abort, &Meant::ForAny).unwrap_err(), CommandError::Ending);
}

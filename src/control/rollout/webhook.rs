//! The webhooks of releases: who asked for it is told what a release did. A delivery never holds a release up and never fails
//! it; what could not be said is logged and counted.
//!
//! Each URL has a queue and, while there is something in it, a task: what goes to one place arrives in the order in which it was
//! told, and a place that does not answer delays no other. One try of one delivery is in `delivery`, what is said in [`message()`].

mod delivery;
mod message;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::WebhookOrder;
use super::http_client::Client;
use delivery::Delivery;

pub use delivery::DeliveryId;
pub use message::message;

/// How many deliveries may wait for one URL. A release says some ten things; more wait only where nobody has listened for long.
const LONGEST_QUEUE: usize = 100;
/// The pause after the first failed try; twice as long after each further one …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The most that a `Retry-After` is believed: the queue behind it should not wait for a day.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// What became of deliveries since the start. A delivery is in one of these at last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered with 2xx.
    pub delivered: u64,
    /// Given up: refused, or tried as often as ordered.
    pub failed: u64,
    /// Never tried: 100 others waited for the same URL.
    pub dropped: u64,
}

/// Tells webhooks, as long as it is kept: what is under way when it is dropped ends there. See [`finish`](Self::finish).
pub struct Webhooks {
    post: Arc<Post>,
    /// Aborted when dropped.
    workers: Mutex<JoinSet<()>>,
    runtime: Handle,
}

impl Webhooks {
    /// Nothing is to be told yet. Deliveries go out on the tokio runtime that this is called on; it needs I/O and time.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Client::new())
    }

    fn with(client: Client) -> Self {
        let post = Arc::new(Post { lanes: Mutex::default(), client, tally: Tally::default() });
        Self { post, workers: Mutex::default(), runtime: Handle::current() }
    }

    /// Tells a webhook what a release did; `body` is what [`message()`] makes. Returns at once.
    ///
    /// Does nothing if the webhook did not ask for this event. If too many deliveries wait for its URL, the oldest of them is
    /// dropped: where a release stands now matters more than where it was.
    pub fn tell(&self, hook: &WebhookOrder, body: &Value, delivery: DeliveryId) {
        let event = message::event(body);
        if !hook.events.is_empty() && !hook.events.iter().any(|asked| asked == event) {
            return;
        }
        let delivery = Delivery::new(hook.clone(), event, body, delivery);
        let mut lanes = self.post.lanes();
        let lane = lanes.entry(hook.url.clone()).or_default();
        lane.waiting.push_back(delivery);
        if lane.waiting.len() > LONGEST_QUEUE
            && let Some(dropped) = lane.waiting.pop_front()
        {
            self.post.tally.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("{dropped} is dropped: {LONGEST_QUEUE} others wait for the same URL");
        }
        if lane.worker.as_ref().is_none_or(AbortHandle::is_finished) {
            let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
            while workers.try_join_next().is_some() {}
            if let Some(broken) = lane.under_way.take() {
                self.post.tally.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{broken} is given up: its task panicked");
            }
            let work = Arc::clone(&self.post).empty(hook.url.clone());
            lane.worker = Some(workers.spawn_on(work, &self.runtime));
        }
    }

    /// What became of the deliveries so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.post.tally.read()
    }

    /// Waits until everything is delivered or given up, but no longer than `limit`. What is left then is logged and ends.
    pub async fn finish(self, limit: Duration) {
        let mut workers = self.workers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let all = async { while workers.join_next().await.is_some() {} };
        // In time or not, what is left says so itself.
        let _ = timeout(limit, all).await;
        for lane in self.post.lanes().values() {
            let left = lane.under_way.iter().cloned().chain(lane.waiting.iter().map(ToString::to_string));
            left.for_each(|delivery| tracing::warn!("{delivery} is given up: this process ends"));
        }
    }
}

/// What waits for one URL.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Delivery>,
    /// What is being delivered, for the log.
    under_way: Option<String>,
    /// Finished but still here if it panicked.
    worker: Option<AbortHandle>,
}

/// What the tasks share.
struct Post {
    /// By URL; one that has nothing to do is not here.
    lanes: Mutex<HashMap<String, Lane>>,
    client: Client,
    tally: Tally,
}

impl Post {
    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers what waits for a URL, until nothing does.
    async fn empty(self: Arc<Self>, url: String) {
        while let Some(delivery) = self.next(&url) {
            self.deliver(&delivery).await;
        }
    }

    fn next(&self, url: &str) -> Option<Delivery> {
        let mut lanes = self.lanes();
        let lane = lanes.get_mut(url)?;
        let next = lane.waiting.pop_front();
        lane.under_way = next.as_ref().map(ToString::to_string);
        if next.is_none() {
            lanes.remove(url);
        }
        next
    }

    /// Tries until it is delivered, refused, or was tried as often as ordered.
    async fn deliver(&self, delivery: &Delivery) {
        for tries in 1.. {
            let failure = match delivery.attempt(&self.client).await {
                Ok(()) => {
                    self.tally.delivered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(failure) => failure,
            };
            if !failure.again || tries > delivery.retries() {
                self.tally.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("{delivery} is given up after {tries} of {} tries: {failure}", delivery.retries() + 1);
                return;
            }
            let pause = pause(tries, failure.after, rand::random());
            tracing::info!("{delivery} failed, again in {:.1} s: {failure}", pause.as_secs_f64());
            sleep(pause).await;
        }
    }
}

#[derive(Default)]
struct Tally {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { delivered: read(&self.delivered), failed: read(&self.failed), dropped: read(&self.dropped) }
    }
}

/// How long to wait after so many tries (from 1); `after` is the last `Retry-After`. `luck` is from 0 to 1: up to half of the pause is
/// left out, so that many senders that failed together do not come back together. Never shorter than `after`.
fn pause(tries: u64, after: Option<Duration>, luck: f64) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let most = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST_PAUSE);
    let asked = after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    most.mul_f64(1.0 - luck / 2.0).max(asked)
}

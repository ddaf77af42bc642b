//! The gates of a release: bounds on what a real Prometheus says, asked again and again. Each has a task of its own on the runtime
//! of the driver; none blocks it.
//!
//! A gate only ever holds a release: [`GateState::Outside`] because the value is, [`GateState::Unreachable`] because there is
//! none that counts. What an answer means is in `answer`.

mod answer;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::GateOrder;
use super::http_client::{Client, Deadline, HttpError, Post, Url};
use crate::rollout::{Gate, GateState};

/// An answer may take so long, or as long as the interval if that is shorter.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes: some thousand series, where one is meant.
const LARGEST_ANSWER: usize = 1024 * 1024;
/// An answer counts for so many intervals.
const FRESH: u32 = 3;
/// What `kind: Canary` accepts is longer; a task that never rests would take the thread.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// The gates of one release, asked as long as this is kept.
pub struct Gates {
    watched: Arc<Watched>,
    /// Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Gates {
    /// Begins to ask, on the tokio runtime that this is called on; it needs I/O and time. Every gate is asked at once, and
    /// then every [`GateOrder::interval`].
    #[must_use]
    pub fn start(orders: Vec<GateOrder>) -> Self {
        Self::with(Client::new(), orders)
    }

    fn with(client: Client, orders: Vec<GateOrder>) -> Self {
        let entries = orders.iter().map(Entry::new).collect();
        let watched = Arc::new(Watched { entries: Mutex::new(entries), changed: Notify::new() });
        let (client, mut tasks) = (Arc::new(client), JoinSet::new());
        for (place, order) in orders.into_iter().enumerate() {
            tasks.spawn(keep_asking(Arc::clone(&watched), Arc::clone(&client), order, place));
        }
        Self { watched, _tasks: tasks }
    }

    /// What each gate says now, in the order of the orders. Unreachable before the first answer, and when the last is older
    /// than 3 intervals.
    #[must_use]
    pub fn states(&self) -> Vec<Gate> {
        let now = Instant::now();
        self.watched.entries().iter().map(|entry| entry.at(now)).collect()
    }

    /// Returns when a gate has said something new since the last time this returned. For one waiter.
    pub async fn changed(&self) {
        self.watched.changed.notified().await;
    }
}

/// What the tasks write and [`Gates`] reads.
struct Watched {
    entries: Mutex<Vec<Entry>>,
    changed: Notify,
}

impl Watched {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `asked`: when. The value is no younger than that.
    fn said(&self, place: usize, asked: Instant, gate: Gate) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(place) else { return };
        let news = entry.gate != gate;
        (entry.asked, entry.gate) = (asked, gate);
        drop(entries);
        if news {
            self.changed.notify_one();
        }
    }
}

/// What a gate said last.
struct Entry {
    gate: Gate,
    asked: Instant,
    interval: Duration,
}

impl Entry {
    fn new(order: &GateOrder) -> Self {
        let gate = unreachable(order, "not asked yet".to_owned());
        Self { gate, asked: Instant::now(), interval: order.interval }
    }

    fn at(&self, now: Instant) -> Gate {
        let age = now.saturating_duration_since(self.asked);
        if self.gate.state == GateState::Unreachable || age <= self.interval.saturating_mul(FRESH) {
            return self.gate.clone();
        }
        let detail = format!("the last answer is {} s old", age.as_secs());
        Gate { state: GateState::Unreachable, value: None, detail, ..self.gate.clone() }
    }
}

fn unreachable(order: &GateOrder, detail: String) -> Gate {
    Gate { name: order.name.clone(), state: GateState::Unreachable, value: None, detail }
}

async fn keep_asking(watched: Arc<Watched>, client: Arc<Client>, order: GateOrder, place: usize) {
    let mut clock = interval(order.interval.max(SHORTEST_INTERVAL));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = clock.tick().await;
        let gate = match ask(&client, &order).await {
            Ok((status, body)) => answer::judge(&order, status, &body),
            Err(error) => unreachable(&order, error.to_string()),
        };
        watched.said(place, asked, gate);
    }
}

/// Asks once: an instant query (`/api/v1/query`), as a form because a query may be longer than a URL.
async fn ask(client: &Client, order: &GateOrder) -> Result<(http::StatusCode, Bytes), HttpError> {
    let limit = order.interval.min(LONGEST_ANSWER);
    let url = Url::parse(&order.address)?.below("api/v1/query")?;
    // Told as well, so that it does not work on for somebody who is gone.
    let timeout = format!("{}ms", limit.as_millis());
    let form =
        Serializer::new(String::new()).append_pair("query", &order.query).append_pair("timeout", &timeout).finish();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let answer = client.send(Post { url, headers, body: form.into() }, Deadline::within(limit)).await?;
    Ok((answer.status(), answer.body(LARGEST_ANSWER).await?))
}

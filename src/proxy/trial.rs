//! A request's part in the trial of a release: its version was drawn with a known share, and how its first attempt ends speaks
//! for or against that version. What a later attempt brings does not count, because nobody drew lots for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::{AttemptResult, Entrant, Ticket, Trial, Worker};

/// See the module.
#[derive(Debug)]
pub(super) struct Part {
    trial: Arc<Trial>,
    ticket: Ticket,
    first: First,
}

/// The first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    UnderWay,
    /// It ended so; its answer came after this time, if one came.
    Ended(AttemptResult, Option<Duration>),
    /// That was told, and whether it was well.
    Told {
        well: bool,
    },
}

impl Part {
    /// The version of a request was drawn.
    pub(super) fn begin(trial: &Arc<Trial>, worker: Worker, entrant: Entrant) -> Self {
        let ticket = trial.begin(worker, Instant::now(), entrant);
        Self { trial: Arc::clone(trial), ticket, first: First::UnderWay }
    }

    /// An attempt ended; only the first one counts.
    pub(super) fn tried(&mut self, result: AttemptResult, latency: Option<Duration>) {
        if self.first == First::UnderWay {
            self.first = First::Ended(result, latency);
        }
    }

    /// That attempt is made again for nothing: it met a kept connection that was just closing, and so it says nothing.
    pub(super) fn take_back(&mut self) {
        if let First::Ended(..) = self.first {
            self.first = First::UnderWay;
        }
    }

    /// Tells the trial how the first attempt ended, if it has ended.
    pub(super) fn tell(&mut self, worker: Worker) {
        if let First::Ended(result, latency) = self.first {
            self.trial.end(worker, Instant::now(), self.ticket, (result, latency));
            self.first = First::Told { well: matches!(result, AttemptResult::Status(0..500)) };
        }
    }

    /// The answer broke off, and not because of the client.
    pub(super) fn broke_off(&mut self, worker: Worker) {
        if self.first == (First::Told { well: true }) {
            self.trial.broke_off(worker, self.ticket);
            self.first = First::Told { well: false };
        }
    }

    /// The request is over.
    pub(super) fn end(mut self, worker: Worker) {
        self.tell(worker);
        if self.first == First::UnderWay {
            self.trial.give_up(worker, self.ticket);
        }
    }
}

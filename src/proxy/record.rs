//! What is known about one request while it is under way, told to the metrics exactly once: when its answer ends, or when
//! the client goes away before that.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::failure::Failure;
use super::reply;
use super::state::{ConnectionState, Expired};
use super::trial::Part;
use super::worker::Worker;
use crate::telemetry::access_log::Line;
use crate::telemetry::{AttemptResult, Blame, Entrant, Finished, Flag, Flags, ProxyError, RouteMetrics, Shed, Trial};
use crate::upstream::UploadProgress;

/// The status under which a request is counted whose client went away (nginx's number, which users know).
const CLIENT_GONE: u16 = 499;

/// The status of a request that turned its connection into a tunnel.
const SWITCHED: u16 = StatusCode::SWITCHING_PROTOCOLS.as_u16();

/// What is known of the status of a call of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grpc {
    /// It is none.
    No,
    /// Nothing so far.
    Open,
    /// This one.
    Status(u8),
}

/// gRPC's own words for a client that went away, and for a stream that broke off.
const CANCELLED: u8 = 1;
const INTERNAL: u8 = 13;

/// One request under way. Dropping it before [`Record::finish`] means that the client went away, or was given up.
#[derive(Debug)]
pub(super) struct Record {
    worker: Arc<Worker>,
    connection: Arc<ConnectionState>,
    started: Instant,
    method: Method,
    metrics: Option<Arc<RouteMetrics>>,
    upload: Option<Arc<UploadProgress>>,
    /// Its part in a release.
    part: Option<Box<Part>>,
    /// What the access log will say of it.
    line: Option<Box<Line>>,
    grpc: Grpc,
    /// The status that was or will be sent.
    pub status: u16,
    /// Why it is not simply the first answer that came.
    pub flags: Flags,
    /// Why it failed, if it did.
    error: Option<ProxyError>,
    /// Who ended its answer before it was complete.
    aborted: Option<Blame>,
    /// Attempts at an endpoint that have ended.
    pub attempts: u32,
    /// Whether another one is under way.
    pub attempting: bool,
    /// Bytes of the answer's body so far.
    pub bytes_out: u64,
    /// Whether it has one of the places for requests under way.
    admitted: bool,
    told: bool,
}

impl Record {
    /// The head of a request is complete.
    pub(super) fn start(worker: &Arc<Worker>, connection: &Arc<ConnectionState>, method: &Method) -> Self {
        Self {
            worker: Arc::clone(worker),
            connection: Arc::clone(connection),
            started: connection.request_started(),
            method: method.clone(),
            metrics: None,
            upload: None,
            part: None,
            line: None,
            grpc: Grpc::No,
            status: 0,
            flags: Flags::default(),
            error: None,
            aborted: None,
            attempts: 0,
            attempting: false,
            bytes_out: 0,
            admitted: false,
            told: false,
        }
    }

    /// Takes a place among the requests under way, until the record is told; or says why there is none.
    pub(super) fn admit(&mut self) -> Result<(), Shed> {
        let entered = self.worker.admission().enter(self.worker.index());
        self.admitted = entered.is_ok();
        entered
    }

    /// Gives that place back. A connection that has become a tunnel does so: it may stay for hours and costs no more than its
    /// connection, which has a limit of its own.
    pub(super) fn give_place_back(&mut self) {
        if std::mem::take(&mut self.admitted) {
            self.worker.admission().leave(self.worker.index());
        }
    }

    /// It is known where the request counts: for the destination that was drawn, or for a rule that answers by itself.
    pub(super) fn routed(&mut self, metrics: &Arc<RouteMetrics>) {
        metrics.destination().started(self.worker.shard());
        self.metrics = Some(Arc::clone(metrics));
    }

    /// The version that was drawn fails to answer: another one is asked, and the request counts for that one.
    pub(super) fn shielded(&mut self, metrics: &Arc<RouteMetrics>) {
        if let Some(failed) = &self.metrics {
            failed.destination().ended(self.worker.shard());
            let drawn = Arc::clone(failed);
            self.note(|line| {
                line.drawn.get_or_insert_with(|| drawn.destination().version().into());
            });
        }
        self.routed(metrics);
        (self.flags, self.error) = (Flags::default(), None);
    }

    /// It will be logged, with what this line knows of it already.
    pub(super) fn logged(&mut self, line: Box<Line>) {
        self.line = Some(line);
    }

    /// Notes something for the access log, if there is one.
    pub(super) fn note(&mut self, note: impl FnOnce(&mut Line)) {
        if let Some(line) = &mut self.line {
            note(line);
        }
    }

    /// The request takes part in a release.
    pub(super) fn enter(&mut self, trial: &Arc<Trial>, entrant: Entrant) {
        self.part = Some(Box::new(Part::begin(trial, self.worker.shard(), entrant)));
    }

    /// An attempt ended, with an answer after `latency` if one came.
    pub(super) fn tried(&mut self, result: AttemptResult, latency: Option<Duration>) {
        self.attempting = false;
        self.attempts += 1;
        if let Some(part) = &mut self.part {
            part.tried(result, latency);
        }
        self.note(|line| {
            line.upstream = latency.or(line.upstream);
            // As the trial sees it: a limit that we keep says nothing, and what comes after the first attempt neither.
            if !line.settled && result != AttemptResult::Failed(Flag::UO) {
                line.first_failed.get_or_insert(!matches!(result, AttemptResult::Status(..500)));
            }
        });
    }

    /// The attempt that ended says nothing about the version: it is made once more.
    pub(super) fn take_back(&mut self) {
        if let Some(part) = &mut self.part {
            part.take_back();
        }
        self.note(|line| line.first_failed = line.first_failed.filter(|_| line.settled));
    }

    /// The attempt that ended stands.
    pub(super) fn settle(&mut self) {
        if let Some(part) = &mut self.part {
            part.tell(self.worker.shard());
        }
        self.note(|line| line.settled = true);
    }

    /// Serin answers instead of an endpoint, because of this.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.flags.insert(failure.flag());
        // Whoever goes away is no failure.
        self.error = (failure.flag() != Flag::DC).then(|| failure.error());
    }

    /// The answer stops before its end, for the reason that the flag says.
    pub(super) fn broke_off(mut self, flag: Flag) {
        self.flags.insert(flag);
        (self.error, self.aborted) = match flag {
            Flag::DC => (None, Some(Blame::Client)),
            Flag::DPE => (Some(ProxyError::HttpRequestError), Some(Blame::Client)),
            Flag::IE => (Some(ProxyError::ProxyInternalError), Some(Blame::Proxy)),
            Flag::UT => (Some(ProxyError::HttpResponseTimeout), Some(Blame::Upstream)),
            _ => (Some(ProxyError::HttpResponseIncomplete), Some(Blame::Upstream)),
        };
        // Neither the client's fault nor Serin's speaks against the version.
        let is_own = !matches!(flag, Flag::DC | Flag::DPE | Flag::SI | Flag::IE);
        if let Some(part) = &mut self.part
            && is_own
        {
            part.broke_off(self.worker.shard());
        }
        self.note(|line| {
            // As the trial sees it: an answer that broke off by itself failed, if it is still the first attempt's.
            line.first_failed = line.first_failed.map(|failed| failed || is_own);
        });
        if flag != Flag::DC {
            self.cut_short();
        }
        self.finish(Instant::now());
    }

    /// The request has a body.
    pub(super) fn uploading(&mut self, upload: Arc<UploadProgress>) {
        self.upload = Some(upload);
    }

    /// Bytes of its body that were passed on so far.
    pub(super) fn uploaded(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.bytes())
    }

    /// Whether it is a call of gRPC.
    pub(super) fn is_grpc(&self) -> bool {
        self.grpc != Grpc::No
    }

    /// It is a call of gRPC.
    pub(super) fn calls_grpc(&mut self) {
        self.grpc = Grpc::Open;
    }

    /// Fields in which the status of a call of gRPC may be: trailers, or the head of an answer that consists of them.
    pub(super) fn look_for_grpc_status(&mut self, fields: &HeaderMap) {
        if self.grpc == Grpc::Open
            && let Some(status) = reply::grpc_status(fields)
        {
            self.grpc = Grpc::Status(status);
        }
    }

    /// The answer stopped before its end.
    fn cut_short(&mut self) {
        if self.grpc == Grpc::Open {
            self.grpc = Grpc::Status(INTERNAL);
        }
    }

    /// The status that the client of a call got, or that it has to assume (gRPC over HTTP/2, and its table of HTTP statuses).
    fn grpc_status(&self) -> Option<u8> {
        match self.grpc {
            Grpc::No => None,
            Grpc::Status(status) => Some(status),
            Grpc::Open if self.flags.contains(Flag::DC) => Some(CANCELLED),
            Grpc::Open => Some(reply::grpc_status_of(self.status)),
        }
    }

    /// Whether its client does not take at once what it is sent.
    pub(super) fn is_read_slowly(&self) -> bool {
        self.connection.is_write_blocked()
    }

    /// Whether no byte of the request's body is still to come.
    pub(super) fn upload_is_finished(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.is_finished())
    }

    /// Whether nobody waits for an answer any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.flags.contains(Flag::DC) || self.flags.contains(Flag::SI)
    }

    /// Serin answers itself, with this status.
    pub(super) fn answered(&mut self, status: u16) {
        // Whoever has gone away is not told anything.
        self.status = if self.flags.contains(Flag::DC) { CLIENT_GONE } else { status };
    }

    /// The worker that serves it.
    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// The answer is complete.
    pub(super) fn finish(mut self, now: Instant) {
        self.tell(now);
    }

    fn complete(&self, line: &mut Line, now: Instant) {
        line.duration = now.duration_since(self.started);
        line.status = self.status;
        line.flags = self.flags.to_string();
        line.attempts = self.attempts;
        line.bytes_in = self.uploaded();
        line.bytes_out = self.bytes_out;
        if let Some(metrics) = &self.metrics {
            let version = metrics.destination();
            (line.app, line.version) = (version.app().into(), version.version().into());
            line.route = metrics.route().into();
        }
    }

    fn tell(&mut self, now: Instant) {
        self.told = true;
        self.give_place_back();
        match &self.upload {
            Some(upload) if upload.is_finished() => self.connection.set_whole(true),
            Some(_) => self.connection.upload_goes_on(),
            None => {}
        }
        self.connection.request_ended(now);
        let shard = self.worker.shard();
        if let Some(part) = self.part.take() {
            part.end(shard);
        }
        if let (Some(mut line), Some(log)) = (self.line.take(), self.worker.log()) {
            self.complete(&mut line, now);
            log.log(line);
        }
        let finished = Finished {
            method: &self.method,
            status: self.status,
            flags: self.flags,
            error: self.error,
            aborted: self.aborted,
            duration: now.duration_since(self.started),
            bytes_in: self.uploaded(),
            bytes_out: self.bytes_out,
            grpc: self.grpc_status(),
        };
        match &self.metrics {
            Some(metrics) => {
                metrics.destination().ended(shard);
                metrics.finished(shard, &finished);
            }
            None => self.worker.unrouted().finished(shard, &finished),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.told {
            if thread::panicking() {
                self.status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
                self.failed(&Failure::Internal);
                self.connection.leave_grpc(self.is_grpc());
            } else if self.status == SWITCHED {
                // A tunnel that is cut off was one all the same.
                if self.connection.expired() == Some(Expired::Stalled) {
                    self.flags.insert(Flag::SI);
                }
            } else if self.status != 0 && self.connection.expired() == Some(Expired::Stalled) {
                self.flags.insert(Flag::SI);
                (self.error, self.aborted) = (Some(ProxyError::HttpResponseIncomplete), Some(Blame::Upstream));
                self.cut_short();
            } else {
                self.aborted = (self.status != 0).then_some(Blame::Client);
                self.status = CLIENT_GONE;
                self.flags.insert(Flag::DC);
                self.connection.request_given_up(self.started, Instant::now());
            }
            self.tell(Instant::now());
        }
    }
}

//! The end of the process, and the standstill before another one takes its place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Running;
use crate::control::Trigger;
use crate::proxy::WorkerHandle;
use crate::shutdown::Stage;

/// After `/ready` says no, new connections are taken for this long: balancers need it to notice.
const ANNOUNCE: Duration = Duration::from_secs(5);
/// Connections that were idle when the drain began may bring one more request for this long.
const LAME_DUCK: Duration = Duration::from_secs(2);
/// How long the end waits for whoever reads the access log.
const LAST_LINES: Duration = Duration::from_secs(5);

/// Who tells clients and balancers that this process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// `/ready`, for as long as balancers need to ask.
    Announced,
    /// Nobody: it ends now.
    Silent,
    /// Nobody has to: another process serves the same addresses already.
    TakenOver,
}

impl Running {
    /// Changes nothing from now on, and leaves the releases, with all that is known of them, to another process. Waits for what is
    /// under way; to be called where that is no harm.
    pub(in crate::app) fn rest(&self) -> impl FnOnce() + Send + 'static {
        let (publisher, releases, going_on) =
            (self.publisher.clone(), self.releases.clone(), Arc::clone(&self.going_on));
        going_on.store(false, Ordering::SeqCst);
        move || {
            publisher.freeze();
            // Who waited for this may have given up, and everything goes on already.
            if going_on.load(Ordering::SeqCst) {
                return;
            }
            releases.suspend();
            if going_on.load(Ordering::SeqCst) {
                releases.resume();
            }
        }
    }

    /// Everything goes on here, and what was changed meanwhile is read.
    pub(in crate::app) fn go_on(&self) {
        self.going_on.store(true, Ordering::SeqCst);
        self.releases.resume();
        self.publisher.thaw();
        self.reload_soon(Trigger::Signal);
    }

    /// Ends well: says so, takes what still comes, lets requests finish. Returns how many connections had to be cut off after
    /// `limit`.
    pub async fn drain(mut self, limit: Duration, farewell: Farewell) -> usize {
        self.admin_port.keep_file(farewell == Farewell::TakenOver);
        match farewell {
            Farewell::Announced => {
                self.shutdown.enter(Stage::Announced);
                sleep(ANNOUNCE).await;
            }
            Farewell::Silent => {}
            Farewell::TakenOver => {
                // The admin port and the files are the other's business now.
                self.admin_port.hand_over();
                self.watch = None;
            }
        }
        self.open.let_go();
        self.shutdown.enter(Stage::Draining);
        let deadline = Instant::now() + limit;
        let lame_duck = if farewell == Farewell::Silent { Duration::ZERO } else { LAME_DUCK };
        self.wait_for_workers(Instant::now() + lame_duck).await;
        self.shutdown.enter(Stage::Closing);
        self.wait_for_workers(deadline).await;
        self.end()
    }

    async fn wait_for_workers(&self, until: Instant) {
        while Instant::now() < until && !self.workers.iter().all(WorkerHandle::is_finished) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn end(self) -> usize {
        self.shutdown.enter(Stage::Aborted);
        self.admin_port.close();
        drop(self.watch);
        let cut_off = self.workers.into_iter().filter_map(WorkerHandle::join).sum();
        // With the last worker went the last who could log.
        self.log_thread.into_iter().for_each(|log| log.join(LAST_LINES));
        self.releases.end();
        let _ = self.rollout_thread.join();
        // The admin thread ends by the same signal; a panic in it was logged where it happened.
        let _ = self.admin_port.thread.join();
        cut_off
    }
}

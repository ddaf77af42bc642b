//! Watches the files of the configuration and tells the publisher when they changed, however they were saved.
//!
//! Events only ever mean "maybe changed"; the content decides. A thread of its own waits for them, and looks by itself every
//! two seconds, so that a file system without events, or events that got lost, cost time and never a change. What it
//! must not do: decide what a configuration means, or hold up anything but itself.

mod settle;
#[cfg(test)]
mod tests;
mod watch;
mod watches;
mod way;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::watch::Watch;
use self::watches::{Make, Message, Reports};
use super::publisher::Publisher;

/// Events that wait for the thread; more than this at once are answered with a look at everything.
const BACKLOG: usize = 4096;

/// How often the files are looked at without any event.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What the file system says about them.
    pub stat: Duration,
    /// Their content.
    pub hash: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { stat: Duration::from_secs(2), hash: Duration::from_secs(30) }
    }
}

/// The running watch. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub struct FileWatch {
    messages: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl FileWatch {
    /// Starts watching. When this returns, no later change goes unseen; one that came between the publisher's last look and
    /// this call is found at once.
    ///
    /// # Errors
    /// When no thread can be started. That no events can be had is no error: the files are looked at regularly.
    pub fn start(publisher: Publisher, pace: Pace) -> io::Result<Self> {
        Self::start_with(publisher, pace, watches::make)
    }

    fn start_with(publisher: Publisher, pace: Pace, make: Make) -> io::Result<Self> {
        let (messages, inbox) = sync_channel(BACKLOG);
        let reports = Reports { messages: messages.clone(), lost: Arc::new(AtomicBool::new(false)) };
        let (armed, wait) = sync_channel(1);
        let thread = thread::Builder::new().name("config-watch".to_owned()).spawn(move || {
            let inbox = &inbox;
            let mut armed = Some(armed);
            loop {
                let run = AssertUnwindSafe(|| {
                    let mut watch = Watch::new(publisher.clone(), pace, make, reports.clone());
                    watch.begin();
                    armed.take();
                    watch.run(inbox);
                });
                if panic::catch_unwind(run).is_ok() {
                    return;
                }
                // A proxy that does not see changes any more is worse than one that starts to look again.
                tracing::error!("watching the configuration failed; starting again");
                publisher.metrics().reloads().set_watch_healthy(false);
                if matches!(inbox.recv_timeout(pace.stat), Ok(Message::Stop)) {
                    return;
                }
            }
        })?;
        // It only ever ends with an error: the sender is dropped once everything is watched.
        let _: Result<(), _> = wait.recv();
        Ok(Self { messages, thread: Some(thread) })
    }

    /// Ends the thread. A change that is being put in force is finished first.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It only fails when the thread has ended.
            let _ = self.messages.send(Message::Stop);
            let _ = thread.join();
        }
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.end();
    }
}

//! A thread with a runtime of its own, so that neither the view nor a terminal that stopped reading slows down what it does.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

/// Something that runs until it is told to end.
#[derive(Debug)]
pub(in crate::cli) struct Background {
    end: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// Told when it is time to end.
pub(in crate::cli) type End = watch::Receiver<bool>;

impl Background {
    /// Runs `work`, which ends soon after it is told to.
    pub(in crate::cli) fn start<F>(name: &str, work: impl FnOnce(End) -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = ()>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = watch::channel(false);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work(ended)))?;
        Ok(Self { end, thread })
    }

    /// Tells it to end, and waits until it has.
    pub(in crate::cli) fn end(self) {
        self.end.send_replace(true);
        // A panic in it was printed where it happened.
        let _ = self.thread.join();
    }
}

/// Waits until it is time to end.
pub(in crate::cli) async fn ended(end: &mut End) {
    // An error means that nobody is left to tell: time to end as well.
    let _ = end.wait_for(|end| *end).await;
}

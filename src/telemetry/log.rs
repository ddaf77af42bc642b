//! What the process says of itself, on standard error. Nobody who serves, judges or decides may wait for whoever reads that, or
//! fail because nobody does: lines go through a bounded queue to a thread that writes them.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait to be written.
const QUEUE: usize = 1024;

/// Lines that had no room, or could not be written. Of the process, as standard error is.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines were lost since the process began: nobody took them, or the disk was full.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// The log of the process.
static OF_PROCESS: OnceLock<Log> = OnceLock::new();

/// Waits until everything is written that the process has said, no longer than `limit`.
pub fn flush(limit: Duration) {
    if let Some(log) = OF_PROCESS.get() {
        log.flush(limit);
    }
}

enum Message {
    Line(Vec<u8>),
    /// Everything before it was written.
    Written(SyncSender<()>),
}

/// The queue's end for whoever says something: each write is a line. Never blocks, never fails.
#[derive(Clone, Debug)]
pub struct Log(SyncSender<Message>);

impl Log {
    /// Starts the thread, which writes to `out` for as long as the process lives.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, queue) = sync_channel(QUEUE);
        thread::Builder::new().name("serin-say".to_owned()).spawn(move || write(&queue, &mut out))?;
        Ok(Self(messages))
    }

    /// Makes it the one that [`flush`] means. The first one stays it.
    pub fn of_process(self) -> Self {
        let _ = OF_PROCESS.set(self.clone());
        self
    }

    /// Waits until everything is written that was said, no longer than `limit`.
    fn flush(&self, limit: Duration) {
        let (since, (done, written)) = (Instant::now(), sync_channel(1));
        let mut message = Message::Written(done);
        while let Err(TrySendError::Full(back)) = self.0.try_send(message) {
            if since.elapsed() >= limit {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(1));
        }
        // Too late, or the thread has ended: there is nobody to tell.
        let _ = written.recv_timeout(limit.saturating_sub(since.elapsed()));
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Message::Line(line.to_vec())).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(queue: &Receiver<Message>, out: &mut dyn Write) {
    for message in queue {
        match message {
            Message::Line(line) => {
                if out.write_all(&line).and_then(|()| out.flush()).is_err() {
                    LOST.fetch_add(1, Ordering::Relaxed);
                }
            }
            // Whoever waited may have gone.
            Message::Written(done) => drop(done.try_send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Takes nothing before it is told to; then everything, or nothing.
    struct Reader {
        go: Receiver<bool>,
        took: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.go.recv().unwrap_or(false) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.took.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (Log, Sender<bool>, Arc<Mutex<Vec<u8>>>) {
        let (go, told) = channel();
        let took = Arc::default();
        (Log::start(Reader { go: told, took: Arc::clone(&took) }).unwrap(), go, took)
    }

    /// One test, because what is lost is counted for the whole process.
    #[test]
    fn nobody_waits_for_the_reader_or_fails_with_it() {
        let (mut log, go, took) = log();
        let before = lost();
        // One is being written, the queue is full, and the rest is lost.
        for _ in 0..QUEUE + 10 {
            log.write_all(b"x").unwrap();
        }
        let dropped = lost() - before;
        assert!((9..=10).contains(&dropped), "{dropped}");
        log.flush(Duration::from_millis(2));
        assert!(took.lock().unwrap().is_empty(), "a reader that takes nothing is not waited for");

        let written = QUEUE + 10 - usize::try_from(dropped).unwrap();
        (0..written).for_each(|_| go.send(true).unwrap());
        while took.lock().unwrap().len() < written {
            thread::yield_now();
        }
        log.write_all(b"last").unwrap();
        go.send(true).unwrap();
        log.flush(Duration::from_secs(3600));
        assert!(took.lock().unwrap().ends_with(b"xlast"));

        // The reader goes away; the log goes on.
        drop(go);
        let before = lost();
        log.write_all(b"to nobody").unwrap();
        log.flush(Duration::from_secs(3600));
        assert_eq!(lost(), before + 1);
    }
}

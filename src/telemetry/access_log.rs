//! The access log: one line for each finished request, written by a thread of its own from a bounded queue. Where the queue is
//! full, because the disk is slow or full, lines are dropped and counted; no request ever waits.

mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

use crate::failpoint;

pub use line::Line;

/// Lines that may wait; 10 ms of 100,000 requests a second, several times over.
const QUEUE: usize = 8192;
/// Bytes that are written together.
const BATCH: usize = 64 * 1024;
/// How often it is seen to whether the file is still in its place.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `key=value` pairs, for people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Where to, and how: `text`, `json`, `text=FILE`, `json=FILE`; standard output where no file is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What a line looks like.
    pub format: Format,
    /// The file that lines are appended to; none is standard output.
    pub file: Option<PathBuf>,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (format, file) = text.split_once('=').map_or((text, None), |(format, file)| (format, Some(file)));
        let format = match format {
            "text" => Format::Text,
            "json" => Format::Json,
            _ => return Err(format!("`{text}` is none of off, text, json, text=FILE, json=FILE")),
        };
        match file {
            Some("") => Err("there is no file behind `=`".to_owned()),
            _ => Ok(Self { format, file: file.map(PathBuf::from) }),
        }
    }
}

/// The queue's end for whoever finishes requests; clones are the same.
#[derive(Clone, Debug)]
pub struct AccessLog {
    lines: SyncSender<Box<Line>>,
    dropped: Arc<AtomicU64>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct AccessLogThread(JoinHandle<()>);

impl AccessLog {
    /// Opens the log and starts its thread. `dropped` counts lines that had no room.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread.
    pub fn start(to: &Destination, dropped: Arc<AtomicU64>) -> io::Result<(Self, AccessLogThread)> {
        let out = Out::open(to.file.clone())?;
        let (lines, queue) = sync_channel(QUEUE);
        let format = to.format;
        let lost = Arc::clone(&dropped);
        let thread =
            thread::Builder::new().name("serin-log".to_owned()).spawn(move || write(&queue, format, out, &lost))?;
        Ok((Self { lines, dropped }, AccessLogThread(thread)))
    }

    /// Logs a request, if there is room.
    pub fn log(&self, line: Box<Line>) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl AccessLogThread {
    /// Waits until everything is written, no longer than `limit`: whoever reads may have stopped. The last [`AccessLog`] must be
    /// gone.
    pub fn join(self, limit: Duration) {
        let since = Instant::now();
        while !self.0.is_finished() && since.elapsed() < limit {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What lines go to.
struct Out {
    /// The file's path; none is standard output.
    path: Option<PathBuf>,
    to: Box<dyn Write + Send>,
    failing: bool,
}

impl Out {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let to: Box<dyn Write + Send> = match &path {
            Some(path) => Box::new(append(path)?),
            None => Box::new(io::stdout()),
        };
        Ok(Self { path, to, failing: false })
    }

    /// Whether the lines are written. Says once that they are not, and once that they are again.
    fn put(&mut self, lines: &[u8]) -> bool {
        let result = self.to.write_all(lines).and_then(|()| self.to.flush());
        match &result {
            Err(error) if !self.failing => tracing::error!("the access log cannot be written, lines are lost: {error}"),
            Ok(()) if self.failing => tracing::info!("the access log can be written again"),
            _ => {}
        }
        self.failing = result.is_err();
        result.is_ok()
    }

    /// A file that was moved away, by a rotation, is made anew.
    fn follow(&mut self) {
        if let Some(file) = self.path.as_ref().filter(|path| !path.exists()).and_then(|path| append(path).ok()) {
            self.to = Box::new(file);
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Writes until nobody can log any more.
fn write(queue: &Receiver<Box<Line>>, format: Format, mut out: Out, dropped: &AtomicU64) {
    let mut text = Vec::new();
    let mut looked = Instant::now();
    while let Ok(first) = queue.recv() {
        let mut count = 0;
        let put = || {
            for line in std::iter::once(first).chain(queue.try_iter()) {
                count += 1;
                line.write(format, &mut text);
                if text.len() >= BATCH {
                    break;
                }
            }
            failpoint::reach("access-log");
            if looked.elapsed() >= LOOK_EVERY {
                out.follow();
                looked = Instant::now();
            }
            out.put(&text)
        };
        // A mistake costs these lines, and not all that come after them.
        let written = catch_unwind(AssertUnwindSafe(put)).unwrap_or_else(|_| {
            tracing::error!("writing the access log failed; going on");
            false
        });
        if !written {
            dropped.fetch_add(count, Relaxed);
        }
        text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_flag_names_format_and_file() {
        let parsed = |text: &str| text.parse::<Destination>();
        assert_eq!(parsed("text"), Ok(Destination { format: Format::Text, file: None }));
        assert_eq!(parsed("json=/a=b"), Ok(Destination { format: Format::Json, file: Some("/a=b".into()) }));
        assert!(parsed("xml").unwrap_err().contains("json=FILE"));
        assert!(parsed("json=").is_err());
    }

    #[test]
    fn every_line_is_in_the_file_when_the_log_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let dropped = Arc::new(AtomicU64::new(0));
        let to = Destination { format: Format::Json, file: Some(path.clone()) };
        let (log, thread) = AccessLog::start(&to, Arc::clone(&dropped)).unwrap();
        (0..100).for_each(|_| log.log(Box::new(Line::default())));
        drop(log);
        thread.join(Duration::from_secs(3600));
        let found = lines(&path);
        assert_eq!((found.len(), found[0].as_str(), dropped.load(Relaxed)), (101, "before", 0));
        assert!(found[1..].iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    }

    #[test]
    fn what_has_no_room_is_counted_and_nobody_waits() {
        let (lines, queue) = sync_channel(2);
        let log = AccessLog { lines, dropped: Arc::default() };
        (0..5).for_each(|_| log.log(Box::new(Line::default())));
        assert_eq!((log.dropped.load(Relaxed), queue.try_iter().count()), (3, 2));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_as_dropped() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, queue) = sync_channel(8);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = AccessLog { lines, dropped: Arc::clone(&dropped) };
        (0..5).for_each(|_| log.log(Box::new(Line::default())));
        drop(log);
        write(&queue, Format::Text, Out { path: None, to: Box::new(Full), failing: false }, &dropped);
        assert_eq!(dropped.load(Relaxed), 5);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut out = Out::open(Some(path.clone())).unwrap();
        assert!(out.put(b"one\n"));
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        out.follow();
        assert!(out.put(b"two\n"));
        assert_eq!(
            (lines(&folder.path().join("log.1")), lines(&path)),
            (vec!["one".to_owned()], vec!["two".to_owned()])
        );
    }
}

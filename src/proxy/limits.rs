//! What a client may take, and for how long.

use std::time::Duration;

/// Limits on clients; the flags of `serin run` set them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accept, or from the first byte of a later request, to the end of its head.
    pub header_timeout: Duration,
    /// Without a byte of an unfinished request body.
    pub body_timeout: Duration,
    /// Of a connection between requests.
    pub keepalive_timeout: Duration,
    /// Without a byte in either direction while a request is under way.
    pub stream_idle_timeout: Duration,
    /// Without the client taking a byte of an answer that waits for it; of a stream of HTTP/2, a piece (64 KiB at most).
    pub write_timeout: Duration,
    /// Connections at once, over all workers.
    pub max_connections: usize,
    /// Requests under way at once, over all workers and destinations.
    pub max_requests: usize,
    /// By how much a worker may come late to its work, for a second on end, before it turns requests away; 0: it never does.
    pub max_worker_delay: Duration,
    /// Memory of the whole process, in bytes. 0: as much as there is; none: what the control group may have.
    pub max_memory: Option<u64>,
    /// Of a request head, in bytes.
    pub max_header_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(75),
            stream_idle_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(60),
            max_connections: 100_000,
            max_requests: 100_000,
            max_worker_delay: Duration::from_millis(50),
            max_memory: None,
            max_header_size: 64 * 1024,
        }
    }
}

impl Limits {
    /// How often a worker looks at its connections: often enough that no limit is passed by more than a tenth.
    pub fn tick(&self) -> Duration {
        let shortest = [
            self.header_timeout,
            self.body_timeout,
            self.keepalive_timeout,
            self.stream_idle_timeout,
            self.write_timeout,
        ];
        let shortest = shortest.into_iter().min().unwrap_or(Duration::from_secs(10));
        (shortest / 10).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}

//! Keeps descriptors back for what must go on when traffic has used up the rest: the admin port, the configuration's files, the
//! states of releases.
//!
//! The system gives a new descriptor the lowest number that is free, so the number of a new socket tells how many are left, without
//! anything to be counted. The limit is asked for with each new connection: it may be changed from outside.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::process::{Resource, getrlimit};

/// Descriptors that traffic leaves alone, but for small limits.
const KEPT_BACK: u64 = 16;

/// Whether a new socket to an endpoint is one that has to be left for others.
pub(super) fn is_kept_from_endpoints(socket: &impl AsRawFd) -> bool {
    is_beyond(socket.as_raw_fd(), 1)
}

/// Whether the new socket of a client is one too many. What is left then is for endpoints: clients that are here come first.
pub fn is_kept_from_clients(socket: &impl AsRawFd) -> bool {
    is_beyond(socket.as_raw_fd(), 2)
}

/// Whether the next one would be, while that one waits.
pub fn is_next_kept_from_clients(socket: &impl AsFd) -> bool {
    // A copy gets the number that the next one would get.
    socket.as_fd().try_clone_to_owned().map_or(true, |copy| is_kept_from_clients(&copy))
}

fn is_beyond(number: RawFd, parts: u64) -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_some_and(|limit| u64::try_from(number).unwrap_or(0) >= limit - kept_back(limit, parts))
}

fn kept_back(limit: u64, parts: u64) -> u64 {
    parts * KEPT_BACK.min(limit / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_at_most_is_kept_from_clients_and_half_of_that_from_endpoints() {
        for (limit, endpoints, clients) in [(0, 0, 0), (64, 8, 16), (128, 16, 32), (1 << 20, 16, 32)] {
            assert_eq!((kept_back(limit, 1), kept_back(limit, 2)), (endpoints, clients));
        }
    }

    #[test]
    fn a_socket_of_a_process_with_many_left_is_not_kept() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_kept_from_endpoints(&socket) && !is_kept_from_clients(&socket));
        assert!(!is_next_kept_from_clients(&socket));
        let limit = getrlimit(Resource::Nofile).current.unwrap();
        assert!(
            is_beyond(RawFd::try_from(limit - 16).unwrap(), 1) && !is_beyond(RawFd::try_from(limit - 17).unwrap(), 1)
        );
    }
}

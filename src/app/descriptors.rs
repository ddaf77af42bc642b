//! How many sockets this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A limit below this is one that somebody forgot to raise.
const FEW: u64 = 1024;

/// How many client connections the descriptor limit allows, after raising it as far as the system lets us: each may need one
/// connection upstream, and some descriptors are kept for files, watches and the admin port.
pub fn connections_allowed() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // The soft limit stays where it is if this fails.
    let _ = setrlimit(Resource::Nofile, wanted);
    allowed(getrlimit(Resource::Nofile).current)
}

/// Says so if the descriptor limit is the bottleneck: it is low, or too low for the connections that are asked for.
pub(super) fn warn_if_few(connections: usize) {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let allows = allowed(Some(limit));
    if limit < FEW || connections > allows {
        tracing::warn!(
            "{connections} connections may be open at once, and the limit of {limit} descriptors is enough for {allows}: \
             raise it (ulimit -n, LimitNOFILE=)"
        );
    }
}

fn allowed(descriptors: Option<u64>) -> usize {
    let descriptors = usize::try_from(descriptors.unwrap_or(1 << 20)).unwrap_or(usize::MAX).min(1 << 20);
    (descriptors / 4).max(descriptors.saturating_sub(200) / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_left_but_never_less_than_a_quarter() {
        assert_eq!(allowed(Some(64)), 16);
        assert_eq!(allowed(Some(1024)), 412);
        assert_eq!(allowed(None), (1 << 19) - 100);
        assert_eq!(allowed(Some(0)), 1);
    }
}

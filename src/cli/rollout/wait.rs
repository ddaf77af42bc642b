//! `status --wait`: follows one release to its end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ask::{self, Failure, Releases};
use super::show;
use crate::app::ReleaseStatus;
use crate::cli::view::text::plain;
use crate::rollout::State;

/// How often to look, and how long to do without an answer once there was one: a proxy that is started again goes on with its
/// releases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) poll: Duration,
    pub(super) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { poll: Duration::from_millis(500), patience: Duration::from_secs(10) }
    }
}

/// How it ended.
#[derive(Debug)]
pub(super) struct End {
    /// Whether the canary has all the traffic.
    pub(super) promoted: bool,
    /// What the admin port said then.
    pub(super) answer: Value,
}

/// Waits for the end of a release, and tells what happens until then.
pub(super) fn until_over(
    releases: &Releases,
    name: &str,
    pace: Pace,
    mut tell: impl FnMut(&str),
) -> Result<End, Failure> {
    let mut story = Story::default();
    let mut heard: Option<Instant> = None;
    loop {
        match releases.one(name) {
            Ok(answer) => {
                let status = ask::status(&answer)?;
                if heard.is_none() {
                    tell(&show::headline(&status));
                }
                heard = Some(Instant::now());
                story.read(&status).iter().for_each(|line| tell(line));
                if let Some(end) = story.end {
                    return Ok(End { promoted: end == State::Promoted, answer });
                }
            }
            Err(Failure::Unreachable(_)) if heard.is_some_and(|last| last.elapsed() < pace.patience) => {}
            Err(failure) => return Err(failure),
        }
        sleep(pace.poll);
    }
}

/// The moves of a release as they are read, each once.
#[derive(Debug, Default)]
struct Story {
    /// The last move that was read.
    read: Option<u64>,
    /// How the release ended.
    end: Option<State>,
}

impl Story {
    /// The sentences of the moves since the last look; none at the first.
    fn read(&mut self, status: &ReleaseStatus) -> Vec<String> {
        let events = &status.view.events;
        let news = events.iter().filter(|event| self.read.is_some_and(|read| event.sequence > read));
        let news: Vec<_> = news.collect();
        let state = status.view.state;
        self.end = if state.is_over() {
            Some(state)
        } else if state == State::Idle {
            // It ended between two looks, and an edit of the file has made it idle again.
            news.iter().rev().map(|event| event.to).find(|to| to.is_over())
        } else {
            None
        };
        self.read = Some(events.last().map_or(0, |event| event.sequence));
        news.iter().map(|event| plain(&event.sentence)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use serde_json::json;

    use super::*;
    use crate::cli::admin_client::Admin;

    /// A release in this state whose moves so far led to these.
    fn release(state: Value, moves: &[(u64, Value, &str)]) -> Value {
        let text = include_str!("../../../tests/fixtures/rollouts/held.json");
        let mut release: Value = serde_json::from_str(text).unwrap();
        let event = release["events"][0].take();
        let event = |(sequence, to, sentence): &(u64, Value, &str)| {
            let mut event = event.clone();
            (event["sequence"], event["to"], event["sentence"]) = (json!(sequence), to.clone(), json!(sentence));
            event
        };
        release["events"] = moves.iter().map(event).collect();
        release["state"] = state;
        release
    }

    fn running() -> Value {
        json!({ "name": "running", "step": 1, "phase": "gathering" })
    }

    fn name(name: &str) -> Value {
        json!({ "name": name })
    }

    /// An admin port that gives these answers, one a connection, and is gone then. None: the connection breaks.
    fn answers(list: Vec<Option<(u16, Value)>>) -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for answer in list {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut request, mut byte) = (Vec::new(), [0]);
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    request.push(byte[0]);
                }
                if let Some((status, body)) = answer {
                    let body = body.to_string();
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                    // Who gave up does not listen.
                    let _ = stream.write_all((head + &body).as_bytes());
                }
            }
        });
        (address, server)
    }

    /// How it ends, and what is told until then.
    fn wait(patience: Duration, list: Vec<Option<(u16, Value)>>) -> (Result<bool, Failure>, Vec<String>) {
        let (address, server) = answers(list);
        let admin: Admin = address.to_string().parse().unwrap();
        let mut told = Vec::new();
        let pace = Pace { poll: Duration::from_millis(1), patience };
        let end = until_over(&Releases(admin), "shop", pace, |line| told.push(line.to_owned()));
        // One that gave up early must fail its test, not leave the server waiting.
        while !server.is_finished() {
            let _ = TcpStream::connect(address);
        }
        server.join().unwrap();
        (end.map(|end| end.promoted), told)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn each_move_is_told_once_until_the_end_even_if_the_proxy_is_away_for_a_while() {
        let old = (7, running(), "old");
        let two = [old.clone(), (8, running(), "advanced")];
        let all = [two[0].clone(), two[1].clone(), (9, running(), "held"), (10, name("promoted"), "promoted it")];
        let (end, told) = wait(
            HOUR,
            vec![
                Some((200, release(running(), &[old]))),
                Some((200, release(running(), &two))),
                None,
                None,
                Some((200, release(running(), &two))),
                Some((200, release(name("promoted"), &all))),
            ],
        );
        assert_eq!(end, Ok(true));
        let headline = "shop/product-service: step 2 of 5 at 30 %, gathering, attempt 2";
        assert_eq!(told, [headline, "advanced", "held", "promoted it"]);
    }

    #[test]
    fn only_a_promotion_is_a_good_end() {
        for (state, good) in [("promoted", true), ("rolledBack", false), ("aborted", false)] {
            let (end, told) = wait(HOUR, vec![Some((200, release(name(state), &[(3, name(state), "old")])))]);
            assert_eq!((end, told.len()), (Ok(good), 1), "{state}");
        }
    }

    #[test]
    fn an_end_between_two_looks_counts_and_one_before_the_first_does_not() {
        for (state, good) in [("promoted", true), ("rolledBack", false)] {
            let before = (4, name("aborted"), "long ago");
            let then = [before.clone(), (5, name(state), "over"), (6, name("idle"), "edited")];
            let (end, told) = wait(
                HOUR,
                vec![Some((200, release(name("idle"), &[before]))), Some((200, release(name("idle"), &then)))],
            );
            assert_eq!(end, Ok(good));
            assert_eq!(told[1..], ["over", "edited"]);
        }
    }

    #[test]
    fn whoever_stays_away_is_given_up() {
        let running = || Some((200, release(running(), &[])));
        let is_gone = |end| matches!(end, Err(Failure::Unreachable(_)));
        assert!(is_gone(wait(Duration::ZERO, vec![running()]).0));
        assert!(is_gone(wait(HOUR, Vec::new()).0), "who never was there is not waited for");
    }

    #[test]
    fn a_release_that_left_the_configuration_has_no_end() {
        let gone = json!({ "error": "rollout_not_found", "message": "there is no release `shop`" });
        let (end, _) = wait(HOUR, vec![Some((200, release(running(), &[]))), Some((404, gone))]);
        assert_eq!(end, Err(Failure::Unable("there is no release `shop`".to_owned())));
    }
}

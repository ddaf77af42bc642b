//! Clients of HTTP/2 that cost more than they are worth: each is cut off and counted, and a clean connection to the same worker is
//! served all the time.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::support::config::Config;
use super::support::eventually;
use super::support::frames::{
    CONTINUATION, DATA, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    fields, frame, head, setting,
};
use super::support::proxy::Proxy;
use super::support::upstream::{Upstream, answer};

/// Far more than any flood should be allowed.
const TOO_MUCH: usize = 64 << 20;

/// An upstream that never answers what is asked of `/hang`.
fn upstream() -> Upstream {
    Upstream::answering(|request| match request.head.target().1 {
        "/hang" => loop {
            thread::park();
        },
        "/large" => [b"HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n".as_slice(), &[b'x'; 8 << 20]].concat(),
        _ => answer("v1"),
    })
}

/// Attacks a proxy with one worker; meanwhile and after it a clean client is served by it.
fn beside_a_clean_client(arguments: &[&str], attack: impl FnOnce(&Proxy)) {
    let upstream = upstream();
    let proxy = Proxy::with(&Config::single(&[upstream.port]), &[&["--workers", "1"], arguments].concat());
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut clean = proxy.client();
            while !over.load(Ordering::Relaxed) {
                assert_eq!(clean.get("/").status(), 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
            // By the connection that it had all the time.
            assert_eq!(clean.get("/").status(), 200);
        });
        eventually("the clean client is served", || served.load(Ordering::Relaxed) > 0);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(&proxy)));
        over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(served.load(Ordering::Relaxed) > 1, "nobody else was served");
}

fn closed(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("serin_client_connections_closed_total", &[("reason", reason)])
}

/// It is counted, once.
fn counted(proxy: &Proxy, reason: &str) {
    eventually(&format!("{reason} is counted"), || closed(proxy, reason) >= 1.0);
    assert_eq!(closed(proxy, reason), 1.0);
}

fn stream(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn streams_that_are_reset_one_after_the_other_end_the_connection() {
    beside_a_clean_client(&[], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[]);
        let mut begun = 0;
        let ended = loop {
            assert!(begun < 600, "still open after {begun} streams that were reset at once");
            // Read before they are reset, so that they have become requests.
            let streams: Vec<u32> = (begun..begun + 10).map(stream).collect();
            let heads: Vec<u8> = streams.iter().flat_map(|stream| head(*stream, "GET", "/hang", END_STREAM)).collect();
            let resets: Vec<u8> =
                streams.iter().flat_map(|stream| frame(RST_STREAM, 0, *stream, &8u32.to_be_bytes())).collect();
            let outcome = client.send(heads).and_then(|()| client.settle(u64::from(begun)));
            if let Err(error) = outcome.and_then(|()| client.send(resets)) {
                break error;
            }
            begun += 10;
        };
        assert_ne!(ended.kind(), io::ErrorKind::WouldBlock, "it is closed, not left alone");
        assert!(begun >= 200, "only {begun} streams");
        counted(proxy, "rapid_reset");
        eventually("every stream is recorded", || proxy.requests(&[("code", "499")]) >= f64::from(begun));
    });
}

#[test]
fn streams_that_are_reset_before_they_were_looked_at_end_the_connection() {
    beside_a_clean_client(&[], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[]);
        let pairs = |number| {
            let number = stream(number);
            [head(number, "GET", "/hang", END_STREAM), frame(RST_STREAM, 0, number, &8u32.to_be_bytes())].concat()
        };
        let _ = client.send((0..2_000).flat_map(pairs).collect::<Vec<u8>>());
        client.rest();
        eventually("it is counted", || closed(proxy, "http2_limit") + closed(proxy, "rapid_reset") == 1.0);
    });
}

#[test]
fn streams_that_we_are_made_to_reset_end_the_connection() {
    beside_a_clean_client(&[], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[]);
        let mut ended = false;
        for number in 0..600 {
            let number = stream(number);
            // The window would be too large then: an error of this stream alone.
            let pair = [
                head(number, "GET", "/hang", END_STREAM),
                frame(WINDOW_UPDATE, 0, number, &0x7fff_ffff_u32.to_be_bytes()),
            ];
            let outcome = client.send(pair.concat()).and_then(|()| client.settle(number.into()));
            ended = outcome.is_err();
            if ended {
                break;
            }
        }
        assert!(ended, "still open");
        eventually("it is counted", || closed(proxy, "http2_limit") + closed(proxy, "rapid_reset") == 1.0);
    });
}

#[test]
fn a_head_without_end_ends_the_connection() {
    beside_a_clean_client(&[], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[]);
        let begin = frame(HEADERS, END_STREAM, 1, &fields("GET", "/"));
        let more = frame(CONTINUATION, 0, 1, &[&[0, 1][..], b"x", &[1], b"y"].concat());
        let _ = client.send([begin, more.repeat(10_000)].concat());
        client.rest();
        counted(proxy, "http2_limit");
    });
}

/// Sends a frame again and again; whatever is answered is read. It ends when the connection does.
fn flood(proxy: &Proxy, one: &[u8]) {
    let mut client = Frames::connect(proxy.listen, &[]);
    let mut answers = client.stream().try_clone().unwrap();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while answers.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
    let many = one.repeat(64 * 1024 / one.len());
    let mut sent = 0;
    let error = loop {
        assert!(sent < TOO_MUCH, "{sent} bytes that carry nothing were taken");
        if let Err(error) = client.send(&many) {
            break error;
        }
        sent += many.len();
    };
    assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "it is closed, not left alone");
    assert!(sent >= 4 << 20, "only {sent} bytes");
    reader.join().unwrap();
    counted(proxy, "empty_flood");
}

#[test]
fn pings_without_end_end_the_connection() {
    beside_a_clean_client(&[], |proxy| flood(proxy, &frame(PING, 0, 0, &[0; 8])));
}

#[test]
fn settings_without_end_end_the_connection() {
    let settings = setting(4, 65_535).repeat(8);
    beside_a_clean_client(&[], |proxy| flood(proxy, &frame(SETTINGS, 0, 0, &settings)));
}

#[test]
fn priorities_without_end_end_the_connection() {
    beside_a_clean_client(&[], |proxy| flood(proxy, &frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 16])));
}

#[test]
fn window_updates_without_end_end_the_connection() {
    beside_a_clean_client(&[], |proxy| flood(proxy, &frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())));
}

#[test]
fn empty_data_without_end_ends_the_connection() {
    beside_a_clean_client(&[], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[]);
        let begin = head(1, "POST", "/hang", 0);
        let _ = client.send([begin, frame(DATA, 0, 1, &[]).repeat(10_000)].concat());
        client.rest();
        counted(proxy, "http2_limit");
    });
}

#[test]
fn streams_over_the_limit_are_refused_and_too_many_of_them_end_the_connection() {
    beside_a_clean_client(&[], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[]);
        let heads = |numbers: std::ops::Range<u32>| -> Vec<u8> {
            numbers.flat_map(|number| head(stream(number), "GET", "/hang", END_STREAM)).collect()
        };
        client.send(heads(0..101)).unwrap();
        let refused = client.until(|frame| frame.kind == RST_STREAM).unwrap();
        assert_eq!((refused.stream, refused.payload), (stream(100), 7u32.to_be_bytes().to_vec()), "REFUSED_STREAM");
        client.settle(1).unwrap();
        let _ = client.send(heads(101..1_000));
        client.rest();
        counted(proxy, "http2_limit");
        eventually("the hundred are recorded", || proxy.requests(&[("code", "499")]) == 100.0);
    });
}

#[test]
fn a_client_that_opens_no_window_loses_its_stream_and_then_its_connection() {
    beside_a_clean_client(&["--write-timeout", "1s", "--keepalive-timeout", "2s"], |proxy| {
        // SETTINGS_INITIAL_WINDOW_SIZE
        let mut client = Frames::connect(proxy.listen, &[(4, 0)]);
        for (number, path) in [(1, "/"), (3, "/large")] {
            client.send(head(number, "GET", path, END_STREAM)).unwrap();
            let answer = client.next_of(number);
            assert_eq!(answer.kind, HEADERS, "the head needs no window");
            let reset = client.next_of(number);
            assert_eq!((reset.kind, reset.payload), (RST_STREAM, 8u32.to_be_bytes().to_vec()), "CANCEL");
        }
        // Of the first one all was handed over.
        eventually("the other one is recorded", || proxy.metric("http_response_flags_total", &[("flag", "DC")]) == 1.0);
        assert!(client.rest(), "without a stream, it is told to go");
        counted(proxy, "idle");
    });
}

#[test]
fn a_client_that_takes_piece_by_piece_keeps_its_stream() {
    beside_a_clean_client(&["--write-timeout", "3s"], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[(4, 0)]);
        client.send(head(1, "GET", "/large", END_STREAM)).unwrap();
        assert_eq!(client.next_of(1).kind, HEADERS);
        let mut taken = 0;
        // Longer than it may take nothing.
        for _ in 0..9 {
            thread::sleep(Duration::from_millis(500));
            let window = (256u32 * 1024).to_be_bytes();
            client.send([frame(WINDOW_UPDATE, 0, 0, &window), frame(WINDOW_UPDATE, 0, 1, &window)].concat()).unwrap();
            let until = taken + 256 * 1024;
            while taken < until {
                let piece = client.next_of(1);
                assert_eq!(piece.kind, DATA, "after {taken} bytes");
                taken += piece.payload.len();
            }
        }
    });
}

#[test]
fn a_connection_without_streams_is_told_to_go_though_it_pings() {
    beside_a_clean_client(&["--keepalive-timeout", "1s"], |proxy| {
        let mut client = Frames::connect(proxy.listen, &[]);
        let mut number = 0;
        // As long as it is allowed to.
        let said = loop {
            number += 1;
            client.send(frame(PING, 0, 0, &u64::to_be_bytes(number))).unwrap();
            let answer = client.until(|frame| matches!(frame.kind, PING | GOAWAY)).unwrap();
            if answer.kind == GOAWAY {
                break answer;
            }
            thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(said.payload[4..8], 0u32.to_be_bytes(), "NO_ERROR");
        client.rest();
        counted(proxy, "idle");
    });
}

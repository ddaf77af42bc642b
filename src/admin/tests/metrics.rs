//! `/metrics`, and scrapes that take their time.

use std::sync::{Mutex, mpsc};

use super::*;

#[test]
fn metrics_are_prometheus_text() {
    let answer = Admin::start().ask("GET /metrics", "");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("\nserin_config_generation 0\n"), "{}", answer.body);
}

/// Sends a request for the metrics and does not wait.
fn scrape(admin: &Admin) -> TcpStream {
    let mut stream = admin.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    stream
}

/// Those that wait for it hold no thread, so that other resources have some.
#[test]
fn one_scrape_is_rendered_at_a_time() {
    let (inside, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (entered, enters) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let (seen, may_go) = (Arc::clone(&most), Mutex::new(may_go));
    let admin = Admin::with(|state| {
        state.metrics = Box::new(move || {
            seen.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            entered.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
            inside.fetch_sub(1, SeqCst);
            "one 1\n".to_owned()
        });
    });
    // The first one goes away and keeps its turn until it is rendered.
    drop(scrape(&admin));
    enters.recv_timeout(PATIENCE).unwrap();
    let waiting: Vec<_> = (0..6).map(|_| scrape(&admin)).collect();
    assert_eq!(admin.ask("GET /config/status", "").status, 200);
    (0..7).for_each(|_| go.send(()).unwrap());
    for stream in waiting {
        assert_eq!(Answer::read(stream).body, "one 1\n");
    }
    assert_eq!(most.load(SeqCst), 1);
}

/// More of them than there are connections, each with an answer that does not fit into any buffer.
#[test]
fn scrapes_that_nobody_reads_lock_nobody_out() {
    let admin = Admin::with(|state| state.metrics = Box::new(|| "x".repeat(16 << 20)));
    let stalled: Vec<_> = (0..17).map(|_| scrape(&admin)).collect();
    assert_eq!(admin.ask("GET /live", "").status, 200);
    let mut first = stalled.into_iter().next().unwrap();
    let mut taken = Vec::new();
    // It was torn off, or it ended early.
    let _ = first.read_to_end(&mut taken);
    assert!(taken.len() < 16 << 20, "it was not kept for whoever may read it one day");
}

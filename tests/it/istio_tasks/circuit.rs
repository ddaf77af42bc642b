//! Circuit breaking: one connection to httpbin, one request that waits for it, and no more.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::Task;
use crate::support::eventually;
use crate::support::upstream::{Upstream, answer};
use crate::support::wire::Message;

/// httpbin, which answers while its gate is open and notes how many requests it has had at once.
#[derive(Default)]
struct Httpbin {
    open: Mutex<bool>,
    opened: Condvar,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Httpbin {
    fn start(self: &Arc<Self>) -> Upstream {
        let own = Arc::clone(self);
        Upstream::answering(move |_| {
            own.most.fetch_max(own.now.fetch_add(1, SeqCst) + 1, SeqCst);
            let open = own.open.lock().unwrap_or_else(PoisonError::into_inner);
            drop(own.opened.wait_while(open, |open| !*open).unwrap_or_else(PoisonError::into_inner));
            own.now.fetch_sub(1, SeqCst);
            answer("httpbin")
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }
}

fn is_refused(answer: &Message) -> bool {
    let refused = answer.status() == 503;
    assert_eq!(answer.head.get("x-envoy-overloaded"), if refused { "true" } else { "" });
    assert_eq!(answer.head.get("x-serin-flag"), if refused { "UO" } else { "" });
    assert!(refused || answer.status() == 200, "{answer:?}");
    refused
}

#[test]
fn what_comes_on_top_of_one_request_and_one_that_waits_is_refused() {
    let httpbin = Arc::<Httpbin>::default();
    let upstream = httpbin.start();
    let task = Task::with(&["httpbin-circuit-breaker"], &[("httpbin", upstream.port)], &["--workers", "2"]);
    let ask = || {
        let mut client = task.proxy.client();
        thread::spawn(move || is_refused(&client.ask("httpbin", "/get", &[]).unwrap()))
    };
    // Until it is connected it is itself one that waits, as in Envoy.
    let mut clients = vec![ask()];
    eventually("the first is served", || upstream.ledger.len() == 1);
    clients.extend((0..5).map(|_| ask()));
    eventually("four are refused while one waits", || task.flagged("UO") == 4.0);
    assert_eq!(upstream.ledger.len(), 1);
    httpbin.open();
    let refused = clients.into_iter().map(|client| client.join().unwrap()).filter(|refused| *refused).count();
    assert_eq!((refused, upstream.ledger.len(), httpbin.most.load(SeqCst)), (4, 2, 1));
    assert_eq!(upstream.ledger.connections(), 2, "a connection serves one request");
    assert!(!is_refused(&task.ask("httpbin", &[])), "refusals are no failures of httpbin: it is not ejected");
}

#[test]
fn under_load_what_is_not_refused_is_served_one_at_a_time() {
    const CLIENTS: usize = 3;
    const EACH: usize = 100;
    let httpbin = Arc::<Httpbin>::default();
    let upstream = httpbin.start();
    let task = Task::with(&["httpbin-circuit-breaker"], &[("httpbin", upstream.port)], &["--workers", "2"]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = task.proxy.client();
            thread::spawn(move || {
                (0..EACH).filter(|_| is_refused(&client.ask("httpbin", "/get", &[]).unwrap())).count()
            })
        })
        .collect();
    eventually("there is a refusal", || task.flagged("UO") >= 1.0);
    httpbin.open();
    let refused: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let served = CLIENTS * EACH - refused;
    assert!(refused >= 1 && served >= 2, "{refused} refused, {served} served");
    assert_eq!((upstream.ledger.len(), upstream.ledger.connections()), (served, served));
    assert_eq!(httpbin.most.load(SeqCst), 1);
    let counted = |code| task.proxy.requests(&[("app", "httpbin"), ("code", code)]);
    assert_eq!((counted("200"), counted("503"), task.flagged("UO")), (served as f64, refused as f64, refused as f64));
}

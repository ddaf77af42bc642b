//! `loadBalancer.warmup`: an endpoint that comes later gets less at first.

use std::time::{Duration, Instant};

use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::Upstream;

/// How many of 200 requests go to an endpoint that has just been added to an older one.
fn given_to_the_new_one(balancer: &str) -> usize {
    let (old, new) = (Upstream::named("v1"), Upstream::named("v1"));
    let policy = format!("{{loadBalancer: {{{balancer}}}}}");
    let proxy = Proxy::start(&Config::single(&[old.port]).policy(&policy));
    let since = Instant::now();
    eventually("the first endpoint has been there for a while", || since.elapsed() >= Duration::from_secs(1));
    proxy.save(&Config::single(&[old.port, new.port]).policy(&policy).yaml());
    eventually("the second endpoint is there", || proxy.generation() == 2);
    let mut client = proxy.client();
    (0..200).for_each(|_| assert_eq!(client.get("/").status(), 200));
    assert_eq!(old.ledger.len() + new.ledger.len(), 200);
    new.ledger.len()
}

#[test]
fn a_new_endpoint_gets_less_than_one_that_has_been_there_longer() {
    // Of an hour both have seen little, so each gets by its age.
    for simple in ["simple: ROUND_ROBIN", "simple: LEAST_REQUEST"] {
        let new = given_to_the_new_one(&format!("{simple}, warmup: {{duration: 1h, minimumPercent: 0}}"));
        assert!(new < 95, "{simple}: {new}");
    }
    let old_spelling = given_to_the_new_one("simple: ROUND_ROBIN, warmupDurationSecs: 1h");
    assert!((99..=101).contains(&old_spelling), "both at the least, a tenth: {old_spelling}");
}

#[test]
fn without_a_warmup_a_new_endpoint_gets_its_share_at_once() {
    assert_eq!(given_to_the_new_one("simple: ROUND_ROBIN"), 100);
}

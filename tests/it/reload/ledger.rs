//! Reloads under every kind of load: each request is followed from the client to the upstream by its id.

use std::fs;

use serin::config::load;

use crate::support::clients::{Clients, Mix, rounds};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::proxy::{Proxy, serin};
use crate::support::upstream::Upstream;

use super::writers;

/// `SERIN_RELOADS` says how often, thirty times without it; prints how many requests that were. Weights and rules change, the
/// file is saved in every way, and every fifth change comes after one that is refused.
#[test]
fn a_proxy_that_is_reloaded_under_load_loses_nothing_and_repeats_nothing() {
    let rounds = rounds("SERIN_RELOADS", 30);
    let [v1, v2] = ["v1", "v2"].map(Upstream::named);
    let config = Config::default().version("v1", 100, &[v1.port]).version("v2", 0, &[v2.port]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vs.yaml");
    fs::write(&path, config.yaml()).unwrap();
    let mut proxy = Proxy::spawn(folder, serin().arg("run").arg(&path).args(["--workers", "2"]));
    let clients = Clients::start(proxy.listen, Mix::ALL);
    let served = || v1.ledger.len() + v2.ledger.len();
    for round in 1..=rounds {
        let before = served();
        if round % 5 == 0 {
            fs::write(&path, format!("half: [{round}")).unwrap();
            eventually("it is rejected", || proxy.status()["on_disk"]["state"] == "rejected");
        }
        let share = u32::try_from(round * 37 % 101).unwrap();
        let changed = config
            .weights(&[100 - share, share])
            .rule(&format!("headers: {{request: {{set: {{x-round: '{round}'}}}}}}"));
        let (_, save) = writers::ALL[round % writers::ALL.len()];
        save(&path, &changed.yaml());
        let saved = load::read(std::slice::from_ref(&path), false).hash();
        eventually("it is in force", || proxy.status()["hash"] == saved.as_str());
        eventually("it serves", || served() > before + 50);
    }
    clients.finish().check(&[&v1.ledger, &v2.ledger], 0);
    println!("{rounds} reloads under {} requests", served());
    proxy.signal(rustix::process::Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0), "{}", proxy.log());
}

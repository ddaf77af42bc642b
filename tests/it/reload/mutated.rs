//! Slips of the hand under load: whatever is saved by mistake, nobody notices, and what is right again is in force at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serin::config::load;
use serin::config::settings::Settings;

use crate::config_robust::{apply, fixtures, slips};
use crate::support::clients::{Clients, Mix, rounds};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::proxy::{Proxy, serin};
use crate::support::upstream::{Ledger, Upstream};

use super::writers;

/// Mistakes between two configurations that are right.
const MISTAKES: usize = 20;
/// Enough of each kind to see what there is to see, and few enough to leave the processor to the reloads.
const MIX: Mix = Mix { kept_alive: 2, streams: 1, new: 1, slow: 2, tunnels: 1, come_back: true };

/// Every request goes to one version, which sees whose configuration that was.
fn all_to(config: &Config, version: usize, round: &str) -> String {
    let shares = if version == 0 { [100, 0] } else { [0, 100] };
    config.weights(&shares).rule(&format!("headers: {{request: {{set: {{x-round: {round}}}}}}}")).yaml()
}

/// Texts with slips that make them wrong. Those that a slip does no harm to are no mistakes.
struct Mistakes {
    runner: TestRunner,
    fixtures: Vec<String>,
    made: usize,
}

impl Mistakes {
    /// The next one: in every fourth, the operator has the wrong file, too.
    fn next(&mut self, right: &str, path: &Path) -> String {
        loop {
            self.made += 1;
            let other = (self.made % 4 == 0).then(|| self.made / 4 % self.fixtures.len());
            let mut text = other.map_or_else(|| right.to_owned(), |index| self.fixtures[index].clone());
            let changes = slips().new_tree(&mut self.runner).unwrap().current();
            changes.iter().for_each(|change| apply(&mut text, change));
            let source = load::Source { path: path.to_owned(), text: text.clone().into() };
            let read = load::Read { sources: vec![source], ..load::Read::default() };
            if !load::load(read, &Settings::default()).is_valid() {
                return text;
            }
        }
    }
}

/// Each request went where the configuration of its round sends it, none met a mistake, and who asks again never meets an
/// earlier configuration than before.
fn check_routes(ledgers: [&Ledger; 2]) {
    let mut rounds: BTreeMap<String, BTreeMap<usize, usize>> = BTreeMap::new();
    for (version, ledger) in ledgers.into_iter().enumerate() {
        for seen in ledger.all().iter() {
            let (head, target) = (&seen.request.head, seen.request.head.target().1);
            let round = head.get("x-round").parse::<usize>().unwrap_or_else(|_| panic!("{head:?}"));
            assert_eq!(round % 2, version, "{head:?}");
            let (client, number) = target.rsplit_once('/').unwrap();
            rounds.entry(client.to_owned()).or_default().insert(number.parse().unwrap(), round);
        }
    }
    for (client, rounds) in rounds {
        assert!(rounds.values().is_sorted(), "{client} went back: {rounds:?}");
    }
}

/// `SERIN_MISTAKES` says how many, a hundred without it; prints how many requests that were.
#[test]
fn mistakes_that_are_saved_under_load_lose_nothing_and_change_no_route() {
    let wanted = rounds("SERIN_MISTAKES", 100);
    let versions = ["v1", "v2"].map(Upstream::named);
    let config = Config::default().version("v1", 100, &[versions[0].port]).version("v2", 0, &[versions[1].port]);
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("vs.yaml");
    fs::write(&path, all_to(&config, 0, "'0'")).unwrap();
    let proxy = Proxy::spawn(folder, serin().arg("run").arg(&path).args(["--workers", "2"]));
    let clients = Clients::start(proxy.listen, MIX);
    let mut mistakes = Mistakes { runner: TestRunner::deterministic(), fixtures: fixtures(), made: 0 };
    let hash = || load::load(load::read(std::slice::from_ref(&path), false), &Settings::default()).hash;
    let mut round = 0;
    for number in 1..=wanted {
        let wrong = mistakes.next(&all_to(&config, 1 - round % 2, &format!("mistake-{number}")), &path);
        writers::ALL[number % writers::ALL.len()].1(&path, &wrong);
        let saved = hash();
        eventually(&format!("mistake {number} is refused"), || {
            let on_disk = &proxy.status()["on_disk"];
            on_disk["hash"] == saved.as_str() && on_disk["state"] == "rejected"
        });
        if number % MISTAKES == 0 || number == wanted {
            round += 1;
            writers::ALL[round % writers::ALL.len()].1(&path, &all_to(&config, round % 2, &format!("'{round}'")));
            let (saved, before) = (hash(), versions[round % 2].ledger.len());
            eventually("what is right is in force", || proxy.status()["hash"] == saved.as_str());
            eventually("its version is asked", || versions[round % 2].ledger.len() > before + 20);
        }
    }
    let ledgers = [&versions[0].ledger, &versions[1].ledger];
    clients.finish().check(&ledgers, 0);
    check_routes(ledgers);
    let served: usize = ledgers.iter().map(|ledger| ledger.len()).sum();
    println!("{wanted} mistakes and {round} right ones under {served} requests");
    assert_eq!(proxy.generation(), round as u64 + 1, "nothing else was ever in force");
}

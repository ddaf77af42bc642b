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
/// Configurations that are right, until other clients come.
const SHIFT: usize = 2;
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
            let other = self.made.is_multiple_of(4).then(|| self.made / 4 % self.fixtures.len());
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

/// A proxy of a file that is saved again and again.
struct Edited {
    proxy: Proxy,
    path: PathBuf,
    config: Config,
    versions: [Upstream; 2],
    mistakes: Mistakes,
    /// Of the configuration in force.
    round: usize,
}

impl Edited {
    fn start() -> Self {
        let versions = ["v1", "v2"].map(Upstream::named);
        let config = Config::default().version("v1", 100, &[versions[0].port]).version("v2", 0, &[versions[1].port]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vs.yaml");
        fs::write(&path, all_to(&config, 0, "'0'")).unwrap();
        let proxy = Proxy::spawn(folder, serin().arg("run").arg(&path).args(["--workers", "2"]));
        let mistakes = Mistakes { runner: TestRunner::deterministic(), fixtures: fixtures(), made: 0 };
        Self { proxy, path, config, versions, mistakes, round: 0 }
    }

    /// Saves a text in one of the ways; the hash of what is on disk then.
    fn save(&self, way: usize, text: &str) -> String {
        writers::ALL[way % writers::ALL.len()].1(&self.path, text);
        load::load(load::read(std::slice::from_ref(&self.path), false), &Settings::default()).hash
    }

    /// It would send everything to the other version.
    fn mistake(&mut self, number: usize) {
        let right = all_to(&self.config, 1 - self.round % 2, &format!("mistake-{number}"));
        let wrong = self.mistakes.next(&right, &self.path);
        let saved = self.save(number, &wrong);
        eventually(&format!("mistake {number} is refused"), || {
            let on_disk = &self.proxy.status()["on_disk"];
            on_disk["hash"] == saved.as_str() && on_disk["state"] == "rejected"
        });
    }

    fn put_right(&mut self) {
        self.round += 1;
        let saved = self.save(self.round, &all_to(&self.config, self.round % 2, &format!("'{}'", self.round)));
        eventually("what is right is in force", || self.proxy.status()["hash"] == saved.as_str());
        let ledger = &self.versions[self.round % 2].ledger;
        let before = ledger.len();
        eventually("its version is asked", || ledger.len() > before + 20);
    }
}

/// `SERIN_MISTAKES` says how many, a hundred without it; prints how many requests that were.
#[test]
fn mistakes_that_are_saved_under_load_lose_nothing_and_change_no_route() {
    let wanted = rounds("SERIN_MISTAKES", 100);
    let (mut edited, mut served) = (Edited::start(), 0);
    let mut numbers = 1..=wanted;
    while !numbers.is_empty() {
        let clients = Clients::start(edited.proxy.listen, MIX);
        for _ in 0..SHIFT {
            numbers.by_ref().take(MISTAKES).for_each(|number| edited.mistake(number));
            edited.put_right();
        }
        let ledgers = [&edited.versions[0].ledger, &edited.versions[1].ledger];
        clients.finish().check(&ledgers, 0);
        check_routes(ledgers);
        served += ledgers.map(Ledger::forget).iter().sum::<usize>();
    }
    println!("{wanted} mistakes and {} right ones under {served} requests", edited.round);
    assert_eq!(edited.proxy.generation(), edited.round as u64 + 1, "nothing else was ever in force");
}

//! The README's table of metrics against what a scraper gets, and the metrics that the docs name.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tokio::time::Instant;

use super::*;

/// Each metric with its labels; those of the process as one.
type Table = BTreeMap<String, BTreeSet<String>>;

/// Metrics of which each that is only there once something happened is there.
fn everything() -> Scrape {
    let (metrics, [v1, v2]) = canary();
    let _endpoint = metrics.endpoint("shop", "v1", "10.0.0.1:80");
    let aborted = Some(Blame::Upstream);
    let failed = Finished { error: Some(ProxyError::ConnectionRefused), flags: Flag::UF.into(), ..request(503, 1) };
    v1.finished(Worker(0), &Finished { aborted, ..failed });
    v2.finished(Worker(0), &Finished { grpc: Some(0), ..request(200, 1) });
    v2.destination().mirrored(Worker(0), MirrorResult::Sent);
    metrics.reloads().in_force(1, "hash");
    metrics.dns().set_oldest_answer(Some(Instant::now()));
    metrics.overload().set_memory_limit(1 << 30);
    let evidence = EvidenceGauges { test: "error", ln_ratio: 0.0, ln_guard: 0.0, ln_limit: 5.0 };
    let release = RolloutGauges {
        name: "shop".to_owned(),
        state: "held",
        step: 1,
        declared: 0.0,
        effective: 0.1,
        evidence: vec![evidence],
    };
    metrics.rollouts().set(vec![release]);
    metrics.rollouts().moved("shop", "warming", "gathering", "warmedUp");
    Scrape::of(&metrics)
}

fn exported() -> Table {
    let scrape = everything();
    let mut table = Table::new();
    for name in scrape.types.keys() {
        let own = |series: &str| {
            series.strip_prefix(name.as_str()).is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
        };
        let labels = scrape.samples.keys().filter(|(series, _)| own(series)).flat_map(|(_, labels)| labels.keys());
        let name = if name.starts_with("process_") { "process_…" } else { name };
        table.entry(name.to_owned()).or_default().extend(labels.filter(|label| *label != "le").cloned());
    }
    table
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// A row may be of several metrics with the same labels.
fn documented() -> Table {
    let text = read("README.md");
    let rows = text.lines().skip_while(|line| !line.starts_with("| metric |")).skip(2);
    let list = |cell: &str| cell.split(", ").filter(|one| !one.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let mut table = Table::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        for name in list(&cells[1].replace('`', "")) {
            assert!(table.insert(name.clone(), list(cells[2]).into_iter().collect()).is_none(), "{name} twice");
        }
    }
    table
}

#[test]
fn the_readme_lists_what_is_exported_with_its_labels() {
    let (exported, documented) = (exported(), documented());
    for (name, labels) in &exported {
        assert_eq!(documented.get(name), Some(labels), "{name}: its labels in README.md, and in a scrape");
    }
    for name in documented.keys() {
        assert!(exported.contains_key(name), "README.md lists {name}, which is not exported");
    }
}

#[test]
fn everything_that_is_declared_is_exported() {
    let exported = exported();
    let declared = include_str!("../names.rs")
        .split('"')
        .filter(|text| ["http_", "grpc_", "serin_"].iter().any(|start| text.starts_with(start)));
    let missing: Vec<_> = declared.filter(|name| !exported.contains_key(*name)).collect();
    assert!(missing.is_empty(), "`everything` does not make these happen: {missing:?}");
}

#[test]
fn the_docs_name_no_metric_that_is_not_there() {
    let exported = exported();
    let docs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap();
    let files = docs.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut named = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for name in words.filter(|word| word.starts_with("serin_")) {
            assert!(exported.contains_key(name), "{} names {name}, which is not exported", file.display());
            named += 1;
        }
    }
    assert!(named > 0, "the docs name metrics");
}

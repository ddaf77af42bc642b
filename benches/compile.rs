//! The way of a reload, stage by stage: `cargo bench --bench compile`. Each stage is measured on what the one before it
//! gave, for configurations of so many VirtualServices of ten rules each, with a DestinationRule and a ServiceEntry for
//! every one. "max alloc" is what a stage holds in memory at most, besides its input.

#[path = "fixture/text.rs"]
mod text;

use std::sync::Arc;

use divan::{AllocProfiler, Bencher};
use mimalloc::MiMalloc;
use serin::config::load::{self, Loaded, Read};
use serin::config::place::Place;
use serin::config::settings::Settings;
use serin::config::validate;
use serin::routing::{Options, compile};
use serin::snapshot::{Builder, Snapshot, Snapshots, active_routes};
use serin::telemetry::{Buckets, Metrics};
use serin::upstream::Registry;
use tempfile::TempDir;

/// Rules of each VirtualService.
const RULES: usize = 10;

/// The allocator of the binary, counting.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

/// Workers of the proxy that is reloaded.
const WORKERS: usize = 2;

/// VirtualServices.
const SIZES: [usize; 2] = [1_000, 10_000];

/// A configuration on disk.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new(services: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        text::write(folder.path(), services, RULES, [8081, 8082]);
        Self { folder }
    }

    fn read(&self) -> Read {
        load::read(&[self.folder.path().to_owned()], false)
    }
}

fn settings() -> Settings {
    Settings { references: true, mesh_ports: vec![80], ..Settings::default() }
}

fn loaded(services: usize) -> Loaded {
    let loaded = load::load(Disk::new(services).read(), &settings());
    assert!(loaded.is_valid());
    loaded
}

/// What lives through every reload.
struct Alive {
    builder: Builder,
    snapshots: Snapshots,
}

impl Alive {
    /// With this configuration in force.
    fn serving(loaded: &Loaded) -> Self {
        let (registry, metrics) = (Arc::new(Registry::new(WORKERS)), Metrics::new(WORKERS, Buckets::Fine));
        let builder = Builder { settings: settings(), registry, metrics };
        let snapshots = Snapshots::new(builder.empty());
        let alive = Self { builder, snapshots };
        alive.swap(alive.build(loaded));
        alive
    }

    /// A snapshot of it on what is alive.
    fn build(&self, loaded: &Loaded) -> Snapshot {
        let place = |place: Place| format!("services.yaml:{}", place.line);
        let built = self.builder.build(&loaded.resources, loaded.named(), &place, 1);
        built.expect("no resource names a file")
    }

    /// Lets metrics know of it.
    fn activate(&self, snapshot: &Snapshot) {
        self.builder.metrics.activate(active_routes(snapshot));
    }

    /// Puts it in force, and frees the one before it.
    fn swap(&self, snapshot: Snapshot) {
        self.snapshots.publish(snapshot);
        self.builder.registry.prune();
    }
}

#[divan::bench(args = SIZES, sample_count = 5)]
fn stage_1_read(bencher: Bencher<'_, '_>, services: usize) {
    let disk = Disk::new(services);
    bencher.bench_local(|| {
        let read = disk.read();
        (read.hash(), read)
    });
}

#[divan::bench(args = SIZES, sample_count = 5)]
fn stage_2_parse(bencher: Bencher<'_, '_>, services: usize) {
    let disk = Disk::new(services);
    bencher.with_inputs(|| disk.read().sources).bench_local_values(load::parse);
}

#[divan::bench(args = SIZES, sample_count = 5)]
fn stage_3_validate(bencher: Bencher<'_, '_>, services: usize) {
    let loaded = loaded(services);
    bencher.bench_local(|| validate::check(&loaded.resources, &settings()));
}

/// Rules and hosts alone, with nothing behind them.
#[divan::bench(args = SIZES, sample_count = 5)]
fn stage_4_compile(bencher: Bencher<'_, '_>, services: usize) {
    let loaded = loaded(services);
    let options = Options::new(&loaded.resources, &settings());
    bencher.bench_local(|| compile(&loaded.resources, &options, &mut |_| ()));
}

/// The same with live clusters and counters, most of which are those of the generation before.
#[divan::bench(args = SIZES, sample_count = 5)]
fn stage_5_build(bencher: Bencher<'_, '_>, services: usize) {
    let loaded = loaded(services);
    let alive = Alive::serving(&loaded);
    bencher.bench_local(|| alive.build(&loaded));
}

#[divan::bench(args = SIZES, sample_count = 5)]
fn stage_6_activate(bencher: Bencher<'_, '_>, services: usize) {
    let loaded = loaded(services);
    let alive = Alive::serving(&loaded);
    let snapshot = alive.build(&loaded);
    bencher.bench_local(|| alive.activate(&snapshot));
}

#[divan::bench(args = SIZES, sample_count = 5)]
fn stage_7_swap(bencher: Bencher<'_, '_>, services: usize) {
    let loaded = loaded(services);
    let alive = Alive::serving(&loaded);
    bencher.with_inputs(|| alive.build(&loaded)).bench_local_values(|snapshot| alive.swap(snapshot));
}

/// All of it.
#[divan::bench(args = SIZES, sample_count = 5)]
fn whole(bencher: Bencher<'_, '_>, services: usize) {
    let disk = Disk::new(services);
    let alive = Alive::serving(&loaded(services));
    bencher.bench_local(|| {
        let loaded = load::load(disk.read(), &settings());
        let snapshot = alive.build(&loaded);
        alive.activate(&snapshot);
        alive.swap(snapshot);
    });
}

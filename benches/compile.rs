//! From resources to the table: `cargo bench --bench compile`.

mod fixture;

use divan::Bencher;
use serin::routing::{Options, compile};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[divan::bench(args = [1_000, 10_000], sample_count = 10)]
fn virtual_services(bencher: Bencher<'_, '_>, count: usize) {
    let resources = fixture::resources(count, |number| format!("service-{number}.shop.example.com"));
    let options = Options { mesh_ports: vec![80], any_host: false };
    bencher.bench_local(|| compile(&resources, &options, &mut |_| ()));
}

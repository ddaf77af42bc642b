//! The look-up of a route among many virtual hosts of ten rules each: `cargo bench --bench routing`.

mod fixture;

use divan::{Bencher, black_box, counter::ItemsCount};
use http::HeaderMap;
use serin::routing::{Found, Options, RequestView, RouteTable, compile};

/// The allocator of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const HOSTS: &[usize] = &[1, 100, 10_000];

/// Requests of one round, no two after another for the same host.
const REQUESTS: usize = 10_000;

fn table(hosts: usize, host: impl Fn(usize) -> String) -> RouteTable<()> {
    let options = Options { mesh_ports: vec![80], any_host: false };
    compile(&fixture::resources(hosts, host), &options, &mut |_| ())
}

fn look_up(bencher: Bencher<'_, '_>, table: &RouteTable<()>, authority: impl Fn(usize) -> String) {
    let headers = HeaderMap::new();
    // Steps by a prime visit hosts and rules in an order that no cache foresees.
    let path = |rule| format!("/api/v1/resource-{rule}/items?page=2");
    let requests: Vec<_> =
        (0..REQUESTS).map(|step| (authority(step * 7919), path(step * 31 % fixture::RULES))).collect();
    bencher.counter(ItemsCount::new(REQUESTS)).bench_local(|| {
        for (authority, path) in &requests {
            let request = RequestView { method: "GET", scheme: "http", authority, path, headers: &headers, port: 80 };
            let found = table.find(black_box(&request));
            assert!(matches!(black_box(found), Found::Route(_)));
        }
    });
}

#[divan::bench(args = HOSTS)]
fn exact(bencher: Bencher<'_, '_>, hosts: usize) {
    let host = |number: usize| format!("service-{}.shop.example.com", number % hosts);
    look_up(bencher, &table(hosts, host), host);
}

#[divan::bench(args = HOSTS)]
fn wildcard(bencher: Bencher<'_, '_>, hosts: usize) {
    let host = |number: usize| format!("service-{}.shop.example.com", number % hosts);
    look_up(bencher, &table(hosts, |number| format!("*.{}", host(number))), |number| format!("eu.{}:80", host(number)));
}

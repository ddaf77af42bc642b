//! What a registry answers.

use super::*;
use crate::config::resource::Metadata;
use crate::config::resource::destination_rule::Subset;
use crate::config::resource::service_entry::WorkloadEntry;
use crate::config::testing::{at, map, text};

fn workload(address: &str, labels: &[(&str, &str)]) -> WorkloadEntry {
    WorkloadEntry { address: text(address), labels: map(labels), place: Place::default(), ..Default::default() }
}

fn service_port(number: i64, name: &str, target: Option<i64>) -> Option<ServicePort> {
    Some(ServicePort { number: at(number), name: text(name), target_port: target.map(at), ..Default::default() })
}

fn resource<S>(spec: S) -> Resource<S> {
    let metadata = Metadata { name: text("x"), namespace: text("shop"), ..Default::default() };
    Resource { metadata, spec, place: Place::default() }
}

fn canary() -> ServiceEntry {
    let mut v2 = workload("10.0.0.2", &[("version", "v2")]);
    v2.ports = vec![(text("http"), at(9000))];
    v2.weight = Some(at(3));
    ServiceEntry {
        hosts: vec![text("Product-Service.")],
        ports: vec![service_port(80, "http", Some(8081)), service_port(90, "grpc", None)],
        resolution: Some(at(Resolution::Static)),
        endpoints: vec![workload("10.0.0.1", &[("version", "v1")]), v2, workload("unix:///run/x", &[])],
        ..Default::default()
    }
}

fn registry(entries: Vec<ServiceEntry>, settings: &Settings) -> Services {
    let service_entries = entries.into_iter().map(resource).collect();
    Services::new(&Resources { service_entries, ..Default::default() }, settings)
}

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

#[test]
fn a_host_is_found_by_every_way_to_write_it() {
    let services = registry(vec![canary()], &Settings::default());
    for host in ["product-service", "PRODUCT-SERVICE", "product-service.", "product-service.shop.svc.cluster.local"] {
        assert_eq!(services.find(host, "default").map(|found| found.host.as_str()), Some("product-service"), "{host}");
    }
    assert!(services.find("product-service.default.svc.cluster.local", "shop").is_none());
    assert!(services.find("product", "shop").is_none());
}

#[test]
fn a_short_name_finds_the_long_one_of_its_namespace() {
    let long = ServiceEntry { hosts: vec![text("reviews.prod.svc.cluster.local")], ..canary() };
    let services = registry(vec![long], &Settings::default());
    assert!(services.find("reviews", "prod").is_some());
    assert!(services.find("reviews", "test").is_none());
}

#[test]
fn the_port_is_that_of_the_endpoint_then_the_target_then_the_number() {
    let services = registry(vec![canary()], &Settings::default());
    let service = services.find("product-service", "shop").unwrap();
    let unix = Address::Unix("/run/x".into());
    assert_eq!(
        service.endpoints_for(Some(80), None),
        [(ip("10.0.0.1"), 8081, 1), (ip("10.0.0.2"), 9000, 3), (unix.clone(), 0, 1)]
    );
    assert_eq!(service.endpoints_for(Some(90), None), [(ip("10.0.0.1"), 90, 1), (ip("10.0.0.2"), 90, 3), (unix, 0, 1)]);
}

#[test]
fn a_subset_takes_the_endpoints_that_carry_all_of_its_labels() {
    let services = registry(vec![canary()], &Settings::default());
    let service = services.find("product-service", "shop").unwrap();
    let of = |labels: &[(&str, &str)]| {
        let subset = Subset { name: text("s"), labels: map(labels), ..Default::default() };
        service.endpoints_for(Some(80), Some(Selection::new("s", Some(&subset)))).len()
    };
    assert_eq!(of(&[("version", "v2")]), 1);
    assert_eq!(of(&[("version", "v2"), ("zone", "a")]), 0);
    assert_eq!(of(&[]), 3);
}

#[test]
fn endpoints_of_the_command_line_belong_where_it_says() {
    let extra = |subset: Option<&str>, port| ExtraEndpoint {
        host: "Reviews".to_owned(),
        subset: subset.map(str::to_owned),
        address: "localhost".to_owned(),
        port,
    };
    let endpoints = vec![extra(Some("v1"), 1), extra(Some("v2"), 2), extra(None, 3)];
    let services = registry(Vec::new(), &Settings { endpoints, ..Default::default() });
    let service = services.find("reviews", "shop").unwrap();
    let ports = |subset| service.endpoints_for(None, subset).iter().map(|(_, port, _)| *port).collect::<Vec<_>>();
    assert_eq!(ports(None), [1, 2, 3]);
    assert_eq!(ports(Some(Selection::new("v1", None))), [1, 3]);
    let declared = Subset { labels: map(&[("version", "v2")]), ..Default::default() };
    assert_eq!(ports(Some(Selection::new("v2", Some(&declared)))), [2, 3]);
}

#[test]
fn a_selector_takes_workloads_of_its_namespace_by_all_labels() {
    let select = |labels: &[(&str, &str)]| {
        let mut elsewhere = resource(workload("10.0.0.9", &[("app", "reviews")]));
        elsewhere.metadata.namespace = text("other");
        let resources = Resources {
            service_entries: vec![resource(ServiceEntry {
                hosts: vec![text("reviews")],
                workload_selector: Some(at(map(labels))),
                resolution: Some(at(Resolution::Static)),
                ..Default::default()
            })],
            workload_entries: vec![
                resource(workload("10.0.0.1", &[("app", "reviews"), ("version", "v1")])),
                resource(workload("10.0.0.2", &[("app", "reviews"), ("version", "v2")])),
                elsewhere,
            ],
            ..Default::default()
        };
        Services::new(&resources, &Settings::default()).find("reviews", "shop").unwrap().endpoints.len()
    };
    assert_eq!(select(&[("app", "reviews")]), 2);
    assert_eq!(select(&[("app", "reviews"), ("version", "v2")]), 1);
    assert_eq!(select(&[]), 0);
}

#[test]
fn several_entries_for_one_host_are_one_service() {
    let more = ServiceEntry {
        ports: vec![service_port(80, "http", None), service_port(443, "https", None)],
        endpoints: vec![workload("10.0.0.7", &[])],
        ..canary()
    };
    let services = registry(vec![canary(), more], &Settings::default());
    let service = services.find("product-service", "shop").unwrap();
    assert_eq!(service.ports.iter().map(|port| port.number).collect::<Vec<_>>(), [80, 90, 443]);
    assert_eq!(service.endpoints.len(), 4);
    assert_eq!(services.iter().count(), 1);
}

#[test]
fn a_dns_service_without_endpoints_is_its_own_endpoint() {
    let entry = ServiceEntry {
        hosts: vec![text("Example.com")],
        resolution: Some(at(Resolution::Dns)),
        endpoints: Vec::new(),
        ..canary()
    };
    let services = registry(vec![entry], &Settings::default());
    let service = services.find("example.com", "shop").unwrap();
    assert_eq!(service.endpoints_for(Some(80), None), [(Address::Name("example.com".to_owned()), 8081, 1)]);
}

#[test]
fn the_port_is_chosen_by_the_destination_then_the_service_then_the_listener() {
    let services = registry(vec![canary()], &Settings::default());
    let two = services.find("product-service", "shop").unwrap();
    assert_eq!(two.choose_port(Some(90), None), Some(90));
    assert_eq!(two.choose_port(Some(91), None), None);
    assert_eq!(two.choose_port(None, Some(80)), Some(80));
    assert_eq!(two.choose_port(None, Some(8080)), None);
    let undeclared = Service::undeclared("example.com");
    assert_eq!(undeclared.choose_port(None, Some(8080)), Some(80));
    assert_eq!(undeclared.choose_port(Some(8081), None), Some(8081));
}

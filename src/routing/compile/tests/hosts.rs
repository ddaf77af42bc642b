//! Hosts of the mesh: whose they are, and under which names they are found.

use std::time::{Duration, SystemTime};

use super::*;
use crate::config::place::Place;
use crate::config::resource::ServiceEntry;

#[test]
fn there_is_no_fall_through_to_a_less_specific_host() {
    let table = compiled(
        vec![
            service("wide", &["*.x", "a"], vec![rule("wide", vec![])]),
            service("narrow", &["b.x"], vec![rule("narrow", vec![on_uri(prefix("/n"))])]),
        ],
        true,
    );
    assert_eq!(went(&table, &Request::get("/n").host("b.x")), "narrow");
    assert_eq!(went(&table, &Request::get("/").host("b.x")), "no rule");
    assert_eq!(went(&table, &Request::get("/").host("c.x")), "wide");
    assert_eq!(went(&table, &Request::get("/").host("other")), "no host", "two are not alone");
}

#[test]
fn a_lone_virtual_service_answers_any_host_if_it_may() {
    let lone = |any_host| compiled(vec![service("vs", &["a", "a.example"], vec![rule("r", vec![])])], any_host);
    let stranger = Request::get("/").host("10.0.0.1:8080");
    assert_eq!(went(&lone(true), &stranger), "r");
    assert_eq!(went(&lone(false), &stranger), "no host");
}

#[test]
fn the_oldest_owns_a_host_and_the_younger_keeps_its_others() {
    let aged = |name: &str, age: Option<u64>, hosts: &[&str]| {
        let mut service = service(name, hosts, vec![rule(name, vec![])]);
        service.metadata.created = age.map(|age| SystemTime::UNIX_EPOCH + Duration::from_secs(age));
        service
    };
    let table = compiled(
        vec![aged("a", Some(2), &["x", "y"]), aged("c", Some(1), &["X", "*.z"]), aged("d", None, &["*.Z."])],
        false,
    );
    assert_eq!(went(&table, &Request::get("/").host("x")), "c");
    assert_eq!(went(&table, &Request::get("/").host("y")), "a");
    assert_eq!(went(&table, &Request::get("/").host("v.z")), "d");
    let table = compiled(vec![aged("b", None, &["x"]), aged("a", None, &["x"])], false);
    assert_eq!(went(&table, &Request::get("/").host("x")), "a", "by name, not by place");
}

#[test]
fn a_service_without_a_rule_for_the_port_leaves_the_host_to_others() {
    let mut elsewhere = on_uri(prefix("/"));
    elsewhere.port = Some(at(81));
    let services = vec![
        service("a", &["b"], vec![rule("on-81", vec![elsewhere])]),
        service("b", &["b"], vec![rule("second", vec![])]),
    ];
    let options = Options { mesh_ports: vec![80, 81], any_host: false };
    let table = compile(&resources(services), &options, &mut |wanted| {
        format!("{} on {}", wanted.destination.host.value, wanted.listener_port)
    });
    let mut request = Request::get("/");
    assert_eq!(went(&table, &request), "second on 80");
    request.port = 81;
    assert_eq!(went(&table, &request), "on-81 on 81");
    request.port = 82;
    assert_eq!(went(&table, &request), "no host");
    assert!(table.listener(82).is_none());
}

#[test]
fn only_what_is_bound_to_the_mesh_is_served_on_its_listeners() {
    let bound = |gateways: &[&str]| {
        let mut service = service("vs", &["b"], vec![rule("r", vec![])]);
        service.spec.gateways = Some(gateways.iter().map(|name| text(name)).collect());
        went(&compiled(vec![service], false), &Request::get("/"))
    };
    assert_eq!(bound(&["edge"]), "no host");
    assert_eq!(bound(&["edge", "mesh"]), "r");
    assert_eq!(bound(&[]), "r");
}

#[test]
fn a_short_host_is_also_the_kubernetes_name_that_is_declared() {
    let declares = |host: &str| Resource {
        metadata: Metadata::default(),
        spec: ServiceEntry { hosts: vec![text(host)], ..ServiceEntry::default() },
        place: Place::default(),
    };
    let mut resources = resources(vec![service("vs", &["a", "b"], vec![rule("r", vec![])])]);
    resources.service_entries = vec![declares("a.default.svc.cluster.local"), declares("b.other.svc.cluster.local")];
    let options = Options { mesh_ports: vec![80], any_host: false };
    let table = compile(&resources, &options, &mut |wanted| wanted.destination.host.value.clone());
    for (host, wanted) in [
        ("a", "r"),
        ("a.default.svc.cluster.local", "r"),
        ("b", "r"),
        ("b.default.svc.cluster.local", "no host"),
        ("b.other.svc.cluster.local", "no host"),
    ] {
        assert_eq!(went(&table, &Request::get("/").host(host)), wanted, "{host}");
    }
}

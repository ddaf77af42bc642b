//! Gateways: which hosts of which services they serve, and beside the mesh.

use super::*;
use crate::config::place::Place;
use crate::config::resource::Gateway;
use crate::config::resource::gateway::{Server, ServerPort, ServerTls};

fn gateway(servers: &[(i64, &str, bool)]) -> Resource<Gateway> {
    let server = |(number, host, redirect): &(i64, &str, bool)| Server {
        port: Some(ServerPort { number: at(*number), protocol: text("HTTP"), ..ServerPort::default() }),
        hosts: vec![text(host)],
        tls: Some(ServerTls { https_redirect: Some(at(*redirect)), ..ServerTls::default() }),
        ..Server::default()
    };
    Resource {
        metadata: Metadata { name: text("edge"), namespace: text("default"), ..Metadata::default() },
        spec: Gateway { servers: servers.iter().map(server).collect(), ..Gateway::default() },
        place: Place::default(),
    }
}

fn listing(gateways: &[&str], mut service: Resource<VirtualService>) -> Resource<VirtualService> {
    service.spec.gateways = Some(gateways.iter().map(|name| text(name)).collect());
    service
}

fn with_gateway(
    servers: &[(i64, &str, bool)],
    services: Vec<Resource<VirtualService>>,
    mesh_ports: &[u16],
) -> RouteTable<String> {
    let mut all = resources(services);
    all.gateways = vec![gateway(servers)];
    let options = Options { mesh_ports: mesh_ports.to_vec(), any_host: true };
    compile(&all, &options, &mut |wanted| wanted.destination.host.value.clone())
}

#[test]
fn rules_of_several_services_follow_each_other_and_catch_alls_come_last() {
    let edge = |name: &str, hosts: &[&str], http| listing(&["edge"], service(name, hosts, http));
    let a = vec![rule("a1", vec![on_uri(exact("/a"))]), rule("a*", vec![]), rule("dead", vec![on_uri(exact("/d"))])];
    let b = vec![rule("b1", vec![on_uri(prefix("/a")), on_uri(exact("/b"))]), rule("b*", vec![])];
    let table = with_gateway(&[(80, "*", false)], vec![edge("b", &["b"], b), edge("a", &["b", "c"], a)], &[]);
    for (host, path, wanted) in [
        ("b", "/a", "a1"),
        ("b", "/a/x", "b1"),
        ("b", "/b", "b1"),
        ("b", "/d", "a*"),
        ("c", "/b", "a*"),
        ("d", "/", "no host"),
    ] {
        assert_eq!(went(&table, &Request::get(path).host(host)), wanted, "{host}{path}");
    }
    let mut labels: Vec<_> = table.rules().map(|(_, rule)| rule.label.to_string()).collect();
    labels.sort();
    assert_eq!(labels, ["a/0", "a/1", "b/0"], "those that can be reached, once each");
}

#[test]
fn a_block_may_name_its_gateways() {
    let via = |gateways: &[&str]| {
        let blocks = HttpMatch { gateways: gateways.iter().map(|name| text(name)).collect(), ..HttpMatch::default() };
        let own = vec![rule("hit", vec![blocks]), rule("rest", vec![])];
        let table =
            with_gateway(&[(81, "*", false)], vec![listing(&["edge", "mesh"], service("vs", &["b"], own))], &[80]);
        [80, 81].map(|port| went(&table, &Request { port, ..Request::get("/") }))
    };
    assert_eq!(via(&["mesh"]), ["hit", "rest"]);
    assert_eq!(via(&["edge"]), ["rest", "hit"]);
    assert_eq!(via(&["default/edge"]), ["rest", "hit"]);
    assert_eq!(via(&["other", "x/edge"]), ["rest", "rest"]);
    assert_eq!(via(&["edge", "mesh"]), ["hit", "hit"]);
}

#[test]
fn a_port_of_both_serves_the_gateways_hosts_and_then_the_meshs() {
    let on = |name: &str, gateways: &[&str], hosts: &[&str]| {
        listing(gateways, service(name, hosts, vec![rule(name, vec![])]))
    };
    let services = vec![on("a", &["mesh"], &["b", "c"]), on("z", &["edge"], &["b"])];
    let table = with_gateway(&[(80, "*", false)], services, &[80]);
    assert_eq!(went(&table, &Request::get("/").host("b")), "z");
    assert_eq!(went(&table, &Request::get("/").host("c")), "a");
    assert_eq!(went(&table, &Request::get("/").host("d")), "no host", "two are not alone");
    assert_eq!(table.ports().collect::<Vec<_>>(), [80]);
}

#[test]
fn a_gateway_names_its_hosts_even_for_a_lone_service() {
    let table = with_gateway(
        &[(81, "b", false)],
        vec![listing(&["edge"], service("vs", &["b"], vec![rule("r", vec![])]))],
        &[80],
    );
    let ask = |port, host: &str| went(&table, &Request { port, ..Request::get("/").host(host) });
    assert_eq!(ask(81, "b"), "r");
    assert_eq!(ask(81, "c"), "no host");
    assert_eq!(ask(80, "b"), "no host");
}

#[test]
fn plain_requests_of_a_redirecting_server_go_to_https() {
    let services = vec![listing(&["edge"], service("vs", &["a.x", "c.y"], vec![rule("r", vec![])]))];
    let table = with_gateway(&[(80, "*.x", true), (80, "*.y", false)], services, &[]);
    for (host, wanted) in
        [("a.x", "301 Moved Permanently"), ("b.x", "301 Moved Permanently"), ("c.y", "r"), ("d.y", "no host")]
    {
        assert_eq!(went(&table, &Request::get("/p").host(host)), wanted, "{host}");
    }
    let request = Request::get("/p?q").host("b.x:80");
    let Found::Route(Route { rule, matched, .. }) = table.find(&request.view()) else { panic!("no route") };
    let Action::Redirect(redirect) = &rule.action else { panic!("no redirect") };
    assert_eq!(redirect.location(&request.view(), *matched), "https://b.x/p?q");
    let trusted = Request { scheme: "https".to_owned(), ..Request::get("/").host("a.x") };
    assert_eq!(went(&table, &trusted), "r");
    assert_eq!(went(&table, &Request { scheme: "https".to_owned(), ..request }), "no rule");
}

//! Rules: their order, those that are left out, their numbers and names.

use super::*;
use crate::config::resource::virtual_service::{Delegate, HttpDirectResponse, HttpRedirect};

#[test]
fn the_first_matching_block_of_the_first_matching_rule_wins() {
    let table = one(vec![
        rule("ab", vec![on_uri(exact("/a")), on_uri(prefix("/b"))]),
        rule("short", vec![on_uri(prefix("/a"))]),
        rule("long", vec![on_uri(prefix("/a/b"))]),
    ]);
    for (path, wanted) in [("/a", "ab"), ("/bb", "ab"), ("/a/b", "short"), ("/c", "no rule")] {
        assert_eq!(went(&table, &Request::get(path)), wanted, "{path}");
    }
    assert_eq!(went(&table, &Request::get("/a").host("c")), "no host");
}

#[test]
fn rules_behind_a_catch_all_are_dropped() {
    let table = one(vec![
        rule("all", vec![on_uri(exact("/x")), on_uri(prefix("/")), on_uri(exact("/y"))]),
        rule("dead", vec![on_uri(exact("/z"))]),
    ]);
    assert_eq!(
        table.rules().map(|(port, rule)| (port, rule.label.to_string())).collect::<Vec<_>>(),
        [(80, "vs/0".into())]
    );
    assert_eq!(went(&table, &Request::get("/z")), "all");
}

#[test]
fn blocks_for_other_ports_and_sources_are_left_out() {
    let block = |change: fn(&mut HttpMatch)| {
        let mut block = on_uri(prefix("/"));
        change(&mut block);
        block
    };
    let never: [fn(&mut HttpMatch); 4] = [
        |block| block.port = Some(at(8080)),
        |block| block.source_labels = vec![(text("app"), text("x"))],
        |block| block.source_namespace = Some(text("x")),
        |block| block.gateways = vec![text("other")],
    ];
    for change in never {
        let table = one(vec![rule("hit", vec![block(change)]), rule("rest", vec![])]);
        assert_eq!(went(&table, &Request::get("/")), "rest");
    }
    let always: [fn(&mut HttpMatch); 2] = [
        |block| block.port = Some(at(80)),
        |block| {
            block.gateways = vec![text("mesh")];
            block.source_namespace = Some(text("x"));
        },
    ];
    for change in always {
        let table = one(vec![rule("hit", vec![block(change)]), rule("rest", vec![])]);
        assert_eq!(went(&table, &Request::get("/")), "hit");
    }
}

#[test]
fn a_delegates_rules_are_served_in_the_place_of_the_one_that_leads_to_them() {
    let delegate = Delegate { name: text("d"), ..Delegate::default() };
    let mut leading = rule("none", vec![on_uri(prefix("/a"))]);
    leading.route.clear();
    leading.delegate = Some(delegate.into());
    let own = vec![
        rule("outside", vec![on_uri(prefix("/b"))]),
        rule("inside", vec![on_uri(exact("/a/b"))]),
        rule("all", vec![]),
    ];
    let table =
        compiled(vec![service("root", &["b"], vec![leading, rule("rest", vec![])]), service("d", &[], own)], true);
    for (path, wanted) in [("/b", "rest"), ("/a/b", "inside"), ("/a", "all"), ("/", "rest")] {
        assert_eq!(went(&table, &Request::get(path).host("any")), wanted, "{path}");
    }
    let origin = route(&table, "/a/b").rule.origin.clone().unwrap();
    assert_eq!((&*origin.virtual_service, origin.number, &*route(&table, "/a/b").rule.label), ("d", 1, "d/1"));
}

#[test]
fn every_rule_of_every_listener_has_its_own_number() {
    let services = vec![
        service("a", &["a"], vec![rule("one", vec![on_uri(prefix("/x"))]), rule("two", vec![])]),
        service("b", &["b"], vec![rule("three", vec![])]),
    ];
    let options = Options { mesh_ports: vec![80, 81], any_host: false };
    let table = compile(&resources(services), &options, &mut |_| ());
    let mut numbers: Vec<_> = table.rules().map(|(_, rule)| rule.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn labels_and_names_are_the_rules_or_its_place() {
    let named = |name: &str, mut rule: HttpRoute| {
        rule.name = Some(text(name));
        rule
    };
    let block = |path: &str, name: &str| HttpMatch { name: Some(text(name)), ..on_uri(exact(path)) };
    let table = one(vec![
        named("first", rule("r", vec![block("/a", "one"), block("/b", "two"), on_uri(exact("/c"))])),
        rule("r", vec![on_uri(exact("/d"))]),
        named("", rule("r", vec![block("/e", "five")])),
    ]);
    for (path, label, name) in [
        ("/a", "first", "first.one"),
        ("/b", "first", "first.two"),
        ("/c", "first", "first"),
        ("/d", "vs/1", "vs/1"),
        ("/e", "vs/2", ".five"),
    ] {
        let route = route(&table, path);
        assert_eq!((&*route.rule.label, &*route.name), (label, name), "{path}");
    }
}

#[test]
fn what_should_not_have_passed_validation_answers_500() {
    let redirect = HttpRedirect { redirect_code: Some(at(300)), ..HttpRedirect::default() };
    let mut unweighted = rule("b", vec![]);
    unweighted.route.push(destination("c", None));
    for invalid in [
        HttpRoute::default(),
        unweighted,
        HttpRoute { redirect: Some(redirect.into()), ..HttpRoute::default() },
        HttpRoute { direct_response: Some(HttpDirectResponse::default().into()), ..HttpRoute::default() },
        HttpRoute { route: vec![HttpRouteDestination::default()], ..HttpRoute::default() },
    ] {
        let answer = went(&one(vec![invalid]), &Request::get("/"));
        assert!(answer.starts_with("500"), "{answer}");
    }
}

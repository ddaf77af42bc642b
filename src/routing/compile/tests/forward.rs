//! What is forwarded: shares, hosts, headers and paths.

use super::*;
use crate::config::resource::virtual_service::HttpRewrite;

#[test]
fn each_destination_is_asked_for_once_with_its_surroundings() {
    let mut rule = rule("b", vec![on_uri(exact("/a")), on_uri(exact("/b"))]);
    rule.route.push(destination("c", Some(0)));
    let mut asked = Vec::new();
    let resources = resources(vec![service("vs", &["b", "c"], vec![rule])]);
    compile(&resources, &Options { mesh_ports: vec![8080], any_host: true }, &mut |wanted| {
        let host = wanted.destination.host.value.clone();
        asked.push((host, wanted.namespace.to_owned(), wanted.listener_port, wanted.route.to_owned()));
    });
    let with = |host: &str| (host.to_owned(), "default".to_owned(), 8080, "vs/0".to_owned());
    assert_eq!(asked, [with("b"), with("c")]);
}

#[test]
fn weights_are_shares_of_their_sum() {
    let mut weighted = rule("a", vec![]);
    weighted.route = vec![destination("a", Some(60)), destination("b", Some(30)), destination("c", None)];
    let table = one(vec![weighted]);
    let Action::Forward(split) = &route(&table, "/").rule.action else { panic!("not forwarded") };
    let shares: Vec<_> = split.entries().iter().map(|entry| (entry.value.to.as_str(), entry.share)).collect();
    assert_eq!(shares, [("a", 60.0 / 90.0), ("b", 30.0 / 90.0), ("c", 0.0)]);
}

fn with_hosts(rewrite: Option<&str>, rule_host: Option<&str>, own: &[Option<&str>]) -> Vec<Option<String>> {
    let setting = |host: &str| on_request(operations(&[("Host", host)], &[], &[]));
    let mut written = rule("b", vec![]);
    written.headers = rule_host.and_then(setting);
    written.rewrite =
        rewrite.map(|authority| HttpRewrite { authority: Some(text(authority)), ..HttpRewrite::default() }.into());
    written.route = own
        .iter()
        .map(|host| HttpRouteDestination { headers: host.and_then(setting), ..destination("b", Some(1)) })
        .collect();
    let table = one(vec![written]);
    targets(&table).iter().map(|target| target.host.as_ref().map(|host| host.to_str().unwrap().to_owned())).collect()
}

#[test]
fn the_rewrite_beats_the_rule_beats_the_destination_as_host() {
    let some = |host: &str| Some(host.to_owned());
    assert_eq!(with_hosts(None, None, &[None]), [None]);
    assert_eq!(with_hosts(None, None, &[Some("own")]), [some("own")]);
    assert_eq!(with_hosts(None, Some("rule"), &[Some("own")]), [some("rule")]);
    assert_eq!(with_hosts(Some("rewrite"), Some("rule"), &[Some("own")]), [some("rewrite")]);
    assert_eq!(with_hosts(None, Some("rule"), &[Some("own"), None]), [some("rule"), some("rule")]);
    assert_eq!(with_hosts(None, None, &[Some("own"), None]), [some("own"), None]);
}

#[test]
fn with_one_destination_its_headers_win_with_several_the_rules() {
    let setting = |value: &str| on_request(operations(&[("x-a", value)], &[], &[]));
    let got = |destinations: usize| {
        let mut written = rule("b", vec![]);
        written.headers = setting("rule");
        let entry = HttpRouteDestination { headers: setting("destination"), ..destination("b", Some(1)) };
        written.route = vec![entry; destinations];
        let table = one(vec![written]);
        let mut headers = http::HeaderMap::new();
        targets(&table)[0].request_headers.apply_to_request(&mut headers, || panic!("there are no variables"));
        headers["x-a"].to_str().unwrap().to_owned()
    };
    assert_eq!(got(1), "destination");
    assert_eq!(got(2), "rule");
}

#[test]
fn a_rewrite_depends_on_the_block_that_matched() {
    let mut written = rule("b", vec![on_uri(exact("/exact/x")), on_uri(prefix("/pre")), HttpMatch::default()]);
    written.rewrite = Some(HttpRewrite { uri: Some(text("/new")), ..HttpRewrite::default() }.into());
    let table = one(vec![written]);
    for (path, wanted) in [("/exact/x?q", "/new?q"), ("/prefix?q", "/newfix?q"), ("/other", "/newother")] {
        assert_eq!(route(&table, path).rewritten(path).as_deref(), Some(wanted));
    }
    assert_eq!(route(&one(vec![rule("b", vec![])]), "/").rewritten("/"), None);
}

//! Clients stay on the version they once got, as far as shares allow, through the built binary.

use super::support::client::HOST;
use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::upstream::Upstream;
use super::support::wire::Message;

const CLIENTS: usize = 200;

fn sticky(config: &Config, by: &str) -> String {
    let (start, rest) = config.yaml().split_once("metadata:").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let name = rest.split_once("name:").unwrap().1.lines().next().unwrap().trim().to_owned();
    let name = name.trim_end_matches('}').to_owned();
    let (_, after) = rest.split_once("spec:").unwrap();
    format!("{start}metadata:\n  name: {name}\n  annotations: {{serin.dev/sticky: \"{by}\"}}\nspec:{after}")
}

fn get(proxy: &Proxy, headers: &str) -> Message {
    let mut client = proxy.client();
    client.send(format!("GET /x HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"));
    client.answer().unwrap()
}

fn versions() -> ([Upstream; 2], Config) {
    let upstreams = [Upstream::named("v1"), Upstream::named("v2")];
    let config = Config::default().version("v1", 90, &[upstreams[0].port]).version("v2", 10, &[upstreams[1].port]);
    (upstreams, config)
}

/// The cookie that a new client gets, and its version.
fn newcomer(proxy: &Proxy) -> (String, String) {
    let answer = get(proxy, "");
    let cookie = answer.head.get("set-cookie").split(';').next().unwrap().to_owned();
    (cookie, answer.head.get("x-version").to_owned())
}

fn version(proxy: &Proxy, cookie: &str) -> String {
    let answer = get(proxy, &format!("cookie: other=1; {cookie}\r\n"));
    assert!(!answer.head.has("set-cookie"), "a client that is known keeps its cookie");
    answer.head.get("x-version").to_owned()
}

#[test]
fn a_cookie_brings_clients_back_and_growing_shares_move_nobody_back() {
    let (_upstreams, config) = versions();
    let proxy = Proxy::start(&config);
    proxy.save(&sticky(&config, "cookie=canary,ttl=1h"));
    eventually("cookies are given", || get(&proxy, "").head.has("set-cookie"));
    let answer = get(&proxy, "");
    assert!(answer.head.get("set-cookie").ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"));
    let clients: Vec<_> = (0..CLIENTS).map(|_| newcomer(&proxy)).collect();
    let all = |proxy: &Proxy| clients.iter().map(|(cookie, _)| version(proxy, cookie)).collect::<Vec<_>>();
    let first: Vec<_> = clients.iter().map(|(_, version)| version.clone()).collect();
    assert_eq!(all(&proxy), first, "they come back to where they were");
    let step = |weights: [u32; 2]| {
        let generation = proxy.generation();
        proxy.save(&sticky(&config.weights(&weights), "cookie=canary,ttl=1h"));
        eventually("the weights are in force", || proxy.generation() > generation);
        all(&proxy)
    };
    let grown = step([70, 30]);
    for (before, after) in first.iter().zip(&grown) {
        assert!(before == "v1" || after == "v2", "a client of v2 moved back");
    }
    assert!(
        grown.iter().filter(|version| *version == "v2").count()
            > first.iter().filter(|version| *version == "v2").count()
    );
    assert!(step([100, 0]).iter().all(|version| version == "v1"), "a share of 0 brings everybody back");
    assert_eq!(step([70, 30]), grown, "the same shares, the same versions");
}

#[test]
fn a_header_decides_for_its_value() {
    let (_upstreams, config) = versions();
    let proxy = Proxy::start(&config.weights(&[50, 50]));
    proxy.save(&sticky(&config.weights(&[50, 50]), "header=x-user"));
    eventually("it is in force", || proxy.generation() == 2);
    let of = |user: usize| get(&proxy, &format!("x-user: {user}\r\n")).head.get("x-version").to_owned();
    let first: Vec<_> = (0..40).map(of).collect();
    assert_eq!((0..40).map(of).collect::<Vec<_>>(), first);
    assert!(first.iter().any(|version| version == "v1") && first.iter().any(|version| version == "v2"));
}

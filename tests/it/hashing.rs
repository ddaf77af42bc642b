//! Requests that belong together meet the same endpoint of their version.

use std::collections::BTreeSet;

use super::support::client::Client;
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::Upstream;
use super::support::wire::Message;

fn three() -> Vec<Upstream> {
    ["a", "b", "c"].map(Upstream::named).into_iter().collect()
}

fn serve(upstreams: &[Upstream], hash: &str) -> Proxy {
    let ports: Vec<u16> = upstreams.iter().map(|upstream| upstream.port).collect();
    Proxy::start(&Config::single(&ports).policy(&format!("{{loadBalancer: {{consistentHash: {{{hash}}}}}}}")))
}

fn ask(client: &mut Client, target: &str, field: &str) -> Message {
    client.send(format!("GET {target} HTTP/1.1\r\nhost: product-service\r\n{field}\r\n"));
    client.answer().unwrap()
}

/// The endpoints that ten requests with one key met.
fn met(proxy: &Proxy, target: &str, field: &str) -> BTreeSet<String> {
    (0..10).map(|_| ask(&mut proxy.client(), target, field).head.get("x-version").to_owned()).collect()
}

#[test]
fn a_header_a_parameter_or_a_cookie_chooses() {
    for table in ["", ", maglev: {tableSize: 251}", ", ringHash: {minimumRingSize: 64}"] {
        let by = |key: usize| -> [(&str, String, String); 3] {
            [
                ("httpHeaderName: x-user", "/".to_owned(), format!("X-User: {key}\r\n")),
                ("httpQueryParameterName: user", format!("/?a=b&user={key}"), String::new()),
                ("httpCookie: {name: user}", "/".to_owned(), format!("cookie: a=b; user={key}\r\n")),
            ]
        };
        for (index, (hash, ..)) in by(0).into_iter().enumerate() {
            let upstreams = three();
            let proxy = serve(&upstreams, &format!("{hash}{table}"));
            let mut all = BTreeSet::new();
            for key in 0..12 {
                let (_, target, field) = &by(key)[index];
                let met = met(&proxy, target, field);
                assert_eq!(met.len(), 1, "{hash}{table} {key}: {met:?}");
                all.extend(met);
            }
            assert!(all.len() > 1, "{hash}{table}: {all:?}");
            assert!(met(&proxy, "/", "").len() > 1, "without a key at random");
        }
    }
}

#[test]
fn the_address_of_the_client_chooses() {
    let upstreams = three();
    let proxy = serve(&upstreams, "useSourceIp: true");
    assert_eq!(met(&proxy, "/", "").len(), 1);
}

#[test]
fn a_client_without_the_cookie_is_given_one_that_leads_back() {
    let upstreams = three();
    let proxy = serve(&upstreams, "httpCookie: {name: user, path: /shop, ttl: 60s}");
    for _ in 0..10 {
        let answer = ask(&mut proxy.client(), "/", "");
        let cookie = answer.head.get("set-cookie").to_owned();
        assert!(
            cookie.starts_with("user=") && cookie.contains("Max-Age=60") && cookie.contains("Path=/shop"),
            "{cookie}"
        );
        let pair = cookie.split(';').next().unwrap();
        let met = met(&proxy, "/", &format!("cookie: {pair}\r\n"));
        assert_eq!(met.into_iter().collect::<Vec<_>>(), [answer.head.get("x-version")]);
        let again = ask(&mut proxy.client(), "/", &format!("cookie: {pair}\r\n"));
        assert!(!again.head.has("set-cookie"));
    }
}

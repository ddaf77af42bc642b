//! Variables in header values, in both directions, through the built binary.

use super::support::client::HOST;
use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::Upstream;

#[test]
fn header_values_say_what_the_request_and_the_answer_say() {
    let upstream = Upstream::named("v1");
    let config = Config::single(&[upstream.port])
        .rule("rewrite: {uri: /new, authority: inner}")
        .rule("headers:")
        .rule("  request:")
        .rule("    set:")
        .rule("      x-from: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'")
        .rule("      x-was: '%REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)% %PROTOCOL%'")
        .rule("      x-twice: '%REQ(x-id)%-%REQ(x-id)% 100%%'")
        .rule("      x-none: '%REQ(x-nothing)%'")
        .rule("  response:")
        .rule("    set:")
        .rule("      x-id: '%REQ(x-id)%'")
        .rule("      x-answer: '%RESPONSE_CODE% of %UPSTREAM_HOST%, version %RESP(x-version)%'");
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.send(format!("GET /a?b HTTP/1.1\r\nhost: {HOST}\r\nx-id: 7\r\n\r\n"));
    let answer = client.answer().unwrap();
    let seen = upstream.ledger.last();
    assert_eq!(seen.head.target().1, "/newa?b");
    assert_eq!(seen.head.get("host"), "inner");
    assert_eq!(seen.head.get("x-from"), "127.0.0.1");
    assert_eq!(seen.head.get("x-was"), format!("GET {HOST}/a?b HTTP/1.1"));
    assert_eq!(seen.head.get("x-twice"), "7-7 100%");
    assert!(!seen.head.has("x-none"), "an empty value changes nothing");
    assert_eq!(answer.head.get("x-id"), "7");
    assert_eq!(answer.head.get("x-answer"), format!("200 of 127.0.0.1:{}, version v1", upstream.port));
}

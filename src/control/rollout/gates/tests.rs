use tokio::time::advance;

use super::*;
use crate::control::rollout::http_client::test_server::{Reply, in_memory, on_a_port};

fn order(name: &str, interval: u64) -> GateOrder {
    GateOrder {
        name: name.to_owned(),
        address: "http://prometheus.example:9090/base/".to_owned(),
        query: r#"max(a{b="c"}) + 1 & more"#.to_owned(),
        min: None,
        max: Some(10.0),
        interval: Duration::from_secs(interval),
    }
}

fn value(value: &str) -> Reply {
    let body = format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[1,"{value}"]}}}}"#);
    Reply::With(200, None, body)
}

/// State and detail of the only gate.
fn only(gates: &Gates) -> (GateState, String) {
    let mut states = gates.states();
    assert_eq!(states.len(), 1);
    let gate = states.remove(0);
    assert_eq!(gate.value.is_none(), gate.state == GateState::Unreachable);
    (gate.state, gate.detail)
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_unreachable_until_it_was_asked_and_then_follows_its_value() {
    let (client, mut requests) = in_memory(|count| value(["9", "11", "11", "8"][count]));
    let began = Instant::now();
    let gates = Gates::with(client, vec![order("memory", 15)]);
    assert_eq!(only(&gates), (GateState::Unreachable, "not asked yet".to_owned()));
    gates.changed().await;
    assert_eq!(only(&gates), (GateState::Inside, "at most 10".to_owned()));
    gates.changed().await;
    assert_eq!(only(&gates).0, GateState::Outside);
    // The same again is no news.
    gates.changed().await;
    assert_eq!((only(&gates).0, began.elapsed().as_secs()), (GateState::Inside, 45));
    for second in [0, 15, 30, 45] {
        assert_eq!((requests.recv().await.unwrap().at - began).as_secs(), second);
    }
}

#[tokio::test(start_paused = true)]
async fn the_query_is_posted_as_a_form() {
    let (client, mut requests) = in_memory(|_| value("1"));
    let _gates = Gates::with(client, vec![order("a", 2)]);
    let request = requests.recv().await.unwrap();
    assert_eq!(request.uri, "/base/api/v1/query");
    assert_eq!(request.header("host"), "prometheus.example:9090");
    assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
    let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
    let wanted = [("query", r#"max(a{b="c"}) + 1 & more"#), ("timeout", "2000ms")];
    assert_eq!(form, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_in_time_is_unreachable() {
    for (interval, limit) in [(15, 5), (3, 3)] {
        let (client, _requests) = in_memory(|count| if count == 0 { value("1") } else { Reply::Silence });
        let gates = Gates::with(client, vec![order("memory", interval)]);
        gates.changed().await;
        let (began, _) = (Instant::now(), assert_eq!(only(&gates).0, GateState::Inside));
        gates.changed().await;
        assert_eq!(only(&gates), (GateState::Unreachable, format!("no answer within {limit}s")));
        assert_eq!(began.elapsed().as_secs(), interval + limit);
    }
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_told_and_the_next_answer_counts_again() {
    let replies = [
        value("1"),
        Reply::Refusal,
        Reply::Hangup,
        Reply::With(500, None, String::new()),
        Reply::With(200, None, "<html>".to_owned()),
        Reply::With(200, None, " ".repeat(LARGEST_ANSWER + 1)),
        value("NaN"),
        value("2"),
    ];
    let (client, _requests) = in_memory(move |count| replies[count].clone());
    let gates = Gates::with(client, vec![order("memory", 1)]);
    gates.changed().await;
    assert_eq!(only(&gates).0, GateState::Inside);
    for reason in [
        "cannot connect: connection refused",
        "no complete HTTP answer: ",
        "answered 500",
        "this is no answer of Prometheus' API: ",
        "the answer has more than 1048576 bytes",
        "the value is NaN",
    ] {
        gates.changed().await;
        let (state, detail) = only(&gates);
        assert!(state == GateState::Unreachable && detail.starts_with(reason), "{reason}: {detail}");
    }
    gates.changed().await;
    assert_eq!(only(&gates).0, GateState::Inside);
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_for_three_intervals() {
    let gate =
        Gate { name: "a".to_owned(), state: GateState::Inside, value: Some(1.0), detail: "at most 2".to_owned() };
    let entry = Entry { gate: gate.clone(), asked: Instant::now(), interval: Duration::from_secs(15) };
    advance(Duration::from_secs(45)).await;
    assert_eq!(entry.at(Instant::now()), gate);
    advance(Duration::from_secs(1)).await;
    let (state, detail) = (GateState::Unreachable, "the last answer is 46 s old".to_owned());
    assert_eq!(entry.at(Instant::now()), Gate { state, value: None, detail, ..gate });
}

#[tokio::test(start_paused = true)]
async fn gates_keep_their_order_and_one_that_hangs_holds_no_other_up() {
    let (client, _requests) = in_memory(|count| if count == 0 { Reply::Silence } else { value("11") });
    let mut bad = order("bad address", 15);
    bad.address = "prometheus:9090".to_owned();
    let gates = Gates::with(client, vec![order("slow", 15), order("quick", 15), bad]);
    let states = loop {
        gates.changed().await;
        let states = gates.states();
        if states[1].state != GateState::Unreachable && states[2].detail != "not asked yet" {
            break states;
        }
    };
    let shown: Vec<_> = states.iter().map(|gate| (gate.name.as_str(), gate.state, gate.detail.as_str())).collect();
    let no_url = "it is no URL that begins with `http://` or `https://` and names a host";
    assert_eq!(
        shown,
        [
            ("slow", GateState::Unreachable, "not asked yet"),
            ("quick", GateState::Outside, "at most 10"),
            ("bad address", GateState::Unreachable, no_url),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_once_the_gates_are_dropped() {
    let (client, mut requests) = in_memory(|_| value("1"));
    let gates = Gates::with(client, vec![order("a", 1)]);
    requests.recv().await.unwrap();
    drop(gates);
    // The client, and with it the server, is gone with the last task.
    assert!(requests.recv().await.is_none());
}

#[tokio::test]
async fn a_server_on_a_port_is_asked() {
    let (address, mut requests) = on_a_port(|_| value("11")).await;
    let gates = Gates::start(vec![GateOrder { address: format!("http://{address}"), ..order("memory", 60) }]);
    gates.changed().await;
    assert_eq!(only(&gates).0, GateState::Outside);
    assert_eq!(requests.recv().await.unwrap().uri, "/api/v1/query");
}

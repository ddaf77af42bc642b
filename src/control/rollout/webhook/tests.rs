use ring::hmac;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::*;
use crate::control::rollout::http_client::test_server::{Received, Reply, in_memory, on_a_port, status};

const PATIENCE: Duration = Duration::from_secs(3600);

fn hook(retries: u32) -> WebhookOrder {
    let url = "http://hooks.example/T0/path?q".to_owned();
    WebhookOrder { url, events: Vec::new(), secret: None, timeout: Duration::from_secs(5), retries }
}

fn body(event: &str) -> Value {
    json!({ "event": event, "sentence": "a \u{e9}" })
}

fn told(hooks: &Webhooks, hook: &WebhookOrder, event: &str) -> DeliveryId {
    let id = DeliveryId::random();
    hooks.tell(hook, &body(event), id.clone());
    id
}

/// The requests that came, once nothing more will.
async fn all(hooks: Webhooks, mut requests: UnboundedReceiver<Received>) -> Vec<Received> {
    hooks.finish(PATIENCE).await;
    std::iter::from_fn(|| requests.try_recv().ok()).collect()
}

fn events(requests: &[Received]) -> Vec<&str> {
    requests.iter().map(|request| request.header("x-serin-event")).collect()
}

/// Seconds between the requests.
fn pauses(requests: &[Received]) -> Vec<f64> {
    requests.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect()
}

fn counts(delivered: u64, failed: u64, dropped: u64) -> Counts {
    Counts { delivered, failed, dropped }
}

async fn settled(hooks: &Webhooks) -> Counts {
    while !hooks.post.lanes().is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
    hooks.counts()
}

#[tokio::test(start_paused = true)]
async fn a_delivery_says_what_it_is() {
    let (client, requests) = in_memory(|_| status(204));
    let hooks = Webhooks::with(client);
    let id = told(&hooks, &hook(3), "started");
    assert_eq!(settled(&hooks).await, counts(1, 0, 0));
    let requests = all(hooks, requests).await;
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.uri, "/T0/path?q");
    for (name, value) in [
        ("host", "hooks.example"),
        ("content-type", "application/json"),
        ("user-agent", concat!("serin/", env!("CARGO_PKG_VERSION"))),
        ("x-serin-event", "started"),
        ("x-serin-delivery", &id.to_string()),
        ("x-serin-signature", ""),
        ("x-serin-timestamp", ""),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), body("started"));
}

#[tokio::test(start_paused = true)]
async fn only_what_was_asked_for_is_told() {
    let (client, requests) = in_memory(|_| status(200));
    let hooks = Webhooks::with(client);
    let asked = WebhookOrder { events: vec!["held".to_owned(), "promoted".to_owned()], ..hook(0) };
    for event in ["started", "held", "rolledBack", "promoted"] {
        told(&hooks, &asked, event);
    }
    assert_eq!(events(&all(hooks, requests).await), ["held", "promoted"]);
}

#[tokio::test(start_paused = true)]
async fn what_may_heal_is_tried_again_with_growing_pauses() {
    let replies = [
        status(500),
        Reply::Hangup,
        status(503),
        status(429),
        status(599),
        status(500),
        status(500),
        status(500),
        status(200),
    ];
    let (client, requests) = in_memory(move |count| replies[count].clone());
    let hooks = Webhooks::with(client);
    let id = told(&hooks, &hook(8), "started").to_string();
    assert_eq!(settled(&hooks).await, counts(1, 0, 0));
    let requests = all(hooks, requests).await;
    assert!(
        requests.iter().all(|request| request.header("x-serin-delivery") == id && request.body == requests[0].body)
    );
    let pauses = pauses(&requests);
    assert_eq!(pauses.len(), 8);
    for (pause, most) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]) {
        // A timer of tokio is up to a millisecond late.
        assert!((most / 2.0..=most + 0.002).contains(pause), "{pause} is no pause of {most}: {pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_and_silence_are_tried_again() {
    let (client, requests) = in_memory(|count| match count {
        0 | 1 => Reply::Refusal,
        2 => Reply::Silence,
        _ => status(200),
    });
    let hooks = Webhooks::with(client);
    told(&hooks, &hook(3), "started");
    assert_eq!(settled(&hooks).await, counts(1, 0, 0));
    let requests = all(hooks, requests).await;
    // The third try was given up after the timeout, the fourth came after 2 to 4 s more.
    let pauses = pauses(&requests);
    assert!(pauses.len() == 1 && (7.0..9.01).contains(&pauses[0]), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_after_the_retries_that_were_ordered() {
    for (retries, tries) in [(0, 1), (2, 3)] {
        let (client, requests) = in_memory(|_| status(500));
        let hooks = Webhooks::with(client);
        told(&hooks, &hook(retries), "started");
        assert_eq!(settled(&hooks).await, counts(0, 1, 0));
        assert_eq!(all(hooks, requests).await.len(), tries);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_good_is_not_tried_again() {
    for code in [301, 307, 400, 401, 404, 408, 410, 422] {
        let (client, requests) =
            in_memory(move |_| Reply::With(code, Some(("retry-after", "1".to_owned())), String::new()));
        let hooks = Webhooks::with(client);
        told(&hooks, &hook(3), "started");
        assert_eq!(settled(&hooks).await, counts(0, 1, 0), "{code}");
        assert_eq!(all(hooks, requests).await.len(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_url_fails_once() {
    let (client, requests) = in_memory(|_| status(200));
    let hooks = Webhooks::with(client);
    told(&hooks, &WebhookOrder { url: "hooks.example".to_owned(), ..hook(3) }, "started");
    assert_eq!(settled(&hooks).await, counts(0, 1, 0));
    assert!(all(hooks, requests).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_waited_for() {
    for (code, header, least, most) in [(429, "20", 20.0, 20.01), (503, "100000", 600.0, 600.01), (429, "0", 0.5, 1.01)]
    {
        let (client, requests) = in_memory(move |count| match count {
            0 => Reply::With(code, Some(("retry-after", header.to_owned())), String::new()),
            _ => status(200),
        });
        let hooks = Webhooks::with(client);
        told(&hooks, &hook(1), "started");
        let pauses = pauses(&all(hooks, requests).await);
        assert!(pauses.len() == 1 && (least..most).contains(&pauses[0]), "{header}: {pauses:?}");
    }
}

#[test]
fn a_pause_is_shortened_by_up_to_half_but_never_below_a_retry_after() {
    let seconds = |tries, after, luck| pause(tries, after, luck).as_secs_f64();
    assert_eq!((seconds(1, None, 0.0), seconds(1, None, 1.0), seconds(3, None, 0.5)), (1.0, 0.5, 3.0));
    assert_eq!((seconds(7, None, 0.0), seconds(u64::MAX, None, 0.0)), (60.0, 60.0));
    let after = Some(Duration::from_secs(7));
    assert_eq!((seconds(1, after, 1.0), seconds(5, after, 0.0)), (7.0, 16.0));
}

#[tokio::test(start_paused = true)]
async fn what_goes_to_one_url_arrives_in_order_and_another_url_does_not_wait() {
    let (client, requests) = in_memory(|count| if count == 0 { status(500) } else { status(200) });
    let hooks = Webhooks::with(client);
    let (first, other) = (hook(1), WebhookOrder { url: "http://other.example/".to_owned(), ..hook(1) });
    told(&hooks, &first, "started");
    // The same place by another order: what it is told comes behind.
    told(&hooks, &WebhookOrder { retries: 7, ..first.clone() }, "advanced");
    told(&hooks, &first, "promoted");
    told(&hooks, &other, "held");
    let requests = all(hooks, requests).await;
    assert_eq!(events(&requests), ["started", "held", "started", "advanced", "promoted"]);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_that_wait_are_dropped_when_there_are_too_many() {
    let (client, requests) = in_memory(|count| if count == 0 { status(500) } else { status(200) });
    let hooks = Webhooks::with(client);
    told(&hooks, &hook(1), "first");
    // Under way: it does not wait any more.
    sleep(Duration::from_millis(1)).await;
    for number in 0..LONGEST_QUEUE + 2 {
        told(&hooks, &hook(0), &format!("{number}"));
    }
    assert_eq!(hooks.counts(), counts(0, 0, 2));
    assert_eq!(settled(&hooks).await, counts(101, 0, 2));
    let requests = all(hooks, requests).await;
    let wanted = ["first", "first"].map(str::to_owned).into_iter().chain((2..LONGEST_QUEUE + 2).map(|n| n.to_string()));
    assert_eq!(events(&requests), wanted.collect::<Vec<_>>());
}

/// What a receiver does, after the documentation.
fn verify(key: &[u8], request: &Received) -> bool {
    let mut signed =
        format!("{}.{}.", request.header("x-serin-timestamp"), request.header("x-serin-delivery")).into_bytes();
    signed.extend_from_slice(&request.body);
    let signature = request.header("x-serin-signature").strip_prefix("sha256=").unwrap();
    let signature = data_encoding::HEXLOWER.decode(signature.as_bytes()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed, &signature).is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_signed_with_the_key_as_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old\n").unwrap();
    let changed = file.clone();
    let (client, requests) = in_memory(move |count| match count {
        0 => {
            std::fs::write(&changed, "new").unwrap();
            status(500)
        }
        _ => status(200),
    });
    let hooks = Webhooks::with(client);
    let before = jiff::Timestamp::now().as_second();
    told(&hooks, &WebhookOrder { secret: Some(file), ..hook(1) }, "started");
    let requests = all(hooks, requests).await;
    let after = jiff::Timestamp::now().as_second();
    assert_eq!(requests.len(), 2);
    assert!(verify(b"old", &requests[0]) && !verify(b"new", &requests[0]));
    assert!(verify(b"new", &requests[1]) && !verify(b"old", &requests[1]));
    assert!((before..=after).contains(&requests[1].header("x-serin-timestamp").parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn without_its_key_nothing_is_sent_and_it_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let (client, mut requests) = in_memory(|_| status(200));
    let hooks = Webhooks::with(client);
    told(&hooks, &WebhookOrder { secret: Some(file.clone()), ..hook(1) }, "started");
    assert_eq!(settled(&hooks).await, counts(0, 1, 0));
    assert!(requests.try_recv().is_err());
    let told_at = Instant::now();
    told(&hooks, &WebhookOrder { secret: Some(file.clone()), ..hook(1) }, "started");
    sleep(Duration::from_millis(400)).await;
    std::fs::write(&file, "key").unwrap();
    assert_eq!(settled(&hooks).await, counts(1, 1, 0));
    let request = requests.recv().await.unwrap();
    assert!(verify(b"key", &request) && request.at - told_at >= Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_what_is_under_way_but_not_for_ever() {
    let (client, mut requests) = in_memory(|count| if count == 0 { status(503) } else { status(200) });
    let hooks = Webhooks::with(client);
    told(&hooks, &hook(1), "started");
    hooks.finish(Duration::from_secs(5)).await;
    assert_eq!((requests.recv().await.is_some(), requests.recv().await.is_some()), (true, true));

    let (client, mut requests) = in_memory(|_| status(503));
    let hooks = Webhooks::with(client);
    let began = Instant::now();
    told(&hooks, &hook(100), "started");
    hooks.finish(Duration::from_secs(5)).await;
    assert_eq!(began.elapsed().as_secs(), 5);
    // Nothing comes afterwards: the client is gone with the last task.
    while let Some(request) = requests.recv().await {
        assert!(request.at - began <= Duration::from_secs(5));
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_whose_task_broke_gets_another() {
    let broken = |count| if count == 0 { panic!("as this test wants it") } else { status(200) };
    let (client, requests) = in_memory(broken);
    let hooks = Webhooks::with(client);
    told(&hooks, &hook(0), "started");
    while !hooks.post.lanes().values().all(|lane| lane.worker.as_ref().unwrap().is_finished()) {
        sleep(Duration::from_millis(1)).await;
    }
    told(&hooks, &hook(0), "advanced");
    assert_eq!(settled(&hooks).await, counts(1, 1, 0));
    assert_eq!(events(&all(hooks, requests).await), ["advanced"]);
}

#[tokio::test]
async fn a_server_on_a_port_is_told() {
    let (address, mut requests) = on_a_port(|_| status(200)).await;
    let hooks = Webhooks::start();
    told(&hooks, &WebhookOrder { url: format!("http://{address}/hook"), ..hook(0) }, "promoted");
    assert_eq!(requests.recv().await.unwrap().uri, "/hook");
    hooks.finish(PATIENCE).await;
}

#[test]
fn it_may_be_told_from_any_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (address, mut requests) = runtime.block_on(on_a_port(|_| status(200)));
    let hooks = runtime.block_on(async { Webhooks::start() });
    told(&hooks, &WebhookOrder { url: format!("http://{address}/"), ..hook(0) }, "held");
    let request = runtime.block_on(requests.recv()).unwrap();
    assert_eq!(request.header("x-serin-event"), "held");
}

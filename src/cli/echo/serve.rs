//! Serving an echo: connections, the journey of a request, WebSocket, and the switch.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, CONTENT_TYPE, FORWARDED, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    UPGRADE, VIA,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::behaviour::Behaviour;
use super::reply::{Answer, Wish, describe};

const NAME: HeaderName = HeaderName::from_static("x-echo-name");
const SWITCH: &str = "/_echo";

/// One echo: who it is and how it behaves at this moment.
#[derive(Debug)]
pub struct Responder {
    name: String,
    name_header: HeaderValue,
    switchable: bool,
    behaviour: Mutex<Behaviour>,
    random: Mutex<SmallRng>,
    served: AtomicU64,
}

impl Responder {
    /// An echo of this name. Equal seeds draw the same latencies and errors in the same order.
    pub fn new(name: &str, behaviour: Behaviour, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            name_header: HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("unprintable")),
            switchable: false,
            behaviour: Mutex::new(behaviour),
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            served: AtomicU64::new(0),
        }
    }

    /// The same, with `/_echo` for clients on this machine.
    #[must_use]
    pub fn switchable(self) -> Self {
        Self { switchable: true, ..self }
    }

    /// How it behaves.
    pub fn behaviour(&self) -> Behaviour {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Behaves like this from the next request on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Requests received so far, those to the switch left out.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn draw(&self) -> (Duration, bool) {
        self.behaviour().draw(&mut *self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn respond(&self, request: Request<Incoming>, client: &Client) -> Result<Response<Answer>, hyper::Error> {
        let (mut parts, body) = request.into_parts();
        if self.switchable && parts.uri.path() == SWITCH {
            return Ok(self.switch(&parts, client.address));
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        let body_bytes = count(body).await?;
        let (latency, error) = self.draw();
        let wish = Wish::of(parts.uri.path());
        tokio::time::sleep(if let Some(Wish::Delay(delay)) = wish { latency + delay } else { latency }).await;
        if error {
            return Ok(self.text(StatusCode::INTERNAL_SERVER_ERROR, "an error, as --error-rate wants it\n"));
        }
        if let Some(response) = self.web_socket(&mut parts, client) {
            return Ok(response);
        }
        Ok(match wish {
            None => self.text(StatusCode::BAD_REQUEST, "wanted /status/503, /delay/250ms or /bytes/1000\n"),
            Some(Wish::Bytes(count)) => self.reply(StatusCode::OK, "application/octet-stream", Answer::Pattern(count)),
            Some(Wish::Status(status)) => self.description(status, &parts, body_bytes),
            Some(Wish::Description | Wish::Delay(_)) => self.description(StatusCode::OK, &parts, body_bytes),
        })
    }

    fn switch(&self, request: &Parts, client: SocketAddr) -> Response<Answer> {
        if !client.ip().is_loopback() || was_forwarded(&request.headers) {
            return self.text(StatusCode::FORBIDDEN, "only from this machine\n");
        }
        if request.method == Method::POST {
            match self.behaviour().changed(request.uri.query().unwrap_or_default()) {
                Ok(behaviour) => self.behave(behaviour),
                Err(message) => return self.text(StatusCode::BAD_REQUEST, &format!("{message}\n")),
            }
        } else if request.method != Method::GET {
            return self.text(StatusCode::METHOD_NOT_ALLOWED, "wanted GET or POST\n");
        }
        let Behaviour { latency, error_rate } = self.behaviour();
        let state = json!({"name": self.name, "latency": latency.to_string(), "error_rate": format!("{}%", error_rate * 100.0), "served": self.served()});
        self.reply(StatusCode::OK, "application/json", Answer::Whole(format!("{state}\n").into()))
    }

    /// The answer to a WebSocket handshake, if the request is one.
    fn web_socket(&self, request: &mut Parts, client: &Client) -> Option<Response<Answer>> {
        let wanted =
            request.headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let key = request.headers.get(SEC_WEBSOCKET_KEY).filter(|_| wanted)?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()?;
        *client.upgrade() = Some(request.extensions.remove::<OnUpgrade>()?);
        let mut response = self.reply(StatusCode::SWITCHING_PROTOCOLS, "", Answer::Whole(Bytes::new()));
        let headers = response.headers_mut();
        headers.remove(CONTENT_TYPE);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        Some(response)
    }

    fn description(&self, status: StatusCode, request: &Parts, body_bytes: u64) -> Response<Answer> {
        self.reply(status, "application/json", Answer::Whole(describe(&self.name, request, body_bytes)))
    }

    fn text(&self, status: StatusCode, text: &str) -> Response<Answer> {
        self.reply(status, "text/plain", Answer::Whole(text.to_owned().into()))
    }

    fn reply(&self, status: StatusCode, content_type: &'static str, body: Answer) -> Response<Answer> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(NAME, self.name_header.clone());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// The other end of a connection, and what the connection becomes when its HTTP ends.
#[derive(Debug)]
struct Client {
    address: SocketAddr,
    upgrade: Mutex<Option<OnUpgrade>>,
}

impl Client {
    fn upgrade(&self) -> MutexGuard<'_, Option<OnUpgrade>> {
        self.upgrade.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn was_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED) || headers.contains_key(VIA) || headers.contains_key("x-forwarded-for")
}

async fn count(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

/// Accepts and answers until it is dropped; dropping it ends its connections too. HTTP/1.1 and, with prior knowledge, HTTP/2.
pub async fn serve(listener: TcpListener, responder: Arc<Responder>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => drop(connections.spawn(serve_connection(stream, client, Arc::clone(&responder)))),
                // Out of descriptors: the client waits in the queue until one is free again.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, address: SocketAddr, responder: Arc<Responder>) {
    // Only a delay is lost if the system refuses.
    let _ = stream.set_nodelay(true);
    let client = Arc::new(Client { address, upgrade: Mutex::new(None) });
    let service = service_fn(|request| {
        let (responder, client) = (Arc::clone(&responder), Arc::clone(&client));
        async move { responder.respond(request, &client).await }
    });
    // An error is the client's end of the connection: nothing is left to answer.
    let _ =
        auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    let upgrade = client.upgrade().take();
    if let Some(upgrade) = upgrade {
        echo_messages(upgrade).await;
    }
}

/// WebSocket messages go back until the client closes.
async fn echo_messages(upgrade: OnUpgrade) {
    let Ok(connection) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        // Pings and closes are answered by the stream itself.
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::{http1, http2};
    use serde_json::Value;
    use tokio_tungstenite::client_async;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;
    use crate::cli::echo::behaviour::Latency;

    /// An echo named `v2` that lives as long as the test.
    async fn start(responder: Responder) -> (SocketAddr, Arc<Responder>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, responder) = (listener.local_addr().unwrap(), Arc::new(responder));
        tokio::spawn(serve(listener, Arc::clone(&responder)));
        (address, responder)
    }

    fn responder() -> Responder {
        Responder::new("v2", Behaviour::default(), 1)
    }

    fn request(method: &str, path: &str) -> Request<String> {
        Request::builder().method(method).uri(path).header("host", "shop").body(String::new()).unwrap()
    }

    async fn connect(address: SocketAddr) -> http1::SendRequest<String> {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(client: &mut http1::SendRequest<String>, request: Request<String>) -> (Response<()>, Bytes) {
        client.ready().await.unwrap();
        let (parts, body) = client.send_request(request).await.unwrap().into_parts();
        (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn one_connection_is_kept_for_every_kind_of_answer() {
        let (address, responder) = start(responder()).await;
        let mut client = connect(address).await;
        let (response, body) = ask(&mut client, request("POST", "/cart?a=1").map(|_| "three".to_owned())).await;
        assert_eq!(
            (response.status(), &response.headers()["x-echo-name"]),
            (StatusCode::OK, &HeaderValue::from_static("v2"))
        );
        let description: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&description["name"], &description["path"], &description["body_bytes"]),
            (&json!("v2"), &json!("/cart?a=1"), &json!(5))
        );
        for (path, status, length) in [
            ("/status/503", 503, None),
            ("/status/204", 204, Some(0)),
            ("/bytes/200000", 200, Some(200_000)),
            ("/bytes/x", 400, None),
        ] {
            let (response, body) = ask(&mut client, request("GET", path)).await;
            assert_eq!(response.status(), status, "{path}");
            assert!(length.is_none_or(|length| length == body.len()), "{path}: {} bytes", body.len());
        }
        let (response, body) = ask(&mut client, request("HEAD", "/bytes/1000")).await;
        assert_eq!((&response.headers()["content-length"], body.len()), (&HeaderValue::from_static("1000"), 0));
        assert_eq!(responder.served(), 6);
    }

    #[tokio::test]
    async fn http2_with_prior_knowledge() {
        let (address, _) = start(responder()).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://shop/a").body(String::new()).unwrap();
        let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let description: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&description["version"], &description["host"]), (&json!("HTTP/2.0"), &json!("shop")));
    }

    #[tokio::test]
    async fn web_socket_messages_come_back() {
        let (address, _) = start(responder()).await;
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut socket, response) = client_async("ws://shop/chat", stream).await.unwrap();
        assert_eq!(response.headers()["x-echo-name"], "v2");
        for message in [Message::text("hello"), Message::binary(vec![0; 100_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
        assert!(socket.next().await.is_none());
    }

    #[tokio::test]
    async fn the_switch_is_for_this_machine_alone_and_takes_effect_at_once() {
        let (address, responder) = start(responder().switchable()).await;
        let mut client = connect(address).await;
        let (response, body) = ask(&mut client, request("POST", "/_echo?latency=0ms..1ms&error_rate=100%")).await;
        let state: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (response.status(), &state["latency"], &state["error_rate"]),
            (StatusCode::OK, &json!("0ms..1ms"), &json!("100%"))
        );
        assert_eq!(ask(&mut client, request("GET", "/")).await.0.status(), 500);
        let switched = responder.behaviour();
        for (method, path, status) in [("POST", "/_echo?error_rate=no", 400), ("PUT", "/_echo?error_rate=0%", 405)] {
            assert_eq!(ask(&mut client, request(method, path)).await.0.status(), status, "{method} {path}");
        }
        let mut forwarded = request("POST", "/_echo?error_rate=0%");
        forwarded.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("10.0.0.1"));
        assert_eq!(ask(&mut client, forwarded).await.0.status(), 403);
        assert_eq!((responder.behaviour(), responder.served()), (switched, 1));
    }

    #[test]
    fn a_client_elsewhere_cannot_switch() {
        let (parts, _) = request("POST", "/_echo?error_rate=100%").into_parts();
        let responder = responder().switchable();
        assert_eq!(responder.switch(&parts, "192.0.2.1:5000".parse().unwrap()).status(), 403);
        assert_eq!(responder.behaviour(), Behaviour::default());
    }

    #[tokio::test]
    async fn without_the_switch_its_path_is_like_any_other() {
        let (address, responder) = start(responder()).await;
        let (response, _) = ask(&mut connect(address).await, request("POST", "/_echo?error_rate=100%")).await;
        assert_eq!((response.status(), responder.behaviour()), (StatusCode::OK, Behaviour::default()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_takes_the_latency_and_the_delay() {
        let latency = Latency::always(Duration::from_secs(2));
        let (address, _) = start(Responder::new("v2", Behaviour { latency, error_rate: 0.0 }, 1)).await;
        let mut client = connect(address).await;
        let before = tokio::time::Instant::now();
        ask(&mut client, request("GET", "/delay/1s")).await;
        assert_eq!(before.elapsed().as_secs(), 3);
    }
}

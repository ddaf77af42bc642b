//! Asking a running proxy: one request to its admin port, one answer.

use std::env;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::uri::Authority;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::app::{AdminAddress, AdminToken};

/// How long the connection may take, and then the answer: a large configuration takes a while to check.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);
/// The largest answer that is read.
const MAX_ANSWER: usize = 64 << 20;

/// Where the proxy is asked; shared by every command that asks one.
#[derive(Args, Clone, Debug)]
pub struct AdminOption {
    /// The admin address of the proxy
    #[arg(long, value_name = "URL|ADDR:PORT|unix:PATH", default_value = "127.0.0.1:15000")]
    admin: Admin,

    #[command(flatten)]
    token: TokenOption,
}

/// The token of the admin port.
#[derive(Args, Clone, Debug)]
pub struct TokenOption {
    /// A file that holds the token of the admin port, 16 characters or more; needed where other machines can reach it
    /// [env: SERIN_ADMIN_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

impl AdminOption {
    /// The proxy to ask, with the token to say.
    ///
    /// # Errors
    /// There is no good token in the file: what to tell the operator.
    pub fn open(&self) -> Result<Admin, String> {
        self.token.open(&self.admin)
    }
}

impl TokenOption {
    /// The file that the option names, or else the environment. A variable without a value is as good as none, as everywhere; clap's
    /// own reading of it would take that for a mistake.
    pub fn file(&self) -> Option<PathBuf> {
        let variable = || env::var_os("SERIN_ADMIN_TOKEN_FILE").filter(|file| !file.is_empty());
        self.admin_token_file.clone().or_else(|| variable().map(PathBuf::from))
    }

    /// As [`AdminOption::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(&self, admin: &Admin) -> Result<Admin, String> {
        let token = self.file().as_deref().map(AdminToken::read).transpose()?;
        Ok(Admin { token, ..admin.clone() })
    }
}

/// The admin port of a proxy.
#[derive(Clone, Debug)]
pub struct Admin {
    place: Place,
    token: Option<AdminToken>,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A host and a port.
    Network(Authority),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A connection to it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What it answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

impl FromStr for Admin {
    type Err = String;

    /// `127.0.0.1:15000`, `localhost:15000`, `http://127.0.0.1:15000/`, `unix:/run/serin/admin.sock`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = AdminAddress::unix(text) {
            return Ok(Self { place: Place::Unix(path?), token: None });
        }
        let wanted =
            || "wanted an address and port, such as 127.0.0.1:15000 or http://localhost:15000, or unix:PATH".to_owned();
        let authority = match text.split_once("://") {
            None => text.parse::<Authority>().map_err(|_| wanted())?,
            Some(("http", _)) => {
                let uri: Uri = text.parse().map_err(|_| wanted())?;
                if uri.path_and_query().is_some_and(|path| path != "/") {
                    return Err("wanted the address alone, without a path".to_owned());
                }
                uri.authority().cloned().ok_or_else(wanted)?
            }
            Some(_) => return Err("the admin port speaks http:// only, or is at unix:PATH".to_owned()),
        };
        let named = !authority.host().is_empty() && !authority.as_str().contains('@');
        let whole = named && authority.port_u16().is_some();
        if whole { Ok(Self { place: Place::Network(authority), token: None }) } else { Err(wanted()) }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Network(authority) => authority.fmt(f),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Admin {
    /// Asks for a resource.
    ///
    /// # Errors
    /// When there is no answer, or one that is not JSON: what to tell the operator.
    pub fn get(&self, path: &str) -> Result<Answer, String> {
        self.ask(&Method::GET, path, None)
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post(&self, path: &str) -> Result<Answer, String> {
        self.ask(&Method::POST, path, None)
    }

    /// Asks for something to be done, in more words.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn post_json(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.ask(&Method::POST, path, Some(body))
    }

    fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let request = self.request(method, path, body)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(self.send(request))
    }

    /// As [`get`](Self::get), without holding the thread up; to be given up by dropping it.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn fetch(&self, path: &str) -> Result<Answer, String> {
        self.send(self.request(&Method::GET, path, None)?).await
    }

    /// As [`post`](Self::post), without holding the thread up.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(super) async fn tell(&self, path: &str) -> Result<Answer, String> {
        self.send(self.request(&Method::POST, path, None)?).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let stream = timeout(CONNECT, self.connect()).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| self.unreachable(&error))?;
        let exchange = timeout(ANSWER, self.exchange(stream, request)).await;
        let (status, body) = exchange.unwrap_or_else(|_| Err(format!("no answer from {self} within {ANSWER:?}")))?;
        let body = serde_json::from_slice(&body).map_err(|_| {
            format!("what listens on {self} answered {status} and no JSON: is it the admin port of serin?")
        })?;
        Ok(Answer { status, body })
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.place {
            Place::Network(authority) => Box::new(TcpStream::connect(authority.as_str()).await?),
            Place::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }

    fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Request<Full<Bytes>>, String> {
        let host = match &self.place {
            Place::Network(authority) => authority.as_str(),
            // It takes any, and HTTP wants one.
            Place::Unix(_) => "localhost",
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.authorization());
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        request.body(Full::new(body)).map_err(|error| format!("cannot ask {self} for {path}: {error}"))
    }

    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), String> {
        let broken = |error: &dyn fmt::Display| format!("{self} did not answer as an admin port does: {error}");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(|error| broken(&error))?.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        // The connection only moves while it is polled; it ends first when the answer closes it.
        tokio::select! {
            done = &mut exchange => done,
            _ = connection => exchange.await,
        }
    }

    fn unreachable(&self, error: &io::Error) -> String {
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        let help = match (&self.place, error.kind()) {
            (Place::Unix(_), io::ErrorKind::PermissionDenied) => {
                "the socket is for the user alone that `serin run` runs as"
            }
            _ => "is `serin run` running? --admin says where, as in its own --admin",
        };
        format!("cannot reach the admin port at {self}: {reason}\n  help: {help}")
    }
}

impl Answer {
    /// What the admin port says about why it did not do what it was asked.
    pub fn refusal(&self) -> String {
        let message = self.body["message"].as_str().unwrap_or("no reason given");
        format!("the admin port answered {}: {message}", self.status)
    }
}

/// A name as one segment of a path (RFC 3986): everything but unreserved characters escaped.
pub(super) fn segment(name: &str) -> String {
    name.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_may_be_written_as_a_url() {
        for text in ["127.0.0.1:15000", "http://127.0.0.1:15000", "http://127.0.0.1:15000/"] {
            assert_eq!(text.parse::<Admin>().unwrap().to_string(), "127.0.0.1:15000", "{text}");
        }
        for text in ["[::1]:15000", "localhost:15000", "unix:/run/serin/admin.sock"] {
            assert_eq!(text.parse::<Admin>().unwrap().to_string(), text);
        }
        for text in
            ["", "15000", "localhost", ":15000", "https://localhost:1", "http://a:1/x", "user@a:1", "a b:1", "unix:"]
        {
            assert!(text.parse::<Admin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_of_another_user_is_said_to_be_one() {
        let admin: Admin = "unix:/run/a".parse().unwrap();
        let denied = admin.unreachable(&io::ErrorKind::PermissionDenied.into());
        assert!(denied.starts_with("cannot reach the admin port at unix:/run/a: permission denied\n"), "{denied}");
        assert!(denied.contains("for the user alone"), "{denied}");
        assert!(admin.unreachable(&io::ErrorKind::NotFound.into()).contains("is `serin run` running?"));
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("shop/product-service_1.2~"), "shop%2Fproduct-service_1.2~");
        assert_eq!(segment("a b?c#d%ü"), "a%20b%3Fc%23d%25%C3%BC");
    }

    /// Answers one request with these bytes; gives back the request.
    fn one_answer(answer: &'static str) -> (Admin, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap().to_string().parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (admin, server)
    }

    #[test]
    fn an_answer_is_read_to_its_end_however_it_is_framed() {
        for answer in [
            "HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 12\r\n\r\n{\"message\":1",
            "HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 13\r\n\r\n{\"message\":1}",
            "HTTP/1.1 422 Unprocessable Entity\r\nconnection: close\r\n\r\n{\"message\":1}",
            "HTTP/1.1 422 Unprocessable Entity\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"message\r\n4\r\n\":1}\r\n0\r\n\r\n",
        ] {
            let (admin, server) = one_answer(answer);
            let result = admin.post("/config/reload");
            let request = server.join().unwrap();
            assert!(request.starts_with("POST /config/reload HTTP/1.1\r\n"), "{request}");
            assert!(request.contains(&format!("host: {admin}\r\n")), "{request}");
            if answer.contains("length: 12") {
                assert!(result.unwrap_err().contains("no JSON"));
            } else {
                let answer = result.unwrap();
                assert_eq!((answer.status.as_u16(), answer.body), (422, json!({ "message": 1 })));
            }
        }
    }

    #[test]
    fn what_is_no_admin_port_is_named() {
        let (admin, server) = one_answer("SSH-2.0-OpenSSH\r\n\r\n");
        assert!(admin.get("/config/status").unwrap_err().contains("did not answer as an admin port does"));
        server.join().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let message = free.to_string().parse::<Admin>().unwrap().get("/").unwrap_err();
        assert!(message.contains(&format!("cannot reach the admin port at {free}: connection refused")), "{message}");
    }
}

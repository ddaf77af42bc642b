//! One HTTP request to a program beside the traffic: a Prometheus that is asked, a webhook that is told.
//!
//! Each has a connection of its own: they come seconds apart, so nothing idle is kept and none is found closed. HTTP/1.1, with
//! TLS where the URL says `https`. Follows no redirect, uses no HTTP proxy, never tries twice; that is the caller's.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

#[cfg(test)]
pub(super) mod test_server;
#[cfg(test)]
mod tests;

/// The most that hyper buffers for a connection and direction, and the largest head of an answer, in bytes.
const BUFFER: usize = 64 * 1024;
/// Who asks.
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("serin/", env!("CARGO_PKG_VERSION")));

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Nothing that could be asked.
    #[error("it is no URL that begins with `http://` or `https://` and names a host")]
    Url,
    /// It took longer than it may.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// No TLS: a certificate that is not believed, say.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// A host that no certificate can name.
    #[error("the host is no server name for TLS")]
    ServerName,
    /// Certificates cannot be judged.
    #[error("this system has no certificate authorities")]
    NoAuthorities,
    /// TLS cannot be used as this process was built.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The connection ended, or what came is no HTTP.
    #[error("no complete HTTP answer: {0}")]
    Broken(#[from] hyper::Error),
    /// More than is read.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

/// Until when a whole exchange has to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    limit: Duration,
    at: Instant,
}

impl Deadline {
    /// So long from now.
    pub(super) fn within(limit: Duration) -> Self {
        Self { limit, at: Instant::now() + limit }
    }

    /// What a future gives, if that is in time.
    pub(super) async fn keep<T>(self, future: impl Future<Output = T>) -> Result<T, HttpError> {
        timeout_at(self.at, future).await.map_err(|_| HttpError::Timeout(self.limit))
    }
}

/// Where a request goes. Shown as its origin only: paths of webhooks are often secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    tls: bool,
    authority: Authority,
    path: PathAndQuery,
}

impl Url {
    /// `http://HOST[:PORT][/PATH][?QUERY]`, or the same with `https`. A fragment is left out.
    pub(super) fn parse(text: &str) -> Result<Self, HttpError> {
        let parts = text.parse::<Uri>().map_err(|_| HttpError::Url)?.into_parts();
        let tls = match parts.scheme {
            Some(scheme) if scheme == Scheme::HTTP => false,
            Some(scheme) if scheme == Scheme::HTTPS => true,
            _ => return Err(HttpError::Url),
        };
        let authority = parts.authority.filter(|it| !it.host().is_empty() && !it.as_str().contains('@'));
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { tls, authority: authority.ok_or(HttpError::Url)?, path })
    }

    /// A resource below this one, whether or not it ends in a slash; a query is left out.
    pub(super) fn below(&self, path: &str) -> Result<Self, HttpError> {
        let path = format!("{}/{path}", self.path.path().trim_end_matches('/'));
        Ok(Self { path: path.parse().map_err(|_| HttpError::Url)?, ..self.clone() })
    }

    /// Without the brackets of an IPv6 address.
    fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.tls { 443 } else { 80 })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// A request: all of them are POST.
#[derive(Debug)]
pub(super) struct Post {
    /// Where to.
    pub(super) url: Url,
    /// Beside `host`, `user-agent` and `content-length`.
    pub(super) headers: HeaderMap,
    /// What is said.
    pub(super) body: Bytes,
}

/// The head of an answer, and its body to come. The connection ends with it.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response<Incoming>,
    deadline: Deadline,
    /// Whoever drops the answer aborts what reads it.
    _connection: JoinSet<()>,
}

impl Answer {
    /// Its status code.
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header that is there and is text.
    pub(super) fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Its body.
    ///
    /// # Errors
    /// It has more than `most` bytes, does not come in time, or ends early.
    pub(super) async fn body(self, most: usize) -> Result<Bytes, HttpError> {
        let body = self.deadline.keep(Limited::new(self.response.into_body(), most).collect()).await?;
        Ok(body.map_err(|error| too_large_or_broken(error, most))?.to_bytes())
    }
}

fn too_large_or_broken(error: Box<dyn std::error::Error + Send + Sync>, most: usize) -> HttpError {
    match error.downcast::<hyper::Error>() {
        Ok(broken) => HttpError::Broken(*broken),
        Err(other) => {
            debug_assert!(other.is::<LengthLimitError>(), "{other}");
            HttpError::TooLarge(most)
        }
    }
}

/// What a request travels on.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How connections are made.
enum Dial {
    Tcp,
    /// Without sockets, so that a test can stop the clock.
    #[cfg(test)]
    Memory(test_server::Dialled),
}

/// Sends requests; needs a tokio runtime with I/O and time, and blocks no thread of it.
pub(super) struct Client {
    dial: Dial,
    /// Made for the first `https` URL: the authorities of this system are a file of 200 kB.
    tls: OnceCell<Arc<ClientConfig>>,
}

impl Client {
    /// One that believes the certificate authorities of this system.
    pub(super) fn new() -> Self {
        Self { dial: Dial::Tcp, tls: OnceCell::new() }
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// There is none by the deadline. Every status code is an answer.
    pub(super) async fn send(&self, post: Post, deadline: Deadline) -> Result<Answer, HttpError> {
        deadline.keep(self.exchange(post, deadline)).await?
    }

    async fn exchange(&self, post: Post, deadline: Deadline) -> Result<Answer, HttpError> {
        let stream = self.connect(&post.url).await?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(BUFFER).max_header_size(BUFFER).handshake(TokioIo::new(stream)).await?;
        let mut driven = JoinSet::new();
        driven.spawn(async move {
            // Its error reaches whoever waits for the answer.
            let _ = connection.await;
        });
        let mut request = Request::new(Full::new(post.body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = Uri::from(post.url.path);
        *request.headers_mut() = post.headers;
        let host = HeaderValue::from_str(post.url.authority.as_str()).map_err(|_| HttpError::Url)?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        let response = sender.send_request(request).await?;
        Ok(Answer { response, deadline, _connection: driven })
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, HttpError> {
        let stream: Box<dyn Stream> = match &self.dial {
            Dial::Tcp => Box::new(TcpStream::connect((url.host(), url.port())).await.map_err(HttpError::Connect)?),
            #[cfg(test)]
            Dial::Memory(dialled) => Box::new(dialled().map_err(HttpError::Connect)?),
        };
        if !url.tls {
            return Ok(stream);
        }
        let name = ServerName::try_from(url.host().to_owned()).map_err(|_| HttpError::ServerName)?;
        let config = self.tls.get_or_try_init(system_trust).await?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(HttpError::Tls)?))
    }
}

/// TLS by the authorities of this system, as for endpoints without `caCertificates`.
async fn system_trust() -> Result<Arc<ClientConfig>, HttpError> {
    // Reading and parsing takes tens of milliseconds, which the runtime's thread does not have.
    let roots = spawn_blocking(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    });
    trust(roots.await.unwrap_or_else(|_| RootCertStore::empty()))
}

fn trust(roots: RootCertStore) -> Result<Arc<ClientConfig>, HttpError> {
    if roots.is_empty() {
        return Err(HttpError::NoAuthorities);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

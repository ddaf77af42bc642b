//! `kind: VirtualService`. Field documentation: Istio's API reference; what each means here: docs/istio-compatibility.md.

mod l4;

use std::time::Duration;

pub use self::l4::{RouteDestination, TcpMatch, TcpRoute, TlsMatch, TlsRoute};
use crate::config::place::{Place, Spanned};
use crate::config::value::{Percent, StringMap, StringMatch};

/// `spec` of a VirtualService.
#[derive(Clone, Debug, Default)]
pub struct VirtualService {
    /// Names it answers to.
    pub hosts: Vec<Spanned<String>>,
    /// Gateways it is bound to; `None` means `mesh`.
    pub gateways: Option<Vec<Spanned<String>>>,
    /// HTTP rules, first match wins.
    pub http: Vec<HttpRoute>,
    /// SNI rules.
    pub tls: Vec<TlsRoute>,
    /// TCP rules.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see it.
    pub export_to: Vec<Spanned<String>>,
    /// Where `spec` stands.
    pub place: Place,
}

/// One entry of `http`. What most rules do not have is boxed: there may be a hundred thousand of them.
#[derive(Clone, Debug, Default)]
pub struct HttpRoute {
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `match`: any of these blocks; empty means everything.
    pub matches: Vec<HttpMatch>,
    /// `route`: weighted destinations.
    pub route: Vec<HttpRouteDestination>,
    /// `redirect`.
    pub redirect: Option<Box<HttpRedirect>>,
    /// `directResponse`.
    pub direct_response: Option<Box<HttpDirectResponse>>,
    /// `delegate`.
    pub delegate: Option<Box<Delegate>>,
    /// `rewrite`.
    pub rewrite: Option<Box<HttpRewrite>>,
    /// `timeout`.
    pub timeout: Option<Spanned<Duration>>,
    /// `retries`.
    pub retries: Option<Box<HttpRetry>>,
    /// `fault`.
    pub fault: Option<Box<HttpFault>>,
    /// `mirror`.
    pub mirror: Option<Box<Destination>>,
    /// `mirrors`.
    pub mirrors: Vec<HttpMirror>,
    /// `mirrorPercent` (deprecated).
    pub mirror_percent: Option<Spanned<i64>>,
    /// `mirrorPercentage`; `{}` is 0.
    pub mirror_percentage: Option<Percent>,
    /// `corsPolicy`.
    pub cors_policy: Option<Box<CorsPolicy>>,
    /// `headers`.
    pub headers: Option<Box<Headers>>,
    /// Where the rule begins.
    pub place: Place,
}

/// One block of `match`: all conditions hold.
#[derive(Clone, Debug, Default)]
pub struct HttpMatch {
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `uri`.
    pub uri: Option<Spanned<StringMatch>>,
    /// `scheme`.
    pub scheme: Option<Spanned<StringMatch>>,
    /// `method`.
    pub method: Option<Spanned<StringMatch>>,
    /// `authority`.
    pub authority: Option<Spanned<StringMatch>>,
    /// `headers`; a null value is `None`.
    pub headers: Vec<(Spanned<String>, Option<Spanned<StringMatch>>)>,
    /// `withoutHeaders`; a null value is `None`.
    pub without_headers: Vec<(Spanned<String>, Option<Spanned<StringMatch>>)>,
    /// `queryParams`; a null value is `None`.
    pub query_params: Vec<(Spanned<String>, Option<Spanned<StringMatch>>)>,
    /// `ignoreUriCase`.
    pub ignore_uri_case: Option<Spanned<bool>>,
    /// `port` of the listener.
    pub port: Option<Spanned<i64>>,
    /// `gateways`.
    pub gateways: Vec<Spanned<String>>,
    /// `sourceLabels`.
    pub source_labels: StringMap,
    /// `sourceNamespace`.
    pub source_namespace: Option<Spanned<String>>,
    /// `statPrefix`.
    pub stat_prefix: Option<Spanned<String>>,
    /// Where the block begins.
    pub place: Place,
}

/// One entry of `route`.
#[derive(Clone, Debug, Default)]
pub struct HttpRouteDestination {
    /// `destination`.
    pub destination: Option<Destination>,
    /// `weight`.
    pub weight: Option<Spanned<i64>>,
    /// `headers`.
    pub headers: Option<Box<Headers>>,
    /// Where the entry begins.
    pub place: Place,
}

/// `destination`.
#[derive(Clone, Debug, Default)]
pub struct Destination {
    /// `host`; empty when absent.
    pub host: Spanned<String>,
    /// `subset`.
    pub subset: Option<Spanned<String>>,
    /// `port.number`; an empty `port: {}` is 0.
    pub port: Option<Spanned<i64>>,
    /// Where the object begins.
    pub place: Place,
}

/// `redirect`.
#[derive(Clone, Debug, Default)]
pub struct HttpRedirect {
    /// `uri`.
    pub uri: Option<Spanned<String>>,
    /// `prefixRewrite`.
    pub prefix_rewrite: Option<Spanned<String>>,
    /// `authority`.
    pub authority: Option<Spanned<String>>,
    /// `port`.
    pub port: Option<Spanned<i64>>,
    /// `derivePort`.
    pub derive_port: Option<Spanned<DerivePort>>,
    /// `scheme`.
    pub scheme: Option<Spanned<String>>,
    /// `redirectCode`.
    pub redirect_code: Option<Spanned<i64>>,
    /// Where the object begins.
    pub place: Place,
}

/// `redirect.derivePort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DerivePort {
    /// `FROM_PROTOCOL_DEFAULT`.
    FromProtocolDefault,
    /// `FROM_REQUEST_PORT`.
    FromRequestPort,
}

/// `directResponse`.
#[derive(Clone, Debug, Default)]
pub struct HttpDirectResponse {
    /// `status`; 0 when absent.
    pub status: Spanned<i64>,
    /// `body`.
    pub body: Option<Spanned<DirectBody>>,
    /// Where the object begins.
    pub place: Place,
}

/// `directResponse.body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectBody {
    /// `string`.
    Text(String),
    /// `bytes`, decoded from base64.
    Bytes(Vec<u8>),
}

/// `delegate`.
#[derive(Clone, Debug, Default)]
pub struct Delegate {
    /// `name`; empty when absent.
    pub name: Spanned<String>,
    /// `namespace`.
    pub namespace: Option<Spanned<String>>,
    /// Where the object begins.
    pub place: Place,
}

/// `rewrite`.
#[derive(Clone, Debug, Default)]
pub struct HttpRewrite {
    /// `uri`.
    pub uri: Option<Spanned<String>>,
    /// `authority`.
    pub authority: Option<Spanned<String>>,
    /// `uriRegexRewrite`.
    pub uri_regex_rewrite: Option<RegexRewrite>,
    /// Where the object begins.
    pub place: Place,
}

/// `rewrite.uriRegexRewrite`.
#[derive(Clone, Debug, Default)]
pub struct RegexRewrite {
    /// `match`: a search, not anchored. Empty when absent.
    pub pattern: Spanned<String>,
    /// `rewrite`, with `\0`…`\9`. Empty when absent.
    pub rewrite: Spanned<String>,
    /// Where the object begins.
    pub place: Place,
}

/// `retries`.
#[derive(Clone, Debug, Default)]
pub struct HttpRetry {
    /// `attempts`.
    pub attempts: Option<Spanned<i64>>,
    /// `perTryTimeout`.
    pub per_try_timeout: Option<Spanned<Duration>>,
    /// `retryOn`.
    pub retry_on: Option<Spanned<String>>,
    /// `retryRemoteLocalities`.
    pub retry_remote_localities: Option<Spanned<bool>>,
    /// `retryIgnorePreviousHosts`.
    pub retry_ignore_previous_hosts: Option<Spanned<bool>>,
    /// `backoff`.
    pub backoff: Option<Spanned<Duration>>,
    /// Where the object begins.
    pub place: Place,
}

/// `fault`.
#[derive(Clone, Debug, Default)]
pub struct HttpFault {
    /// `delay`.
    pub delay: Option<FaultDelay>,
    /// `abort`.
    pub abort: Option<FaultAbort>,
    /// Where the object begins.
    pub place: Place,
}

/// `fault.delay`.
#[derive(Clone, Debug, Default)]
pub struct FaultDelay {
    /// `fixedDelay`.
    pub fixed_delay: Option<Spanned<Duration>>,
    /// `exponentialDelay`.
    pub exponential_delay: Option<Spanned<Duration>>,
    /// `percent` (deprecated).
    pub percent: Option<Spanned<i64>>,
    /// `percentage`; `{}` is 0.
    pub percentage: Option<Percent>,
    /// Where the object begins.
    pub place: Place,
}

/// `fault.abort`.
#[derive(Clone, Debug, Default)]
pub struct FaultAbort {
    /// `httpStatus`.
    pub http_status: Option<Spanned<i64>>,
    /// `grpcStatus`.
    pub grpc_status: Option<Spanned<String>>,
    /// `http2Error`.
    pub http2_error: Option<Spanned<String>>,
    /// `percentage`; `{}` is 0.
    pub percentage: Option<Percent>,
    /// Where the object begins.
    pub place: Place,
}

/// One entry of `mirrors`.
#[derive(Clone, Debug, Default)]
pub struct HttpMirror {
    /// `destination`.
    pub destination: Option<Destination>,
    /// `percentage`; `{}` is 0.
    pub percentage: Option<Percent>,
    /// Where the entry begins.
    pub place: Place,
}

/// `corsPolicy`.
#[derive(Clone, Debug, Default)]
pub struct CorsPolicy {
    /// `allowOrigin` (deprecated): exact.
    pub allow_origin: Vec<Spanned<String>>,
    /// `allowOrigins`; a null entry is `None`.
    pub allow_origins: Vec<Option<Spanned<StringMatch>>>,
    /// `allowMethods`.
    pub allow_methods: Vec<Spanned<String>>,
    /// `allowHeaders`.
    pub allow_headers: Vec<Spanned<String>>,
    /// `exposeHeaders`.
    pub expose_headers: Vec<Spanned<String>>,
    /// `maxAge`.
    pub max_age: Option<Spanned<Duration>>,
    /// `allowCredentials`.
    pub allow_credentials: Option<Spanned<bool>>,
    /// `unmatchedPreflights`.
    pub unmatched_preflights: Option<Spanned<UnmatchedPreflights>>,
    /// Where the object begins.
    pub place: Place,
}

/// `corsPolicy.unmatchedPreflights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmatchedPreflights {
    /// `UNSPECIFIED`: as `FORWARD`.
    Unspecified,
    /// `FORWARD`.
    Forward,
    /// `IGNORE`.
    Ignore,
}

/// `headers`.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// `request`.
    pub request: Option<HeaderOperations>,
    /// `response`.
    pub response: Option<HeaderOperations>,
}

/// `headers.request` or `headers.response`.
#[derive(Clone, Debug, Default)]
pub struct HeaderOperations {
    /// `set`.
    pub set: StringMap,
    /// `add`.
    pub add: StringMap,
    /// `remove`.
    pub remove: Vec<Spanned<String>>,
}

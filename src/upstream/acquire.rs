//! A connection for a request: an idle one of the same worker, a place on a shared one, or a new one, within the limits of
//! the cluster. Never tries another endpoint; that is the caller's.

use std::future::Future;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, header};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use super::connect::{self, ConnectError, Opening};
use super::connection::{Connection, Http1};
use super::endpoint::{Endpoint, Lease};
use super::limits::{Overloaded, Permit, Resource};
use super::outlier::Outcome;
use super::pool::{Pool, Wanted};
use super::tls;
use super::transport::Http2Policy;

/// A handshake to come: how, and with which name.
type Handshake = (Arc<ClientConfig>, ServerName<'static>);

/// Whether a request that meets a connection which is just closing may be sent again: it is idempotent, and has no body.
fn may_be_repeated(head: &Parts) -> bool {
    let length = head.headers.get(header::CONTENT_LENGTH);
    let is_empty = length.is_none_or(|length| length == "0") && !head.headers.contains_key(header::TRANSFER_ENCODING);
    head.method.is_idempotent() && is_empty
}

impl Cluster {
    /// A connection to the endpoint of a lease, for a request with this head, whose version is the one of its client. A
    /// failure of the endpoint is reported.
    pub fn connection<'a>(
        &'a self,
        lease: &'a Lease,
        worker: usize,
        head: &'a Parts,
    ) -> impl Future<Output = Result<Connection, ConnectError>> + 'a {
        // Only where the name of a handshake depends on the request do its connections.
        let by_host = self.policy().transport.tls.as_ref().is_some_and(|tls| tls.server_name().is_none());
        let name = if by_host { host(&head.headers) } else { None };
        let wanted = Wanted { server_name: name, fresh: !may_be_repeated(head) };
        // A block instead of an async function, which would hold its arguments twice: this is in every request's future.
        async move {
            let pool = lease.endpoint().pool(worker);
            let http2 = self.policy().transport.http2_for(head.version);
            if http2.is_some() {
                if let Some(stream) = pool.shared().take(self.policy().shared_use(), name) {
                    return Ok(Connection::Http2(stream));
                }
            } else {
                while let Some(mut idle) = pool.take(self.policy().lifetime(), wanted) {
                    if wanted.fresh {
                        // Its task sees what has come meanwhile: the end of it, perhaps, which others may meet and be sent again.
                        yield_now().await;
                    }
                    if idle.sender.ready().await.is_ok() {
                        return Ok(Connection::Http1(idle));
                    }
                }
            }
            // Boxed: rare, and large beside what a request on a kept connection needs.
            let opened = Box::pin(self.open(lease.endpoint(), worker, wanted, http2)).await;
            if opened.as_ref().is_err_and(ConnectError::blames_endpoint) {
                lease.report(|| Outcome::Failed);
            }
            opened
        }
    }

    async fn open(
        &self,
        endpoint: &Arc<Endpoint>,
        worker: usize,
        wanted: Wanted<'_>,
        http2: Option<Http2Policy>,
    ) -> Result<Connection, ConnectError> {
        match http2 {
            None => self.open_http1(endpoint, worker, wanted).await,
            Some(policy) => self.open_http2(endpoint, worker, wanted.server_name, policy).await,
        }
    }

    /// The connection after its request, if it may serve another.
    pub fn keep(&self, connection: Connection) -> Option<Connection> {
        let most = self.policy().max_requests;
        match &connection {
            Connection::Http1(one) if most != 0 && one.served >= most => None,
            _ => Some(connection),
        }
    }

    async fn open_http1(
        &self,
        endpoint: &Arc<Endpoint>,
        worker: usize,
        wanted: Wanted<'_>,
    ) -> Result<Connection, ConnectError> {
        let _pending = self.policy().limits.claim(self.usage(), Resource::Pending)?;
        let until = Instant::now() + self.policy().connect_timeout;
        let permit = loop {
            if let Ok(permit) = self.policy().limits.claim(self.usage(), Resource::Connection) {
                break permit;
            }
            self.wait_for_room(endpoint, until).await?;
            if let Some(idle) = self.idle(endpoint, worker, wanted).await {
                return Ok(Connection::Http1(idle));
            }
        };
        let opened = connect::http1(&endpoint.address(), self.opening(wanted.server_name, permit, false)?).await;
        endpoint.tried(&opened);
        opened.map(|one| Connection::Http1(Box::new(one)))
    }

    /// An open connection of this worker that has nothing to do.
    async fn idle(&self, endpoint: &Endpoint, worker: usize, wanted: Wanted<'_>) -> Option<Box<Http1>> {
        while let Some(mut idle) = endpoint.pool(worker).take(self.policy().lifetime(), wanted) {
            if wanted.fresh {
                yield_now().await;
            }
            if idle.sender.ready().await.is_ok() {
                return Some(idle);
            }
        }
        None
    }

    async fn open_http2(
        &self,
        endpoint: &Arc<Endpoint>,
        worker: usize,
        name: Option<&str>,
        policy: Http2Policy,
    ) -> Result<Connection, ConnectError> {
        let (shared, limits) = (endpoint.pool(worker).shared(), self.policy().shared_use());
        let _pending = self.policy().limits.claim(self.usage(), Resource::Pending)?;
        let limit = self.policy().connect_timeout;
        let until = Instant::now() + limit;
        let opening = timeout_at(until, shared.opening.lock()).await;
        let _opening = opening.map_err(|_| ConnectError::Timeout(limit))?;
        let permit = loop {
            // Somebody else may have opened one meanwhile, or a stream on one may have ended.
            if let Some(stream) = shared.take(limits, name) {
                return Ok(Connection::Http2(stream));
            }
            if let Ok(permit) = self.policy().limits.claim(self.usage(), Resource::Connection) {
                break permit;
            }
            self.wait_for_room(endpoint, until).await?;
        };
        let opened = connect::http2(&endpoint.address(), self.opening(name, permit, true)?, policy).await;
        endpoint.tried(&opened);
        opened.map(|one| Connection::Http2(shared.add(one)))
    }

    /// Waits until a connection may have become free: an idle one elsewhere is closed for it, or else one that is busy has
    /// to end its request.
    async fn wait_for_room(&self, endpoint: &Arc<Endpoint>, until: Instant) -> Result<(), Overloaded> {
        self.close_one_idle(endpoint);
        // A connection that was freed since its claim failed is remembered, so nothing is missed.
        timeout_at(until, self.usage().wait_for_connection()).await.map_err(|_| Overloaded)
    }

    fn close_one_idle(&self, endpoint: &Arc<Endpoint>) {
        let set = self.endpoints();
        let others = set.endpoints().iter().filter(|one| !Arc::ptr_eq(one, endpoint));
        let mut pools = [endpoint].into_iter().chain(others).flat_map(|one| one.pools());
        // One is enough; its place is free as soon as its socket is closed.
        let _ = pools.any(Pool::close_idle);
    }

    fn opening(&self, name: Option<&str>, permit: Option<Permit>, http2: bool) -> Result<Opening, ConnectError> {
        let policy = self.policy();
        let tls = match &policy.transport.tls {
            None => None,
            Some(tls) => {
                let fixed = tls.server_name().cloned();
                let wanted = fixed.or_else(|| tls::name_of_host(name?)).ok_or(ConnectError::NoServerName)?;
                Some::<Handshake>((tls.config(http2), wanted))
            }
        };
        Ok(Opening {
            limit: policy.connect_timeout,
            keepalive: policy.transport.keepalive,
            tls,
            server_name: name.map(Box::from),
            permit,
            usage: policy.limits.connections.is_some().then(|| Arc::clone(self.usage())),
        })
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

//! Where requests go: clusters, their endpoints, the connections to them.
//!
//! A [`Cluster`] is what a destination (host, subset, port) resolves to. It picks one of its [`Endpoint`]s and hands out a
//! [`Lease`], which counts as an active request until it is dropped. Endpoints own their idle connections, one pool per
//! worker, and live as long as any generation of the configuration names them. Nothing here knows routes or statuses.

pub mod acquire;
pub mod balance;
pub mod body;
pub mod budget;
pub mod cluster;
pub mod connect;
pub mod connection;
mod descriptors;
pub mod endpoint;
mod fit;
pub mod gather;
pub mod hash;
pub mod http2;
pub mod kept;
pub mod limits;
pub mod outlier;
pub mod pool;
pub mod registry;
pub mod replay;
pub mod resolve;
mod stream;
pub mod tls;
pub mod transport;
pub mod warmup;

pub use balance::Balance;
pub use body::{RequestBody, UploadError, UploadProgress};
pub use budget::{Budget, RetryBudget};
pub use cluster::{Cluster, ClusterPolicy, NoHealthyUpstream, NoRetry, Unavailable, Unresolved};
pub use connect::{Address, ConnectError};
pub use connection::{Connection, Exchange};
pub use descriptors::{is_kept_from_clients, is_next_kept_from_clients};
pub use endpoint::{Endpoint, Lease};
pub use fit::fitted;
pub use kept::Bodies;
pub use limits::{Limits, Overloaded, Permit};
pub use outlier::{Outcome, OutlierPolicy};
pub use registry::{ClusterSpec, EndpointSpec, Registry, Target};
pub use replay::{Copied, NotKept, Recording};
pub use warmup::Warmup;

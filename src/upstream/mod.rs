//! Where requests go: clusters, their endpoints, the connections to them.
//!
//! A [`Cluster`] is what a destination (host, subset, port) resolves to. It picks one of its [`Endpoint`]s and hands out a
//! [`Lease`], which counts as an active request until it is dropped. Endpoints own their idle connections, one pool per
//! worker, and live as long as any generation of the configuration names them. Nothing here knows routes or statuses.

pub mod balance;
pub mod body;
pub mod budget;
pub mod cluster;
pub mod connect;
pub mod endpoint;
pub mod gather;
pub mod pool;
pub mod registry;
pub mod replay;
pub mod resolve;

pub use balance::Balance;
pub use body::{RequestBody, UploadProgress};
pub use budget::Budget;
pub use cluster::{Cluster, NoHealthyUpstream};
pub use connect::{ConnectError, Connection};
pub use endpoint::{Endpoint, Lease};
pub use registry::{ClusterSpec, EndpointSpec, Registry, Target};
pub use replay::{Copied, Recording, TooLarge};

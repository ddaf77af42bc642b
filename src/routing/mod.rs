//! The decision: which route a request takes, and which destination of it. Pure: no I/O, no clock, and randomness is an
//! argument. Generic over `D`, what a weight points at, so that it knows nothing of connections and metrics.
//!
//! Read [`table`] for what a request sees and [`compile`](mod@compile) for where it comes from.

mod assemble;
pub mod compile;
pub mod cors;
pub mod explain;
pub mod fault;
pub mod filters;
pub mod headers;
mod host;
mod matching;
pub mod mirror;
pub mod policy;
pub mod redirect;
pub mod rewrite;
pub mod split;
pub mod sticky;
pub mod table;
pub mod template;
#[cfg(test)]
mod testing;

pub use compile::{Options, Wanted, compile};
pub use cors::{Cors, CorsVerdict};
pub use explain::{Explained, Skipped};
pub use fault::{Abort, Fault};
pub use filters::{Chance, Filters};
pub use headers::HeaderOps;
pub use mirror::Mirror;
pub use policy::{RetryOn, RetryPolicy};
pub use redirect::{DirectResponse, Redirect};
pub use rewrite::Matched;
pub use split::{Entry, Split};
pub use sticky::{Drawn, Sticky};
pub use table::{Action, Found, Hosts, Origin, RequestView, Route, RouteTable, Rule, Target};
pub use template::{Answered, Facts, Kept};

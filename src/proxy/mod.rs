//! The journey of a request, from the accepted connection to the last byte of the answer. Start reading in `handler.rs`.
//!
//! A worker is one thread with its own runtime, listeners, upstream connections and counters. It reads the configuration
//! only as one immutable snapshot per request and never changes it.

mod abuse;
mod admission;
mod affinity;
mod attempt;
mod body;
mod bounds;
mod client_certificate;
mod connection;
mod cors;
mod draw;
pub mod failure;
mod fault;
mod forward;
mod handler;
mod headers;
mod http1;
mod io;
mod isolation;
mod journey;
mod limits;
mod listener;
mod mirror;
mod pace;
mod pulse;
mod record;
mod reply;
mod retry;
mod state;
mod streams;
mod tls;
mod trial;
mod upgrade;
mod watch;
mod worker;

pub use admission::{Admission, Memory};
pub use client_certificate::Demands;
pub use draw::Draws;
pub use limits::Limits;
pub use listener::{Bound, Listener, Opened, Room, Scheme, bind, bind_shared};
pub use pulse::{Activity, Life, Pulse};
pub use tls::{Clients, TlsError, TlsServer, TlsServers, Trust};
pub use worker::{Shared, Worker, WorkerHandle};

//! What the operator wrote: reading it, checking it, saying what is wrong with it. Pure, but for `load`, which reads files.
//! Nothing here knows how a request is served.

pub mod binding;
pub mod credentials;
mod decode;
pub mod delegates;
pub mod diagnostic;
pub mod edit;
mod files;
pub mod gateways;
pub mod load;
pub mod names;
mod path;
pub mod place;
pub mod quick;
pub mod re2;
pub mod release;
pub mod render;
pub mod resource;
pub mod services;
pub mod settings;
pub mod sticky;
#[cfg(test)]
pub(crate) mod testing;
mod text;
pub mod tls_terms;
pub mod traffic;
pub mod validate;
pub mod value;
pub(crate) mod yaml;

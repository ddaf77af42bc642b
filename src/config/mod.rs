//! What the operator wrote: reading it, checking it, saying what is wrong with it. Pure, but for `load`, which reads files.
//! Nothing here knows how a request is served.

pub mod diagnostic;
pub mod names;
pub mod place;
pub mod resource;
pub mod services;
pub mod settings;
pub mod traffic;
pub mod validate;
pub mod value;

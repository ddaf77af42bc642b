//! `/`: the list of resources, for a person who followed the port.

use std::fmt::Write as _;

use super::resources::RESOURCES;

/// Plain text.
pub(super) fn text() -> String {
    let mut text = format!("serin {}\n\n", env!("CARGO_PKG_VERSION"));
    let widest = RESOURCES.iter().map(|resource| resource.path.len()).max().unwrap_or_default();
    for resource in RESOURCES {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<4} {:<widest$}  {}", resource.method, resource.path, resource.does);
    }
    text
}

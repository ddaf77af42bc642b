//! What must hold whatever comes in, one file for each way in. [`fuzzing`](super::fuzzing) asks them about the files of
//! `tests/corpus` and about random changes of these; the fuzz targets in `fuzz` look for more with the same code. So nothing
//! here uses anything but the library's public API, and what is wrong is a panic.

pub(crate) mod config_bytes;
pub(crate) mod grammar;
pub(crate) mod header_edits;
pub(crate) mod http2_frames;
pub(crate) mod naive_matcher;
pub(crate) mod request_framing;
pub(crate) mod response_framing;
pub(crate) mod route_matcher;
pub(crate) mod stand;

/// The lines of a text input, each as its first word and the rest. Input that is no text has none.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')).map(first_word)
}

fn first_word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

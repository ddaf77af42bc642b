//! `If-Match`: a change that is meant for what its sender has seen, and for nothing else. Here it is read; whoever makes the change
//! looks, in its turn, what is in force.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::request::Parts;

use super::reply::Refusal;
use crate::control::{Meant, Outdated};

/// What the request is meant for. Everything that changes something takes it.
pub(super) struct IfMatch(pub(super) Meant);

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(meant(&parts.headers)))
    }
}

fn meant(headers: &HeaderMap) -> Meant {
    if !headers.contains_key(header::IF_MATCH) {
        return Meant::ForAny;
    }
    let named = headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<_> = named.flat_map(|value| value.split(',')).map(str::trim).collect();
    match named.contains(&"*") {
        true => Meant::ForAny,
        false => Meant::For(named.into_iter().filter_map(generation).collect()),
    }
}

/// The generation of a tag, if it is one that [`tag`] could have made: tags are compared as text.
fn generation(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    digits.parse().ok().filter(|generation: &u64| generation.to_string() == digits)
}

/// The entity tag of a configuration's status: its generation in quotes.
pub(super) fn tag(status: &serde_json::Value) -> Option<HeaderValue> {
    let generation = status["generation"].as_u64()?;
    HeaderValue::from_str(&format!("\"{generation}\"")).ok()
}

impl From<Outdated> for Refusal {
    fn from(outdated: Outdated) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "outdated", outdated.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tags_as_they_are_given_out_name_a_generation() {
        let read = |values: &[&str]| {
            let values = values.iter().map(|value| (header::IF_MATCH, HeaderValue::from_str(value).unwrap()));
            meant(&values.collect())
        };
        assert_eq!(read(&[]), Meant::ForAny);
        for any in ["*", "\"1\", *"] {
            assert_eq!(read(&[any]), Meant::ForAny, "{any}");
        }
        assert_eq!(read(&["\"7\", \"0\"", "\"9\""]), Meant::For(vec![7, 0, 9]));
        for none in ["", "7", "W/\"7\"", "\"07\"", "\"+7\"", "\"\"", "\"7", "\"-1\"", "\"99999999999999999999\""] {
            assert_eq!(read(&[none]), Meant::For(Vec::new()), "{none}");
        }
    }
}

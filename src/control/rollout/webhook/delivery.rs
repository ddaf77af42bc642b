//! One delivery and one try of it: the request, its signature, and what the answer means.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{CONTENT_TYPE, InvalidHeaderValue, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use ring::hmac;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::control::rollout::WebhookOrder;
use crate::control::rollout::http_client::{Client, Deadline, HttpError, Post, Url};

const EVENT: HeaderName = HeaderName::from_static("x-serin-event");
const DELIVERY: HeaderName = HeaderName::from_static("x-serin-delivery");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-serin-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-serin-signature");
/// A larger file is no key, in bytes.
const LARGEST_KEY: u64 = 64 * 1024;

/// By what a receiver knows a message again: 32 hexadecimal digits, one for each thing that a release does, the same for every
/// webhook that is told of it and for every try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// One that was never there before.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a try failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// For the log.
    reason: String,
    /// Whether another try may do better.
    pub(super) again: bool,
    /// How long the receiver asks to be left alone.
    pub(super) after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Failure {
    fn at_last(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), again: false, after: None }
    }

    fn for_now(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), again: true, after: None }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Url | HttpError::ServerName => Self::at_last(error),
            _ => Self::for_now(error),
        }
    }
}

impl From<InvalidHeaderValue> for Failure {
    fn from(error: InvalidHeaderValue) -> Self {
        Self::at_last(error)
    }
}

/// Something to be said to one webhook.
#[derive(Debug)]
pub(super) struct Delivery {
    hook: WebhookOrder,
    event: String,
    id: DeliveryId,
    body: Bytes,
    /// Where to, as it is shown.
    origin: String,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "webhook `{}` to {} (delivery {})", self.event, self.origin, self.id)
    }
}

impl Delivery {
    pub(super) fn new(hook: WebhookOrder, event: &str, body: &Value, id: DeliveryId) -> Self {
        let origin = Url::parse(&hook.url).map_or_else(|_| "what is no URL".to_owned(), |url| url.to_string());
        Self { hook, event: event.to_owned(), id, body: body.to_string().into(), origin }
    }

    /// How often it may be tried after the first time.
    pub(super) fn retries(&self) -> u64 {
        self.hook.retries.into()
    }

    /// Tries once. The answer's head decides; its body is not read.
    pub(super) async fn attempt(&self, client: &Client) -> Result<(), Failure> {
        let deadline = Deadline::within(self.hook.timeout);
        let url = Url::parse(&self.hook.url)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(EVENT, HeaderValue::from_str(&self.event)?);
        headers.insert(DELIVERY, HeaderValue::from_str(&self.id.0)?);
        if let Some(file) = self.hook.secret.clone() {
            let key = deadline.keep(read_key(file)).await?.map_err(Failure::for_now)?;
            // Of this try, not of the first: the receiver compares it with its clock.
            let timestamp = Timestamp::now().as_second().to_string();
            headers.insert(SIGNATURE, HeaderValue::from_str(&sign(&key, &timestamp, &self.id, &self.body))?);
            headers.insert(TIMESTAMP, HeaderValue::from_str(&timestamp)?);
        }
        let answer = client.send(Post { url, headers, body: self.body.clone() }, deadline).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let mut failure = Failure::at_last(format!("answered {}", status.as_u16()));
        failure.again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        failure.after = answer.header(&RETRY_AFTER).and_then(|text| retry_after(text, Timestamp::now()));
        Err(failure)
    }
}

/// `sha256=` and HMAC-SHA256 of `TIMESTAMP.DELIVERY.BODY` in hexadecimal digits.
///
/// The timestamp is in it so that an old request cannot be sent again by somebody else, the delivery so that a fresh one cannot
/// be sent again under another name.
fn sign(key: &[u8], timestamp: &str, id: &DeliveryId, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in [timestamp.as_bytes(), b".", id.0.as_bytes(), b".", body] {
        context.update(part);
    }
    format!("sha256={}", HEXLOWER.encode(context.sign().as_ref()))
}

/// The key in a file, read anew each time so that it can be changed; one newline at its end is the editor's.
async fn read_key(file: PathBuf) -> io::Result<Vec<u8>> {
    let named = format!("the key of the signature, `{}`", file.display());
    let key = spawn_blocking(move || read(&file)).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    key.map_err(|error| io::Error::new(error.kind(), format!("{named}: {error}")))
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    File::open(file)?.take(LARGEST_KEY + 1).read_to_end(&mut key)?;
    if key.len() as u64 > LARGEST_KEY {
        return Err(io::Error::other(format!("the file has more than {LARGEST_KEY} bytes")));
    }
    if key.pop_if(|last| *last == b'\n').is_some() {
        key.pop_if(|last| *last == b'\r');
    }
    // Anybody can sign with nothing.
    if key.is_empty() { Err(io::Error::other("the file is empty")) } else { Ok(key) }
}

/// Seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_of_time_delivery_and_body() {
        // printf '1700000000.00ff.{"a":1}' | openssl dgst -sha256 -hmac Jefe
        let id = DeliveryId("00ff".to_owned());
        let signature = sign(b"Jefe", "1700000000", &id, br#"{"a":1}"#);
        assert_eq!(signature, "sha256=4a5c1b3aeec5c2771c490a2b1397af1537079ab421b46c9439f3d0119271b33b");
    }

    #[test]
    fn deliveries_have_names_of_their_own() {
        let [one, other] = [DeliveryId::random(), DeliveryId::random()];
        assert_ne!(one, other);
        assert_eq!(one.to_string().len(), 32);
    }

    #[test]
    fn a_key_loses_one_newline_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        for (text, key) in [("k\n", "k"), ("k\r\n", "k"), (" k \n\n", " k \n"), ("k", "k"), ("k\r", "k\r")] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(&file).unwrap(), key.as_bytes(), "{text:?}");
        }
        for text in ["", "\n", "\r\n", "k".repeat(LARGEST_KEY as usize + 1).as_str()] {
            std::fs::write(&file, text).unwrap();
            assert!(read(&file).is_err(), "{}", text.len());
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        let seconds = |text| retry_after(text, now).map(|after| after.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:48:37 GMT"), Some(0));
        assert_eq!((seconds("soon"), seconds("-1"), seconds("")), (None, None, None));
    }
}

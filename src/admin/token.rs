//! The token that opens the admin port, and who has tried too often without it.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{HeaderName, StatusCode};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::reply::Refusal;

/// The shortest token that is taken, in characters: nobody guesses it at ten tries a minute.
const SHORTEST: usize = 16;
/// The longest, in bytes: a head has to hold it.
const LONGEST: usize = 4096;
/// The longest file, in bytes, with the white space around the token. One beyond is another file.
const LONGEST_FILE: u64 = 2 * LONGEST as u64;

/// Wrong tokens from one address before it has to wait, and the time in which they are counted.
const FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered: whoever has more of them must not fill the memory.
const ADDRESSES: usize = 1024;

/// A secret that whoever asks the admin port has to say. It is shown nowhere.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// The token in a file, without the white space around it.
    ///
    /// # Errors
    /// What to tell the operator: the file cannot be read, or holds no token that is good enough.
    pub fn read(file: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        let opened = File::open(file).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
        let refuse = |why: &str| {
            let file = file.display();
            Err(format!("the admin token in {file}: {why}\n  help: `openssl rand -hex 32 >{file}` makes one"))
        };
        if let Err(error) = opened {
            let why = error.to_string();
            return refuse(&why.split(" (os error").next().unwrap_or_default().to_lowercase());
        }
        if bytes.len() as u64 > LONGEST_FILE {
            return refuse("the file is larger than 8 KiB");
        }
        let text = String::from_utf8_lossy(&bytes);
        let token = text.trim();
        match token.len() {
            0 => refuse("the file is empty"),
            // A space would end it in the header; anything else cannot be written there.
            _ if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                refuse("wanted one line of visible ASCII characters without spaces")
            }
            length @ ..SHORTEST => refuse(&format!("{length} characters are too few, it takes {SHORTEST}")),
            length if length > LONGEST => refuse(&format!("{length} characters are too many, it may have {LONGEST}")),
            _ => Ok(Self(token.into())),
        }
    }

    /// The value of `authorization` that says it.
    pub fn authorization(&self) -> HeaderValue {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0));
        let mut value = value.expect("a token is made of visible ASCII characters");
        value.set_sensitive(true);
        value
    }

    /// Takes the same time wherever they differ.
    fn is(&self, said: &str) -> bool {
        self.0.as_bytes().ct_eq(said.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets in who knows the token.
#[derive(Debug)]
pub(super) struct Lock {
    token: Token,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

/// The wrong tokens of one address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    first: Instant,
    count: u32,
}

impl Failures {
    /// What is left of the time in which they count.
    fn left(self, now: Instant) -> Duration {
        (self.first + WINDOW).saturating_duration_since(now)
    }
}

impl Lock {
    pub(super) fn new(token: Token) -> Self {
        Self { token, failures: Mutex::default() }
    }

    /// Whether the request may go on. No token at all is refused but not counted: it guesses nothing, and any web page could make
    /// the operator's own browser send ten such requests. Whoever has to wait does so with the right token, too: otherwise each
    /// try would still tell. Who has no address came over a Unix socket, and nobody is barred there: they would all be one, and
    /// its file lets no stranger guess.
    pub(super) fn check(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<(), Refusal> {
        let (now, peer) = (Instant::now(), peer.map(network));
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let known = peer.and_then(|peer| failures.get(&peer)).filter(|known| known.count >= FAILURES);
        if let Some(left) = known.map(|known| known.left(now)).filter(|left| !left.is_zero()) {
            let message = "ten wrong tokens within a minute came from this address: it has to wait";
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", message);
            return Err(refusal.with((header::RETRY_AFTER, HeaderValue::from(left.as_secs() + 1))));
        }
        let said = match bearer(headers) {
            Some(said) if self.token.is(said) => return Ok(()),
            said => said,
        };
        if let Some(peer) = peer.filter(|_| said.is_some()) {
            note(&mut failures, peer, now);
        }
        let message = "this admin port wants `authorization: Bearer TOKEN`, with the token of --admin-token-file";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message).with(CHALLENGE))
    }
}

const CHALLENGE: (HeaderName, HeaderValue) = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));

/// What was said as a token; the empty text if it is not said as it has to be.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next()?;
    let one = if values.next().is_none() { first.to_str().ok() } else { None };
    let (scheme, token) = one.and_then(|value| value.split_once(' ')).unwrap_or_default();
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}

/// Who has one address of IPv6 has the whole network of 64 bits.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

fn note(failures: &mut HashMap<IpAddr, Failures>, peer: IpAddr, now: Instant) {
    if failures.len() >= ADDRESSES && !failures.contains_key(&peer) {
        failures.retain(|_, known| !known.left(now).is_zero());
        // Whoever has gone longest without being noticed.
        let oldest = failures.iter().min_by_key(|(_, known)| known.first).map(|(peer, _)| *peer);
        if failures.len() >= ADDRESSES
            && let Some(oldest) = oldest
        {
            failures.remove(&oldest);
        }
    }
    let fresh = Failures { first: now, count: 0 };
    let known = failures.entry(peer).or_insert(fresh);
    if known.left(now).is_zero() {
        *known = fresh;
    }
    known.count += 1;
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use axum::response::IntoResponse;

    use super::*;

    const GOOD: &str = "0123456789abcdef";

    fn read(content: &str) -> Result<Token, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, content).unwrap();
        Token::read(&file)
    }

    /// Asks with these values of `authorization`; the status of the refusal, or 200.
    fn ask(lock: &Lock, peer: impl Into<IpAddr>, said: &[&str]) -> u16 {
        let said = said.iter().map(|said| (header::AUTHORIZATION, HeaderValue::from_str(said).unwrap()));
        let checked = lock.check(&said.collect(), Some(peer.into()));
        checked.map_or_else(|refusal| refusal.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn a_file_holds_one_token_that_is_long_enough() {
        for good in [
            GOOD.to_owned(),
            format!("{GOOD}\n"),
            format!("  {GOOD}\r\n\n"),
            "x".repeat(4096),
            format!("{}\n", "x".repeat(4096)),
        ] {
            assert_eq!(read(&good).unwrap().0.as_ref(), good.trim(), "{good:?}");
        }
        for (bad, why) in [
            ("", "is empty"),
            (" \n\n", "is empty"),
            ("short\n", "5 characters are too few, it takes 16"),
            ("0123456789 abcdef", "without spaces"),
            ("0123456789abcdef\n0123456789abcdef\n", "one line"),
            ("0123456789abcdéf", "visible ASCII"),
            (&"x".repeat(4097), "4097 characters are too many, it may have 4096"),
            (&" ".repeat(8193), "larger than 8 KiB"),
            (&"é".repeat(5000), "larger than 8 KiB"),
        ] {
            let message = read(bad).unwrap_err();
            assert!(message.contains(why) && message.contains("openssl rand"), "{bad:?}: {message}");
            assert!(bad.trim().is_empty() || !message.contains(bad.trim()), "the secret is told: {message}");
        }
        assert!(Token::read(Path::new("/nowhere/token")).unwrap_err().contains("no such file or directory"));
        assert_eq!(format!("{:?}", read(GOOD).unwrap()), "Token(…)");
        assert!(read(GOOD).unwrap().authorization().is_sensitive());
    }

    #[test]
    fn only_the_token_itself_opens() {
        let lock = Lock::new(read(GOOD).unwrap());
        let mut peers = (1..).map(Ipv4Addr::from_bits);
        let mut ask = |said: &[&str]| ask(&lock, peers.next().unwrap(), said);
        for said in [&format!("Bearer {GOOD}"), &format!("bearer {GOOD}"), &format!("BEARER  {GOOD} ")] {
            assert_eq!(ask(&[said]), 200, "{said}");
        }
        let [prefix, longer] = [&GOOD[..15], &format!("{GOOD}0")].map(|token| format!("Bearer {token}"));
        let basic = format!("Basic {GOOD}");
        let upper = format!("Bearer {}", GOOD.to_uppercase());
        for said in ["", "Bearer", "Bearer ", GOOD, &prefix, &longer, &basic, &upper, &format!("Bearer{GOOD}")] {
            assert_eq!(ask(&[said]), 401, "{said}");
        }
        assert_eq!(ask(&[]), 401);
        assert_eq!(ask(&[&format!("Bearer {GOOD}"), "Bearer wrong"]), 401, "twice");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_wrong_tokens_a_minute_bar_an_address_and_no_other() {
        let lock = Lock::new(read(GOOD).unwrap());
        let right = format!("Bearer {GOOD}");
        let [one, other] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        for _ in 0..50 {
            assert_eq!(ask(&lock, one, &[]), 401, "nothing was guessed");
        }
        for _ in 0..FAILURES {
            assert_eq!(ask(&lock, one, &["Bearer wrong"]), 401);
        }
        assert_eq!(ask(&lock, one, &["Bearer wrong"]), 429);
        assert_eq!(ask(&lock, one, &[&right]), 429);
        assert_eq!(ask(&lock, one.to_ipv6_mapped(), &[&right]), 429, "the same address");
        assert_eq!(ask(&lock, other, &[&right]), 200);
        tokio::time::advance(WINDOW - Duration::from_millis(1)).await;
        assert_eq!(ask(&lock, one, &[&right]), 429);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&lock, one, &[&right]), 200);
        for _ in 0..FAILURES {
            assert_eq!(ask(&lock, one, &["Bearer wrong"]), 401, "counted anew");
        }
        assert_eq!(ask(&lock, one, &[&right]), 429);
    }

    #[test]
    fn nobody_without_an_address_is_barred() {
        let lock = Lock::new(read(GOOD).unwrap());
        let said = |token: &str| {
            let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            HeaderMap::from_iter([(header::AUTHORIZATION, value)])
        };
        for _ in 0..2 * FAILURES {
            assert_eq!(lock.check(&said("wrong"), None).unwrap_err().into_response().status(), 401);
        }
        assert!(lock.check(&said(GOOD), None).is_ok());
        assert!(lock.failures.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_memory_is_bounded() {
        let lock = Lock::new(read(GOOD).unwrap());
        let peer = |network: u128, host: u128| Ipv6Addr::from_bits(network << 64 | host);
        for host in 0..u128::from(FAILURES) {
            assert_eq!(ask(&lock, peer(1, host), &["Bearer wrong"]), 401);
        }
        assert_eq!(ask(&lock, peer(1, 99), &["Bearer wrong"]), 429);
        for network in 2..3 * ADDRESSES as u128 {
            ask(&lock, peer(network, 0), &["Bearer wrong"]);
        }
        assert_eq!(lock.failures.lock().unwrap().len(), ADDRESSES);
    }
}

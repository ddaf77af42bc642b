//! `serin.dev/sticky`: by what a client is known again, so that it stays on the version it once got.

use std::time::Duration;

use super::decode::go_duration;

/// The annotation of a VirtualService that says it.
pub const ANNOTATION: &str = "serin.dev/sticky";

/// How it may be written.
pub const FORMS: &str = "`cookie=NAME`, `cookie=NAME,ttl=24h`, `header=NAME` or `source-ip`";

/// By what a client is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// A cookie that Serin gives to a client without one.
    Cookie {
        /// Its name.
        name: String,
        /// How long clients keep it; none: as long as the browser runs.
        ttl: Option<Duration>,
    },
    /// The value of a request header. Requests without it are drawn anew each time.
    Header(String),
    /// The address that the connection comes from.
    SourceIp,
}

impl StickyBy {
    /// What an annotation says, or why it says nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no way to stick to a version");
        if text == "source-ip" {
            return Ok(Self::SourceIp);
        }
        let (way, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (name, option) = match rest.split_once(',') {
            Some((name, option)) => (name, Some(option)),
            None => (rest, None),
        };
        if !matches!(way, "cookie" | "header") || (way == "header" && option.is_some()) {
            return Err(wrong());
        }
        if !is_token(name) {
            return Err(format!("`{name}` is no name of a {way}"));
        }
        if way == "header" {
            return Ok(Self::Header(name.to_owned()));
        }
        let ttl = option.map(|option| {
            let ttl = option.strip_prefix("ttl=").ok_or_else(wrong)?;
            let ttl = go_duration(ttl).map_err(|_| format!("`{ttl}` is no duration"))?;
            if ttl < Duration::from_secs(1) { Err("a cookie lives a second at least".to_owned()) } else { Ok(ttl) }
        });
        Ok(Self::Cookie { name: name.to_owned(), ttl: ttl.transpose()? })
    }
}

/// A token of RFC 9110 §5.6.2, which names of headers and of cookies are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_are_understood() {
        let cookie = |ttl: Option<u64>| StickyBy::Cookie { name: "v".to_owned(), ttl: ttl.map(Duration::from_secs) };
        assert_eq!(StickyBy::parse("cookie=v"), Ok(cookie(None)));
        assert_eq!(StickyBy::parse("cookie=v,ttl=1h30m"), Ok(cookie(Some(5400))));
        assert_eq!(StickyBy::parse("header=X-User"), Ok(StickyBy::Header("X-User".to_owned())));
        assert_eq!(StickyBy::parse("source-ip"), Ok(StickyBy::SourceIp));
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for (text, wanted) in [
            ("", "no way"),
            ("cookie", "no way"),
            ("source-ip=x", "no way"),
            ("query=x", "no way"),
            ("header=x,ttl=1h", "no way"),
            ("cookie=x,ttl", "no way"),
            ("cookie=x,path=/", "no way"),
            ("cookie=", "no name of a cookie"),
            ("cookie=a b", "no name of a cookie"),
            ("header=a:b", "no name of a header"),
            ("cookie=x,ttl=", "no duration"),
            ("cookie=x,ttl=24", "no duration"),
            ("cookie=x,ttl=1h,ttl=2h", "no duration"),
            ("cookie=x,ttl=0s", "a second at least"),
            ("cookie=x,ttl=-1h", "no duration"),
        ] {
            let message = StickyBy::parse(text).unwrap_err();
            assert!(message.contains(wanted), "{text}: {message}");
        }
    }
}

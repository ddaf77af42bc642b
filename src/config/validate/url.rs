//! Addresses of programs that Serin asks or tells: `http://` or `https://`, and a host.

use http::Uri;

use super::report::{Report, wrong};
use crate::config::place::Spanned;

/// Checks one. `query`: whether it may have one.
pub(super) fn check(report: &mut Report, name: &str, url: &Spanned<String>, query: bool) {
    let found = match fault(url, query) {
        Ok(()) => return,
        Err(reason) => wrong(url.place, format!("`{}` is no `{name}`: {reason}", url.value.escape_debug())),
    };
    let whole = format!("http://{}", url.value);
    report.add(match !url.contains("://") && fault(&whole, query).is_ok() {
        true => found.help(format!("write `{whole}`")),
        false => found,
    });
}

fn fault(url: &str, query: bool) -> Result<(), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it is no URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("it begins neither with `http://` nor with `https://`");
    }
    let authority = uri.authority().ok_or("it names no host")?;
    let port = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    if authority.as_str().contains('@') {
        return Err("a user cannot be named in it");
    }
    if authority.host().is_empty() {
        return Err("it names no host");
    }
    if port.is_some_and(|(_, port)| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err("its port is not between 1 and 65535");
    }
    if !query && uri.query().is_some() {
        return Err("it cannot have a `?`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_and_a_host_are_needed() {
        for fine in ["http://127.0.0.1:9090", "https://hooks.example.com/a?b", "http://[::1]:80/", "http://[::1]"] {
            assert_eq!(fault(fine, true), Ok(()), "{fine}");
        }
        for bad in [
            "",
            "/hook",
            "localhost:9999",
            "ftp://a/",
            "http://",
            "http://:80/",
            "http://a b/",
            "http://u:p@a/",
            "http://a:0/",
            "http://a:99999/",
            "http://a:/",
        ] {
            assert!(fault(bad, true).is_err(), "{bad}");
        }
        assert!(fault("http://a/?b", false).is_err());
    }
}

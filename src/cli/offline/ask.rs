//! A request as it is typed: `METHOD URL -H 'k: v'`.

use std::net::{IpAddr, Ipv4Addr};

use http::Uri;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};

use crate::routing::RequestView;

/// A request that nobody sends.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Ask {
    /// Method.
    pub(in crate::cli) method: String,
    /// `http` or `https`.
    pub(in crate::cli) scheme: String,
    /// Host as a client would send it; empty if none is known.
    pub(in crate::cli) authority: String,
    /// Path and query.
    pub(in crate::cli) path: String,
    /// Headers without `Host`.
    pub(in crate::cli) headers: HeaderMap,
    /// The port that the URL names.
    pub(in crate::cli) port: Option<u16>,
    /// Where it comes from.
    pub(in crate::cli) from: IpAddr,
}

impl Ask {
    /// From the words behind `--`.
    pub(in crate::cli) fn parse(words: &[String]) -> Result<Self, String> {
        let wanted =
            || "write the request as METHOD URL [-H 'name: value']…, such as GET http://reviews/api".to_owned();
        let mut words = words.iter();
        let mut plain = Vec::new();
        let mut headers = Vec::new();
        while let Some(word) = words.next() {
            if word == "-H" || word == "--header" {
                headers.push(words.next().ok_or_else(wanted)?.as_str());
            } else if let Some(header) = word.strip_prefix("--header=").or_else(|| word.strip_prefix("-H")) {
                headers.push(header);
            } else {
                plain.push(word.as_str());
            }
        }
        let (method, url) = match *plain {
            [url] if url.contains("://") || url.starts_with('/') => ("GET", url),
            [method, url] => (method, url),
            _ => return Err(wanted()),
        };
        let mut ask = Self::new(method, url)?;
        for header in headers {
            let (name, value) =
                header.split_once(':').ok_or_else(|| format!("`{header}` is no header: write 'name: value'"))?;
            ask.header(name.trim(), value.trim())?;
        }
        Ok(ask)
    }

    /// A request without headers. The URL may lack everything before its path.
    pub(in crate::cli) fn new(method: &str, url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is no URL such as http://reviews/api or /api");
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
            return Err(format!("`{method}` is no method"));
        }
        let whole = url.split('#').next().unwrap_or(url);
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().unwrap_or("http");
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(format!("`{scheme}` is no scheme that is served: http or https")),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        // As clients do: the port that goes without saying is not sent.
        let authority = authority.strip_suffix(&format!(":{default}")).unwrap_or(authority);
        let port = uri.port_u16();
        Ok(Self {
            method: method.to_owned(),
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers: HeaderMap::new(),
            port,
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
        })
    }

    /// Adds a header; `Host` takes the place of the URL's.
    pub(in crate::cli) fn header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a header"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("`{value}` is no value of a header"))?;
        if name == HOST {
            value.to_str().unwrap_or_default().clone_into(&mut self.authority);
        } else {
            self.headers.append(name, value);
        }
        Ok(())
    }

    /// The port that goes without saying.
    pub(in crate::cli) fn default_port(&self) -> u16 {
        if self.scheme == "https" { 443 } else { 80 }
    }

    /// What routing may know of it when it comes to a listener.
    pub(in crate::cli) fn view(&self, port: u16) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            scheme: &self.scheme,
            authority: &self.authority,
            path: &self.path,
            headers: &self.headers,
            port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Ask, String> {
        Ask::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_request_is_typed_as_for_curl() {
        let ask = parse(&["PUT", "http://a.b:81/x?y#z", "-H", "X-A: 1", "-HX-A:2", "--header=x-b: c:d"]).unwrap();
        assert_eq!((ask.method.as_str(), ask.authority.as_str(), ask.path.as_str()), ("PUT", "a.b:81", "/x?y"));
        assert_eq!(ask.port, Some(81));
        assert_eq!(ask.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(ask.headers["x-b"], "c:d");
        let ask = parse(&["https://a:443"]).unwrap();
        assert_eq!((ask.authority.as_str(), ask.path.as_str(), ask.port), ("a", "/", Some(443)));
        assert_eq!(parse(&["https://a"]).unwrap().port, None);
        let ask = parse(&["/x", "-H", "Host: b:80"]).unwrap();
        assert_eq!((ask.authority.as_str(), ask.path.as_str(), ask.port), ("b:80", "/x", None));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for words in [
            &[][..],
            &["GET"],
            &["GET", "http://a", "more"],
            &["GET", "ftp://a/"],
            &["G T", "/"],
            &["GET", "http://a b/"],
            &["GET", "/", "-H"],
            &["GET", "/", "-H", "x"],
            &["GET", "/", "-H", "a b: c"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}

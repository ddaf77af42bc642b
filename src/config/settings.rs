//! What the command line says about how a configuration is to be read.

use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Options that change what a configuration means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `--relative-weights`: weights are shares of their sum; otherwise they must sum to 100.
    pub relative_weights: bool,
    /// `--strict-hosts`: a lone VirtualService answers its own hosts only.
    pub strict_hosts: bool,
    /// False with `--no-references`: nothing is checked that needs more than the resource itself.
    pub references: bool,
    /// `--endpoint HOST[/SUBSET]=ADDR:PORT`.
    pub endpoints: Vec<ExtraEndpoint>,
    /// Ports on which the mesh is served, as rules see them (`--listen`, before `--port-map`).
    pub mesh_ports: Vec<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            relative_weights: false,
            strict_hosts: false,
            references: true,
            endpoints: Vec::new(),
            mesh_ports: vec![8080],
        }
    }
}

/// An endpoint given on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraEndpoint {
    /// The host it belongs to, as a destination names it.
    pub host: String,
    /// The subset it belongs to; none: every subset of the host, and the host itself.
    pub subset: Option<String>,
    /// `ADDR`, an address or a name.
    pub address: String,
    /// `PORT`.
    pub port: u16,
}

/// The addresses on which the data plane listens, and the local ports that stand in for them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Listeners {
    /// `--listen`.
    pub mesh: Vec<SocketAddr>,
    /// `--port-map P=L`: what would be served on port P is bound on local port L.
    pub port_map: Vec<(u16, u16)>,
}

impl FromStr for ExtraEndpoint {
    type Err = String;

    /// From `HOST[/SUBSET]=ADDR:PORT`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form HOST[/SUBSET]=ADDR:PORT");
        let (name, target) = text.split_once('=').ok_or_else(form)?;
        let (host, subset) = match name.split_once('/') {
            Some((host, subset)) => (host, Some(subset)),
            None => (name, None),
        };
        let (address, port) = target.rsplit_once(':').ok_or_else(form)?;
        let bracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let blank = |part: &str| part.is_empty() || part.contains(char::is_whitespace);
        if blank(host) || blank(address) || subset.is_some_and(|subset| blank(subset) || subset.contains('/')) {
            return Err(form());
        }
        if bracketed.is_none() && address.contains(':') {
            return Err(format!("write the IPv6 address in brackets: {name}=[{address}]:{port}"));
        }
        let port = port.parse().ok().filter(|port| *port > 0);
        Ok(Self {
            host: host.to_owned(),
            subset: subset.map(str::to_owned),
            address: bracketed.unwrap_or(address).to_owned(),
            port: port.ok_or_else(|| format!("the port in `{text}` must be between 1 and 65535"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ExtraEndpoint;

    #[test]
    fn endpoints_of_the_command_line() {
        let parse = |text: &str| text.parse::<ExtraEndpoint>();
        let endpoint = |host: &str, subset: Option<&str>, address: &str, port| ExtraEndpoint {
            host: host.to_owned(),
            subset: subset.map(str::to_owned),
            address: address.to_owned(),
            port,
        };
        assert_eq!(parse("app=10.0.0.1:80"), Ok(endpoint("app", None, "10.0.0.1", 80)));
        assert_eq!(parse("app.default/v2=localhost:8082"), Ok(endpoint("app.default", Some("v2"), "localhost", 8082)));
        assert_eq!(parse("app=[::1]:80"), Ok(endpoint("app", None, "::1", 80)));
        for wrong in [
            "",
            "app",
            "app=",
            "app=1.2.3.4",
            "=a:1",
            "app/=a:1",
            "app=a:0",
            "app=a:65536",
            "app=::1:80",
            "a b=c:1",
            "a=:1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! What the command line says about how a configuration is to be read.

use std::net::SocketAddr;

/// Options that change what a configuration means.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

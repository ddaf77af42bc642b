//! What `explain`, `test` and `diff` share: the routing table of files, without a proxy, and what becomes of a request in it.

mod ask;
mod outcome;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{fail, values::parse_port_map};
use crate::config::load::{self, Loaded, Read};
use crate::config::release::{Release, releases};
use crate::config::render;
use crate::config::services::{Address, Service, Services};
use crate::config::settings::{ExtraEndpoint, Settings};
use crate::config::traffic::Traffic;
use crate::routing::{self, RouteTable, Wanted};

pub(super) use ask::Ask;
pub(super) use outcome::{Outcome, Sent, Target, retries};

/// How the files are read: the flags of `serin run` that change what a configuration means.
#[derive(Args, Clone, Debug)]
pub(super) struct Reading {
    /// Read folders below a folder too
    #[arg(short, long)]
    recursive: bool,

    /// Where VirtualServices without `gateways` are served, as `run` is told (repeatable)
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    listen: Vec<SocketAddr>,

    /// As `run` is told: local port L stands for port P (repeatable)
    #[arg(long, value_name = "P=L", value_parser = parse_port_map)]
    port_map: Vec<(u16, u16)>,

    /// Take weights as shares of their sum; otherwise they must sum to 100
    #[arg(long)]
    relative_weights: bool,

    /// A lone VirtualService answers its own hosts only
    #[arg(long)]
    strict_hosts: bool,

    /// An endpoint without a ServiceEntry (repeatable)
    #[arg(long = "endpoint", value_name = "HOST[/SUBSET]=ADDR:PORT")]
    endpoints: Vec<ExtraEndpoint>,
}

/// A destination as an operator knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    /// The host of its service.
    pub(super) host: String,
    /// Its subset.
    pub(super) subset: Option<String>,
    /// Its service port; none if the service has several and this is none of them.
    pub(super) port: Option<u16>,
    /// Where its endpoints are: `ADDR:PORT`.
    pub(super) endpoints: Vec<String>,
}

/// A configuration as it would be served.
#[derive(Debug)]
pub(super) struct Offline {
    /// The decision.
    pub(super) table: RouteTable<Place>,
    /// The releases that are asked for. Files that they name are as written.
    pub(super) releases: Vec<Release>,
    port_map: Vec<(u16, u16)>,
}

impl Reading {
    /// The table of files; a configuration that would be refused is told as `check` tells it.
    ///
    /// # Errors
    /// With what status to exit.
    pub(super) fn load(&self, paths: &[PathBuf]) -> Result<Offline, ExitCode> {
        if let Some(path) = paths.iter().find(|path| path.as_os_str() != "-" && !path.exists()) {
            return Err(fail(&format!("{}: no such file or folder", path.display())));
        }
        self.understand(load::read(paths, self.recursive), &self.settings())
    }

    /// The table of what was read already, understood as these settings say.
    ///
    /// # Errors
    /// With what status to exit.
    pub(super) fn understand(&self, read: Read, settings: &Settings) -> Result<Offline, ExitCode> {
        let mut loaded = load::load(read, settings);
        if !loaded.is_valid() {
            loaded.diagnostics.retain(crate::config::diagnostic::Diagnostic::is_error);
            super::say(render::text(&loaded, false).trim_end());
            super::say("error: this configuration is refused: nothing of it would be served");
            return Err(ExitCode::from(1));
        }
        let releases = releases(&loaded.resources, &[]);
        Ok(Offline { table: table(&loaded, settings), releases, port_map: self.port_map.clone() })
    }

    fn settings(&self) -> Settings {
        Settings {
            relative_weights: self.relative_weights,
            strict_hosts: self.strict_hosts,
            references: true,
            endpoints: self.endpoints.clone(),
            mesh_ports: self.listen.iter().map(SocketAddr::port).collect(),
        }
    }
}

/// The table that a proxy with these settings would serve from.
fn table(loaded: &Loaded, settings: &Settings) -> RouteTable<Place> {
    let resources = &loaded.resources;
    let (services, traffic) = (Services::new(resources, settings), Traffic::new(resources));
    let options = routing::Options::new(resources, settings);
    routing::compile(resources, &options, &mut |wanted| place(&wanted, &services, &traffic))
}

fn place(wanted: &Wanted<'_>, services: &Services, traffic: &Traffic<'_>) -> Place {
    let written = wanted.destination;
    let undeclared;
    let service = match services.find(&written.host, wanted.namespace) {
        Some(service) => service,
        None => {
            undeclared = Service::undeclared(&written.host);
            &undeclared
        }
    };
    let named = written.port.and_then(|port| u16::try_from(port.value).ok());
    let port = service.choose_port(named, Some(wanted.listener_port));
    let subset = written.subset.as_ref().map(|subset| subset.value.as_str());
    let selection = subset.map(|name| traffic.selection(&service.host, wanted.namespace, name));
    let endpoint = |(address, port, _): (Address, u16, u32)| match address {
        Address::Ip(ip) => SocketAddr::new(ip, port).to_string(),
        Address::Name(name) => format!("{name}:{port}"),
        Address::Unix(path) => format!("unix://{}", path.display()),
    };
    let endpoints = service.endpoints_chosen(port, selection).into_iter().map(endpoint).collect();
    Place { host: service.host.clone(), subset: subset.map(str::to_owned), port, endpoints }
}

impl Place {
    /// `HOST`, or `HOST/SUBSET`.
    pub(super) fn name(&self) -> String {
        match &self.subset {
            Some(subset) => format!("{}/{subset}", self.host),
            None => self.host.clone(),
        }
    }
}

impl Offline {
    /// The port of the listener that a request comes to, as rules see it: the one its URL names, if that listens (by itself or
    /// by a `--port-map`); else one that answers to its host, its scheme's before others; else the first there is.
    pub(super) fn listener(&self, ask: &Ask) -> Option<u16> {
        let mapped = |port: u16| self.port_map.iter().find(|(_, local)| *local == port).map_or(port, |(port, _)| *port);
        let listens = |port: &u16| self.table.listener(*port).is_some();
        let answers = |port: &u16| {
            let hosts = self.table.listener(*port);
            hosts.is_some_and(|hosts| hosts.explain(&ask.view(*port)).host.is_some())
        };
        let own = ask.default_port();
        let named = ask.port.map(mapped).filter(listens);
        named
            .or_else(|| [own].into_iter().chain(self.table.ports()).find(answers))
            .or_else(|| [own].into_iter().chain(self.table.ports()).find(listens))
    }
}

//! Which sockets are open: those of the command line for ever, and those that the Gateways in force ask for. What changes is
//! opened before a configuration comes into force, and closed after it; what stays is not touched.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{io, mem};

use tokio::sync::mpsc::UnboundedSender;

use super::inherited::{GATEWAY, Inherited, LISTEN};
use super::tls;
use crate::config::diagnostic::{Diagnostic, Kind};
use crate::config::gateways::{GatewayListener, Protocol, gateways};
use crate::config::load::Loaded;
use crate::config::place::Place;
use crate::config::settings::Listeners;
use crate::proxy::{Bound, Listener, Opened, Scheme, TlsServer, TlsServers, bind, bind_shared};

/// Every listener of the process.
#[derive(Debug)]
pub(super) struct ListenerSet {
    workers: Vec<UnboundedSender<Opened>>,
    port_map: Vec<(u16, u16)>,
    /// Those of the command line; they never change.
    mesh: Vec<Arc<Listener>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Those of Gateways.
    gateways: Vec<Arc<Listener>>,
    /// Those that were closed, as long as a worker still has a socket of theirs.
    closing: Vec<Weak<Listener>>,
    /// A copy of every socket that is open, for a process that takes this one's place.
    copies: Vec<(Bound, StdListener)>,
    /// What this process was started with and nobody has asked for yet.
    inherited: Inherited,
    /// Whether copies are not made any more.
    ending: bool,
    /// Whether what opens and closes is logged; at start it is printed.
    logs: bool,
}

/// A listener that a configuration asks for.
struct Wanted {
    bound: Bound,
    tls: Option<Vec<TlsServer>>,
    place: Place,
}

/// What is ready to come into force; dropped, it leaves everything as it was.
pub(super) struct Prepared {
    kept: Vec<(Arc<Listener>, Option<TlsServers>)>,
    opened: Vec<(Arc<Listener>, Vec<StdListener>)>,
}

impl ListenerSet {
    /// Opens the listeners of the command line, each on its local port, or takes them from what was inherited. `workers` take
    /// the sockets.
    ///
    /// # Errors
    /// What to tell the operator: an address cannot be had.
    pub(super) fn new(
        listeners: &Listeners,
        workers: Vec<UnboundedSender<Opened>>,
        inherited: Inherited,
    ) -> Result<Self, String> {
        let port_map = listeners.port_map.clone();
        let mut state = State { inherited, ..State::default() };
        let mut set = Self { workers, port_map, mesh: Vec::new(), state: Mutex::default() };
        for wanted in &listeners.mesh {
            let address = SocketAddr::new(wanted.ip(), set.local_port(wanted.port()));
            let passed = state.inherited.take(address, LISTEN);
            let opened = if passed.is_empty() { bind(address, set.workers.len()) } else { set.spread(passed) };
            let (local, sockets) = opened.map_err(|error| taken(address, &error, "--listen"))?;
            let port = if wanted.port() == 0 { local.port() } else { wanted.port() };
            let listener = Arc::new(Listener::new(local, port, None));
            set.hand_over(&listener, sockets, &mut state);
            set.mesh.push(listener);
        }
        set.state = Mutex::new(state);
        Ok(set)
    }

    /// The ports of the command line's listeners, as rules see them.
    pub(super) fn mesh_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.mesh.iter().map(|listener| listener.bound().port).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Where it listens at this moment.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.mesh.iter().chain(&self.state().gateways).map(|listener| listener.bound().local).collect()
    }

    /// Every listener of this moment; those that come or go later are logged.
    pub(super) fn started(&self) -> Vec<Bound> {
        let mut state = self.state();
        state.logs = true;
        self.mesh.iter().chain(&state.gateways).map(|listener| listener.bound()).collect()
    }

    /// Opens what a configuration needs and is not open.
    ///
    /// # Errors
    /// Every port that cannot be had, and what is wrong with certificates. Nothing has changed then.
    pub(super) fn prepare(&self, loaded: &Loaded) -> Result<Prepared, Vec<Diagnostic>> {
        let mut state = self.state();
        state.closing.retain(|listener| listener.strong_count() > 0);
        let mut ready = Prepared { kept: Vec::new(), opened: Vec::new() };
        let mut problems = Vec::new();
        for wanted in self.wanted(loaded, &mut problems) {
            if let Err(problem) = self.prepare_one(wanted, &state, &mut ready) {
                problems.push(problem);
            }
        }
        if problems.is_empty() { Ok(ready) } else { Err(problems) }
    }

    /// Serves on what was opened and closes what is not wanted any more.
    pub(super) fn commit(&self, ready: Prepared) {
        let mut state = self.state();
        let mut now = Vec::with_capacity(ready.kept.len() + ready.opened.len());
        for (listener, servers) in ready.kept {
            if let Some(servers) = servers {
                listener.replace_tls(servers);
            }
            now.push(listener);
        }
        for (listener, sockets) in ready.opened {
            if state.logs {
                tracing::info!("listener {}", shown(listener.bound()));
            }
            state.inherited.take(listener.bound().local, GATEWAY);
            self.hand_over(&listener, sockets, &mut state);
            now.push(listener);
        }
        now.sort_by_key(|listener| listener.bound().local);
        let before = mem::replace(&mut state.gateways, now);
        for listener in before {
            if !state.gateways.iter().any(|kept| Arc::ptr_eq(kept, &listener)) {
                tracing::info!("listener {} closed", shown(listener.bound()));
                state.copies.retain(|(bound, _)| *bound != listener.bound());
                listener.close();
                state.closing.push(Arc::downgrade(&listener));
            }
        }
        for address in mem::take(&mut state.inherited).left() {
            tracing::warn!("nothing listens on {address}, which this process was started with: it is closed");
        }
    }

    /// Every open socket, under the name by which a process in this one's place finds it.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn sockets(&self) -> io::Result<Vec<(&'static str, StdListener)>> {
        let is_mesh = |bound: Bound| self.mesh.iter().any(|listener| listener.bound() == bound);
        let name = |bound| if is_mesh(bound) { LISTEN } else { GATEWAY };
        self.state().copies.iter().map(|(bound, socket)| Ok((name(*bound), socket.try_clone()?))).collect()
    }

    /// Lets the workers be the only ones who hold sockets, so that these close when the workers close them.
    pub(super) fn let_go(&self) {
        let mut state = self.state();
        state.ending = true;
        state.copies.clear();
    }

    /// What the Gateways ask for, but for what a listener of the command line serves already.
    fn wanted(&self, loaded: &Loaded, problems: &mut Vec<Diagnostic>) -> Vec<Wanted> {
        let mut all: Vec<Wanted> = Vec::new();
        for asked in gateways(&loaded.resources) {
            let wanted = match self.wanted_one(&asked, loaded) {
                Ok(wanted) => wanted,
                Err(wrong) => {
                    problems.extend(wrong);
                    continue;
                }
            };
            if let Some(same) = all.iter_mut().find(|other| other.bound == wanted.bound) {
                // Written in two ways: without `bind`, and with the address of every interface.
                same.tls.iter_mut().for_each(|servers| servers.extend(wanted.tls.iter().flatten().cloned()));
                continue;
            }
            if self.mesh.iter().any(|mesh| covers(mesh.bound(), wanted.bound)) {
                continue;
            }
            let others = self.mesh.iter().map(|mesh| mesh.bound()).chain(all.iter().map(|other| other.bound));
            match others.into_iter().find(|other| other.local == wanted.bound.local) {
                Some(other) => problems.push(occupied(&wanted, other)),
                None => all.push(wanted),
            }
        }
        all
    }

    fn wanted_one(&self, asked: &GatewayListener<'_>, loaded: &Loaded) -> Result<Wanted, Vec<Diagnostic>> {
        let first = &asked.servers[0];
        let ip = asked.bind.and_then(|bind| bind.parse().ok()).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let local = SocketAddr::new(ip, self.local_port(asked.port));
        let (scheme, tls) = match first.protocol {
            Protocol::Http => (Scheme::Http, None),
            Protocol::Https => (Scheme::Https, Some(tls::servers(&asked.servers, loaded)?)),
        };
        Ok(Wanted { bound: Bound { local, port: asked.port, scheme }, tls, place: first.place })
    }

    fn prepare_one(&self, wanted: Wanted, state: &State, ready: &mut Prepared) -> Result<(), Diagnostic> {
        let Wanted { bound, tls, place } = wanted;
        let known = state.gateways.iter().find(|listener| listener.bound() == bound);
        let before = known.and_then(|listener| listener.tls());
        let servers = tls.map(|servers| TlsServers::new(servers, before.as_deref())).transpose();
        let servers =
            servers.map_err(|error| Diagnostic::error(Kind::Value, place, format!("no TLS here: {error}")))?;
        if let Some(listener) = known {
            ready.kept.push((Arc::clone(listener), servers));
            return Ok(());
        }
        let closing: Vec<_> = state.closing.iter().filter_map(Weak::upgrade).collect();
        let opened = ready.opened.iter().map(|(listener, _)| listener);
        let mut own = self.mesh.iter().chain(&state.gateways).chain(&closing).chain(opened);
        // What this process holds itself is no obstacle, neither a wider address nor one that is about to close.
        let shared = own.any(|other| overlaps(other.bound(), bound));
        let passed = state.inherited.copy(bound.local, GATEWAY);
        let sockets = passed.and_then(|passed| match shared {
            _ if !passed.is_empty() => self.spread(passed).map(|(_, sockets)| sockets),
            true => bind_shared(bound.local, self.workers.len()),
            false => bind(bound.local, self.workers.len()).map(|(_, sockets)| sockets),
        });
        let sockets = sockets.map_err(|error| {
            let message = format!("cannot listen on {}: {}", bound.local, reason(&error));
            Diagnostic::error(Kind::Value, place, message).help(remedy(&error, "--port-map"))
        })?;
        ready.opened.push((Arc::new(Listener::new(bound.local, bound.port, servers)), sockets));
        Ok(())
    }

    fn local_port(&self, port: u16) -> u16 {
        self.port_map.iter().find(|(served, _)| *served == port).map_or(port, |(_, local)| *local)
    }

    /// At least one socket for each worker of what was inherited for one address. Copies share a queue of connections.
    fn spread(&self, mut sockets: Vec<StdListener>) -> io::Result<(SocketAddr, Vec<StdListener>)> {
        let local = sockets[0].local_addr()?;
        for index in sockets.len()..self.workers.len() {
            sockets.push(sockets[index % sockets.len()].try_clone()?);
        }
        Ok((local, sockets))
    }

    fn hand_over(&self, listener: &Arc<Listener>, sockets: Vec<StdListener>, state: &mut State) {
        for (worker, socket) in self.workers.iter().cycle().zip(sockets) {
            if !state.ending {
                match socket.try_clone() {
                    Ok(copy) => state.copies.push((listener.bound(), copy)),
                    Err(error) => tracing::error!("{} cannot be handed on: {error}", shown(listener.bound())),
                }
            }
            // A worker that has ended serves nothing any more.
            let _ = worker.send(Opened { listener: Arc::clone(listener), socket });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it is printed.
pub(super) fn shown(bound: Bound) -> String {
    format!("{}://{}", bound.scheme.name(), bound.local)
}

/// Whether what is served at `wanted` is served at `open` already.
fn covers(open: Bound, wanted: Bound) -> bool {
    let everywhere = open.local.ip().is_unspecified() && open.local.is_ipv4() == wanted.local.is_ipv4();
    let same = open.local.port() == wanted.local.port() && (everywhere || open.local.ip() == wanted.local.ip());
    same && open.port == wanted.port && open.scheme == wanted.scheme
}

/// Whether two addresses cannot be had independently of each other.
fn overlaps(one: Bound, other: Bound) -> bool {
    let (one, other) = (one.local, other.local);
    one.port() == other.port() && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn occupied(wanted: &Wanted, other: Bound) -> Diagnostic {
    let Bound { local, port, scheme } = wanted.bound;
    let message = format!(
        "port {port} cannot be served as {} on {local}: port {} is served there as {}",
        scheme.name(),
        other.port,
        other.scheme.name()
    );
    Diagnostic::error(Kind::Conflict, wanted.place, message)
        .help("choose another port, with --listen or --port-map too")
}

/// Why an address that this flag gave cannot be had.
pub(super) fn taken(address: SocketAddr, error: &io::Error, flag: &str) -> String {
    format!("error: cannot listen on {address}: {}\n  = help: {}", reason(error), remedy(error, flag))
}

/// What the system says, without its number.
pub(super) fn reason(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// What to do about it; `flag` is the one with which another port can be chosen.
fn remedy(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("another process listens there; choose another port with {flag}"),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges; --port-map 80=8080 serves port 80 on 8080".to_owned()
        }
        _ => "choose an address of this host".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(local: &str, port: u16, scheme: Scheme) -> Bound {
        Bound { local: local.parse().unwrap(), port, scheme }
    }

    #[test]
    fn a_wider_listener_serves_what_it_covers() {
        let all = bound("0.0.0.0:8080", 80, Scheme::Http);
        assert!(covers(all, all) && covers(all, bound("127.0.0.1:8080", 80, Scheme::Http)));
        for other in [
            bound("127.0.0.1:8080", 80, Scheme::Https),
            bound("127.0.0.1:8080", 8080, Scheme::Http),
            bound("127.0.0.1:8081", 80, Scheme::Http),
            bound("[::1]:8080", 80, Scheme::Http),
        ] {
            assert!(!covers(all, other), "{other:?}");
        }
        assert!(!covers(bound("127.0.0.1:8080", 80, Scheme::Http), all));
    }

    #[test]
    fn addresses_overlap_where_one_is_every_address() {
        let [all, one, other] = ["0.0.0.0:1", "10.0.0.1:1", "10.0.0.2:1"].map(|local| bound(local, 1, Scheme::Http));
        assert!(overlaps(all, one) && overlaps(one, all) && overlaps(one, one) && !overlaps(one, other));
        assert!(!overlaps(all, bound("10.0.0.1:2", 1, Scheme::Http)));
    }
}

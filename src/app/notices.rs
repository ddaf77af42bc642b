//! What surprises newcomers although nothing is wrong: said once, in one line each, when it first holds.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use crate::config::resource::{Resources, VirtualService};
use crate::config::settings::Settings;

/// Notices that were given.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<HashSet<String>>);

impl Notices {
    /// Logs what holds for a configuration that is in force now and was not said before.
    pub(super) fn give(&self, resources: &Resources, settings: &Settings) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for notice in [lone(resources, settings), loopback(resources, settings)].into_iter().flatten() {
            if !given.contains(&notice) {
                tracing::info!("{notice}");
                given.insert(notice);
            }
        }
    }

    /// Warns of endpoints that are listeners of this proxy: what is sent there comes back.
    pub(super) fn warn_of_loops<'e>(&self, endpoints: impl Iterator<Item = &'e str>, listeners: &[SocketAddr]) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in endpoints.filter(|endpoint| leads_back(endpoint, listeners)) {
            if given.insert(endpoint.to_owned()) {
                tracing::warn!("the endpoint {endpoint} is a listener of this proxy: what is sent there comes back");
            }
        }
    }
}

/// Whether an endpoint, `address:port`, is where one of these listens.
fn leads_back(endpoint: &str, listeners: &[SocketAddr]) -> bool {
    let Ok(endpoint) = endpoint.parse::<SocketAddr>() else { return false };
    listeners.iter().any(|listener| {
        let everywhere = listener.ip().is_unspecified() && endpoint.ip().to_canonical().is_loopback();
        listener.port() == endpoint.port() && (everywhere || listener.ip() == endpoint.ip())
    })
}

/// A first `curl localhost:8080` has to work: a VirtualService that is alone need not be called by its name.
fn lone(resources: &Resources, settings: &Settings) -> Option<String> {
    let [service] = resources.virtual_services.as_slice() else { return None };
    let VirtualService { hosts, gateways, .. } = &service.spec;
    let in_mesh = gateways.as_ref().is_none_or(|all| all.is_empty() || all.iter().any(|name| name.value == "mesh"));
    let any = hosts.iter().any(|host| host.value == "*");
    (in_mesh && !any && !settings.strict_hosts && !hosts.is_empty()).then(|| {
        let hosts: Vec<_> = hosts.iter().map(|host| format!("`{}`", host.value)).collect();
        let name = &service.metadata.name.value;
        format!(
            "`{name}` is the only VirtualService: it answers any Host, not only {} (--strict-hosts turns that off)",
            hosts.join(", ")
        )
    })
}

/// Servers started on a laptop listen on one of the two, and which one differs.
fn loopback(resources: &Resources, settings: &Settings) -> Option<String> {
    let entries = resources.service_entries.iter().flat_map(|entry| &entry.spec.endpoints);
    let workloads = resources.workload_entries.iter().map(|entry| &entry.spec);
    let mut written = entries.chain(workloads).map(|endpoint| endpoint.address.as_str());
    let mut flags = settings.endpoints.iter().map(|endpoint| endpoint.address.as_str());
    let named = written.any(|address| address == "localhost") || flags.any(|address| address == "localhost");
    named.then(|| "endpoints on `localhost` are tried on 127.0.0.1, then on ::1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Source, parse};

    fn resources(text: &str) -> Resources {
        parse(vec![Source { path: "a.yaml".into(), text: text.into() }]).resources
    }

    fn service(hosts: &str, more: &str) -> String {
        let head = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\n";
        format!("{head}spec:\n  hosts: [{hosts}]\n  {more}\n  http: [{{route: [{{destination: {{host: a}}}}]}}]\n")
    }

    #[test]
    fn a_virtual_service_is_lone_only_where_any_host_is_answered() {
        let settings = Settings::default();
        let told = lone(&resources(&service("a, b", "")), &settings).unwrap();
        assert!(told.contains("`shop` is the only") && told.contains("only `a`, `b` ("), "{told}");
        for silent in [service("'*'", ""), service("a", "gateways: [front]"), service("a", "") + &service("b", "")] {
            assert_eq!(lone(&resources(&silent), &settings), None, "{silent}");
        }
        assert!(lone(&resources(&service("a", "gateways: [front, mesh]")), &settings).is_some());
        let strict = Settings { strict_hosts: true, ..settings };
        assert_eq!(lone(&resources(&service("a", "")), &strict), None);
    }

    #[test]
    fn an_endpoint_leads_back_where_one_of_the_listeners_has_its_port_and_address() {
        let listeners: Vec<SocketAddr> =
            ["0.0.0.0:8080", "192.0.2.1:80"].iter().map(|one| one.parse().unwrap()).collect();
        for (endpoint, leads) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.1:8081", false),
            ("192.0.2.7:8080", false),
            ("192.0.2.1:80", true),
            ("localhost:8080", false),
            ("/run/app.sock", false),
        ] {
            assert_eq!(leads_back(endpoint, &listeners), leads, "{endpoint}");
        }
    }

    #[test]
    fn localhost_is_found_in_files_and_flags() {
        let entry = |address: &str| {
            let head = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n";
            format!("{head}spec:\n  hosts: [a]\n  resolution: STATIC\n  endpoints: [{{address: {address}}}]\n")
        };
        let settings = Settings::default();
        assert!(loopback(&resources(&entry("localhost")), &settings).is_some());
        assert_eq!(loopback(&resources(&entry("127.0.0.1")), &settings), None);
        let flag = Settings { endpoints: vec!["a=localhost:80".parse().unwrap()], ..settings };
        assert!(loopback(&Resources::default(), &flag).is_some());
    }
}

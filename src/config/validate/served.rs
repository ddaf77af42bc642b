//! On which listener ports the rules of a VirtualService are served: those of the mesh, those of its Gateways, and for a
//! delegate those of whoever delegates to it.

use foldhash::HashMap;

use super::virtual_service::{self, MESH};
use crate::config::delegates::Delegates;
use crate::config::gateways::{gateways, named};
use crate::config::resource::virtual_service::{HttpRoute, VirtualService};
use crate::config::resource::{Resource, Resources};
use crate::config::settings::Settings;

/// The ports of all listeners.
pub(super) struct Ports<'a> {
    mesh: &'a [u16],
    /// By namespace and name of the Gateway.
    gateways: HashMap<(&'a str, &'a str), Vec<u16>>,
    /// Those of VirtualServices without hosts, by address.
    delegates: HashMap<*const Resource<VirtualService>, Vec<u16>>,
}

impl<'a> Ports<'a> {
    /// The ports that these resources ask for.
    pub(super) fn new(resources: &'a Resources, settings: &'a Settings) -> Self {
        let mut ports =
            Self { mesh: &settings.mesh_ports, gateways: HashMap::default(), delegates: HashMap::default() };
        for listener in gateways(resources) {
            for server in &listener.servers {
                add(ports.gateways.entry((server.namespace, server.gateway)).or_default(), &[listener.port]);
            }
        }
        let delegates = Delegates::new(resources);
        for root in resources.with_hosts() {
            for route in &root.spec.http {
                if let Some(delegate) = delegates.of(root, route) {
                    let served = ports.of(root, route);
                    add(ports.delegates.entry(std::ptr::from_ref(delegate)).or_default(), &served);
                }
            }
        }
        ports
    }

    /// The ports on which a rule of a VirtualService is served.
    pub(super) fn of(&self, resource: &Resource<VirtualService>, route: &HttpRoute) -> Vec<u16> {
        let named: Vec<_> =
            route.matches.iter().filter_map(|block| u16::try_from(block.port.as_ref()?.value).ok()).collect();
        if !named.is_empty() && named.len() == route.matches.len() {
            return named;
        }
        if resource.spec.hosts.is_empty() {
            return self.delegates.get(&std::ptr::from_ref(resource)).cloned().unwrap_or_default();
        }
        let mut ports = if virtual_service::serves_mesh(&resource.spec) { self.mesh.to_vec() } else { Vec::new() };
        for name in resource.spec.gateways.iter().flatten().filter(|name| name.value != MESH) {
            add(
                &mut ports,
                self.gateways.get(&self::named(name, &resource.metadata.namespace)).map_or(&[], Vec::as_slice),
            );
        }
        ports
    }
}

fn add(ports: &mut Vec<u16>, more: &[u16]) {
    let new: Vec<_> = more.iter().filter(|port| !ports.contains(port)).copied().collect();
    ports.extend(new);
}

#[cfg(test)]
mod tests {
    use crate::config::load::{Read, Source, load};
    use crate::config::settings::Settings;

    use super::*;

    const RESOURCES: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - {port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 81, name: b, protocol: HTTP}, hosts: ['*']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [a.com]
  gateways: [edge, mesh]
  http:
  - {match: [{port: 82}, {port: 83}], redirect: {uri: /}}
  - {match: [{port: 80}, {uri: {prefix: /}}], delegate: {name: d}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: d}
spec:
  http: [{redirect: {uri: /}}]
";

    #[test]
    fn ports_come_from_the_rule_the_mesh_and_the_gateways() {
        let source = Source { path: "a.yaml".into(), text: RESOURCES.into() };
        let settings = Settings { mesh_ports: vec![8080], ..Settings::default() };
        let resources = load(Read { sources: vec![source], ..Read::default() }, &settings).resources;
        let ports = Ports::new(&resources, &settings);
        let of = |service: usize, rule: usize| {
            let resource = &resources.virtual_services[service];
            ports.of(resource, &resource.spec.http[rule])
        };
        assert_eq!(of(0, 0), [82, 83]);
        assert_eq!(of(0, 1), [8080, 80, 81]);
        assert_eq!(of(1, 0), [8080, 80, 81]);
    }
}

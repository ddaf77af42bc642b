//! The tutorial's configuration with the versions, weights and ports that a test needs.

use std::fmt::Write as _;

use super::client::HOST;

/// A service with its versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    versions: Vec<(String, u32, Vec<u16>)>,
    rule: String,
    policy: String,
}

impl Config {
    /// One version, all requests to it.
    pub(crate) fn single(ports: &[u16]) -> Self {
        Self::default().version("v1", 100, ports)
    }

    /// One version more.
    pub(crate) fn version(mut self, name: &str, weight: u32, ports: &[u16]) -> Self {
        self.versions.push((name.to_owned(), weight, ports.to_vec()));
        self
    }

    /// The same with other weights, in the order of the versions.
    pub(crate) fn weights(&self, weights: &[u32]) -> Self {
        let mut other = self.clone();
        for (version, weight) in other.versions.iter_mut().zip(weights) {
            version.1 = *weight;
        }
        other
    }

    /// One more line of YAML in the HTTP rule (`timeout: 1s`).
    pub(crate) fn rule(mut self, line: &str) -> Self {
        self.rule.push_str("      ");
        self.rule.push_str(line);
        self.rule.push('\n');
        self
    }

    /// The traffic policy of the DestinationRule, in flow style (`{connectionPool: …}`).
    pub(crate) fn policy(mut self, flow: &str) -> Self {
        self.policy = format!("  trafficPolicy: {flow}\n");
        self
    }

    /// As the files of the tutorial, in one.
    pub(crate) fn yaml(&self) -> String {
        let (mut routes, mut subsets, mut endpoints) = (String::new(), String::new(), String::new());
        for (name, weight, ports) in &self.versions {
            let destination = format!("destination: {{host: {HOST}, subset: {name}}}");
            let _ = write!(routes, "        - {destination}\n          weight: {weight}\n");
            let _ = writeln!(subsets, "    - {{name: {name}, labels: {{version: {name}}}}}");
            for port in ports {
                let _ = writeln!(
                    endpoints,
                    "    - {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{version: {name}}}}}"
                );
            }
        }
        let (rule, policy) = (&self.rule, &self.policy);
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: VirtualService\nmetadata:\n  name: product-service-vs\n\
             spec:\n  hosts:\n    - {HOST}\n  http:\n    - route:\n{routes}{rule}\
             ---\napiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata:\n  name: product-service-dr\n\
             spec:\n  host: {HOST}\n{policy}  subsets:\n{subsets}\
             ---\napiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\nmetadata:\n  name: product-service-se\n\
             spec:\n  hosts:\n    - {HOST}\n  ports:\n    - {{number: 80, name: http, protocol: HTTP}}\n\
             \x20 resolution: STATIC\n  endpoints:\n{endpoints}"
        )
    }
}

//! `serin run` without a file: the YAML that `--upstream` and `--split` stand for.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::IpAddr;

/// The name that the service gets.
const SERVICE: &str = "service";

/// The VirtualService, DestinationRule and ServiceEntry for these upstreams (version and `ADDR:PORT`) and this split (version and
/// weight; what it leaves out gets 0). A single upstream needs no split. The error says what is wrong with the arguments.
pub fn yaml(upstreams: &[(String, String)], split: &[(String, u32)]) -> Result<String, String> {
    if upstreams.is_empty() {
        return Err("name at least one upstream: `--upstream v1=localhost:8081`".to_owned());
    }
    let mut versions = HashSet::new();
    for (version, _) in upstreams {
        if !is_label(version) {
            return Err(format!("`{version}` is no version name: small letters, digits and inner dashes, at most 63"));
        }
        if !versions.insert(version.as_str()) {
            return Err(format!("the upstream `{version}` is there twice"));
        }
    }
    let weights = weights(upstreams, split)?;
    let targets = upstreams.iter().map(|(_, target)| Target::parse(target)).collect::<Result<Vec<_>, _>>()?;
    Ok(write(upstreams, &weights, &targets))
}

/// A weight for each upstream, in their order.
fn weights(upstreams: &[(String, String)], split: &[(String, u32)]) -> Result<Vec<u32>, String> {
    let mut given = HashSet::new();
    for (version, _) in split {
        if !upstreams.iter().any(|(known, _)| known == version) {
            let known = upstreams.iter().map(|(known, _)| known.as_str()).collect::<Vec<_>>().join(", ");
            return Err(format!("`--split` names `{version}`, which is no upstream: there are {known}"));
        }
        if !given.insert(version.as_str()) {
            return Err(format!("`--split` names `{version}` twice"));
        }
    }
    if let ([_], []) = (upstreams, split) {
        return Ok(vec![100]);
    }
    if split.is_empty() {
        let equal = upstreams.iter().map(|(version, _)| format!("{version}=…")).collect::<Vec<_>>().join(",");
        return Err(format!("several upstreams need a split: `--split {equal}`, which sums to 100"));
    }
    let sum: u64 = split.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if sum != 100 {
        return Err(format!("the weights of `--split` sum to {sum}, not 100"));
    }
    let weight = |version: &str| split.iter().find(|(known, _)| known == version).map_or(0, |(_, weight)| *weight);
    Ok(upstreams.iter().map(|(version, _)| weight(version)).collect())
}

struct Target {
    address: String,
    port: u16,
    /// Must be resolved: neither an address nor `localhost`.
    is_name: bool,
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form ADDR:PORT");
        let text_without_scheme = text.strip_prefix("http://").unwrap_or(text);
        let (address, port) = text_without_scheme.trim_end_matches('/').rsplit_once(':').ok_or_else(form)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let is_address = bare.parse::<IpAddr>().is_ok();
        if !is_address && !bare.split('.').all(is_label) {
            return Err(format!("`{bare}` is neither an address nor a host name"));
        }
        Ok(Self { address: bare.to_owned(), port, is_name: !is_address && bare != "localhost" })
    }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn write(upstreams: &[(String, String)], weights: &[u32], targets: &[Target]) -> String {
    let mut routes = String::new();
    let mut subsets = String::new();
    let mut endpoints = String::new();
    for (((version, _), weight), target) in upstreams.iter().zip(weights).zip(targets) {
        let _ = write!(
            routes,
            "    - destination:\n        host: {SERVICE}\n        subset: \"{version}\"\n      weight: {weight}\n"
        );
        let _ = write!(subsets, "  - name: \"{version}\"\n    labels:\n      version: \"{version}\"\n");
        let _ = write!(
            endpoints,
            "  - address: \"{}\"\n    ports:\n      http: {}\n    labels:\n      version: \"{version}\"\n",
            target.address, target.port,
        );
    }
    // A name is resolved again and again; an address, and `localhost`, never.
    let resolution = if targets.iter().any(|target| target.is_name) { "DNS" } else { "STATIC" };
    format!(
        "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {SERVICE}
spec:
  hosts:
  - {SERVICE}
  http:
  - name: split
    route:
{routes}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: {SERVICE}
spec:
  host: {SERVICE}
  subsets:
{subsets}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {SERVICE}
spec:
  hosts:
  - {SERVICE}
  ports:
  - number: 80
    name: http
    protocol: HTTP
  resolution: {resolution}
  endpoints:
{endpoints}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{Read, Source, load};
    use crate::config::resource::service_entry::Resolution;
    use crate::config::settings::Settings;

    fn pairs<T: Clone>(pairs: &[(&str, T)]) -> Vec<(String, T)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn upstreams(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, target)| ((*name).to_owned(), (*target).to_owned())).collect()
    }

    #[test]
    fn it_passes_the_check() {
        for (second, resolution) in [
            ("localhost:8082", Resolution::Static),
            ("[::1]:8082", Resolution::Static),
            ("http://10.0.0.1:80/", Resolution::Static),
            ("canary.example.com:80", Resolution::Dns),
        ] {
            let text =
                yaml(&upstreams(&[("v1", "127.0.0.1:8081"), ("2", second)]), &pairs(&[("2", 10), ("v1", 90)])).unwrap();
            let sources = vec![Source { path: "vs.yaml".into(), text: text.into() }];
            let loaded = load(Read { sources, ..Read::default() }, &Settings::default());
            assert!(loaded.is_valid(), "{:?}", loaded.diagnostics);
            let route = &loaded.resources.virtual_services[0].spec.http[0].route;
            let weights: Vec<_> = route.iter().map(|entry| entry.weight.as_ref().unwrap().value).collect();
            assert_eq!(weights, [90, 10]);
            let entry = &loaded.resources.service_entries[0].spec;
            assert_eq!(entry.resolution.as_ref().unwrap().value, resolution, "{second}");
            assert_eq!(loaded.resources.destination_rules[0].spec.subsets[1].name.value, "2");
        }
    }

    #[test]
    fn a_single_upstream_needs_no_split() {
        assert!(yaml(&upstreams(&[("v1", "localhost:1")]), &[]).unwrap().contains("weight: 100"));
    }

    #[test]
    fn mistakes_are_named() {
        let two = upstreams(&[("v1", "localhost:1"), ("v2", "localhost:2")]);
        let refused =
            |upstreams: &[(String, String)], split: &[(&str, u32)]| yaml(upstreams, &pairs(split)).unwrap_err();
        assert!(refused(&[], &[]).contains("at least one"));
        assert!(refused(&two, &[]).contains("v1=…,v2=…"));
        assert!(refused(&two, &[("v1", 90)]).contains("sum to 90"));
        assert!(refused(&two, &[("v3", 100)]).contains("there are v1, v2"));
        assert!(refused(&two, &[("v1", 50), ("v1", 50)]).contains("twice"));
        assert!(refused(&upstreams(&[("v1", "a:1"), ("v1", "b:1")]), &[("v1", 100)]).contains("twice"));
        assert!(refused(&upstreams(&[("V 1", "a:1")]), &[]).contains("no version name"));
        for target in ["localhost", "localhost:0", "localhost:x", ":80", "a b:80", "::1", "a\":80"] {
            assert!(yaml(&upstreams(&[("v1", target)]), &[]).is_err(), "{target}");
        }
    }
}

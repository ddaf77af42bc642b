//! `serin check`: judges a configuration as `serin run` would, without running anything.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::config::load::{self, Loaded};
use crate::config::render;
use crate::config::resource::Resource;
use crate::config::resource::virtual_service::{HttpRoute, HttpRouteDestination, VirtualService};
use crate::config::settings::{ExtraEndpoint, Settings};

/// Routes whose shares are printed; after so many, only their number.
const SHOWN_ROUTES: usize = 50;

/// Say everything that is wrong with a configuration, and what it would do
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin check config/
  serin check vs.yaml --endpoint reviews/v2=localhost:8082
  kubectl get vs,dr,se -o yaml | serin check -

Exit status: 0 valid, 1 invalid, 2 wrong usage or a file that is not there.")]
pub struct Check {
    /// A file, a folder (every *.yaml and *.yml in it), or - for standard input
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    /// Read folders below a folder too
    #[arg(short, long)]
    recursive: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    /// Check each resource by itself: neither what others declare nor certificate files
    #[arg(long)]
    no_references: bool,

    /// Take weights as shares of their sum; otherwise they must sum to 100
    #[arg(long)]
    relative_weights: bool,

    /// A lone VirtualService answers its own hosts only
    #[arg(long)]
    strict_hosts: bool,

    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,

    /// An endpoint without a ServiceEntry; repeatable
    #[arg(long = "endpoint", value_name = "HOST[/SUBSET]=ADDR:PORT")]
    endpoints: Vec<ExtraEndpoint>,
}

impl Check {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let missing = self.paths.iter().any(|path| path.as_os_str() != "-" && !path.exists());
        let settings = Settings {
            relative_weights: self.relative_weights,
            strict_hosts: self.strict_hosts,
            references: !self.no_references,
            endpoints: self.endpoints,
            ..Settings::default()
        };
        let loaded = load::load(load::read(&self.paths, self.recursive), &settings);
        let summary = Summary::of(&loaded, &settings);
        let mut out = io::stdout().lock();
        let text = if self.json {
            json(&loaded, summary)
        } else {
            let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            people(&loaded, &summary, colours)
        };
        // Nobody is left to be told that the reader went away.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let refused = !loaded.is_valid() || self.deny_warnings && !loaded.diagnostics.is_empty();
        match (missing, refused) {
            (true, _) => ExitCode::from(2),
            (false, true) => ExitCode::from(1),
            (false, false) => ExitCode::SUCCESS,
        }
    }
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Summary {
    virtual_services: usize,
    /// Rules of all VirtualServices.
    routes: usize,
    /// Different pairs of host and subset.
    destinations: usize,
    endpoints: usize,
    /// Metric series that exist once each route was asked with one method and answered with one status code.
    series: usize,
}

impl Summary {
    fn of(loaded: &Loaded, settings: &Settings) -> Self {
        let resources = &loaded.resources;
        let mut destinations = BTreeSet::new();
        let mut pairs = 0;
        for rule in resources.virtual_services.iter().flat_map(|one| &one.spec.http) {
            let mut own = BTreeSet::new();
            for destination in rule.route.iter().filter_map(|entry| entry.destination.as_ref()) {
                own.insert((
                    destination.host.as_str(),
                    destination.subset.as_ref().map_or("", |subset| subset.as_str()),
                ));
            }
            // A rule without a destination answers by itself, and is counted as such.
            pairs += own.len().max(1);
            destinations.extend(own);
        }
        let declared: usize = resources.service_entries.iter().map(|one| one.spec.endpoints.len()).sum();
        let endpoints = declared + resources.workload_entries.len() + settings.endpoints.len();
        Self {
            virtual_services: resources.virtual_services.len(),
            routes: resources.virtual_services.iter().map(|one| one.spec.http.len()).sum(),
            destinations: destinations.len(),
            endpoints,
            series: series(pairs, destinations.len(), endpoints),
        }
    }
}

/// A histogram: 36 buckets, the last without bound, sum and count.
const HISTOGRAM: usize = 36 + 3;
/// `http_requests_total`, `grpc_requests_total`, `http_request_duration_seconds`, and `serin_route_weight` from two sources.
const BY_ROUTE: usize = 1 + 1 + HISTOGRAM + 2;
/// Three more histograms, attempts, requests in flight, bytes both ways, flags, and connections in two states.
const BY_DESTINATION: usize = 3 * HISTOGRAM + 1 + 1 + 2 + 1 + 2;

fn series(routed: usize, destinations: usize, endpoints: usize) -> usize {
    routed * BY_ROUTE + destinations * BY_DESTINATION + endpoints
}

#[derive(Serialize)]
struct Output {
    valid: bool,
    diagnostics: Vec<render::Entry>,
    summary: Summary,
}

fn json(loaded: &Loaded, summary: Summary) -> String {
    let output = Output { valid: loaded.is_valid(), diagnostics: render::entries(loaded), summary };
    let mut text = serde_json::to_string_pretty(&output).expect("text and numbers can always be written as JSON");
    text.push('\n');
    text
}

fn people(loaded: &Loaded, summary: &Summary, colours: bool) -> String {
    let mut text = render::text(loaded, colours);
    for notice in &loaded.notices {
        let _ = writeln!(text, "note: {notice}");
    }
    let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = loaded.diagnostics.len() - errors;
    if errors == 0 {
        text.push_str(&shares(loaded));
    }
    let _ = writeln!(
        text,
        "{}, {}, {}, {}, about {} metric series",
        count(summary.virtual_services, "VirtualService"),
        count(summary.routes, "route"),
        count(summary.destinations, "destination"),
        count(summary.endpoints, "endpoint"),
        summary.series,
    );
    let verdict = if errors == 0 { "valid" } else { "invalid" };
    let _ = writeln!(text, "{verdict}: {}, {}", count(errors, "error"), count(warnings, "warning"));
    text
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What share each destination of a route with several gets.
fn shares(loaded: &Loaded) -> String {
    let rules = |one: &Resource<VirtualService>| -> Vec<(String, Vec<String>)> {
        let named = |(index, rule): (usize, &HttpRoute)| {
            let name = rule
                .name
                .as_ref()
                .map_or_else(|| format!("{}/{index}", one.metadata.name.value), |name| name.value.clone());
            (name, rule_shares(rule))
        };
        one.spec.http.iter().enumerate().filter(|(_, rule)| rule.route.len() > 1).map(named).collect()
    };
    let weighted: Vec<_> = loaded.resources.virtual_services.iter().flat_map(rules).collect();
    let mut text = String::new();
    let width = weighted.iter().take(SHOWN_ROUTES).map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, lines) in weighted.iter().take(SHOWN_ROUTES) {
        for (index, line) in lines.iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            let _ = writeln!(text, "{name:width$}  {line}");
        }
    }
    if weighted.len() > SHOWN_ROUTES {
        let _ = writeln!(text, "and {} more routes with several destinations", weighted.len() - SHOWN_ROUTES);
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "weights are below 2^32")]
fn rule_shares(rule: &HttpRoute) -> Vec<String> {
    let weight = |entry: &HttpRouteDestination| entry.weight.as_ref().map_or(0, |weight| weight.value);
    let total: i64 = rule.route.iter().map(weight).sum();
    let line = |entry: &HttpRouteDestination| {
        let percent = format!("{:.3}", weight(entry) as f64 * 100.0 / total.max(1) as f64);
        let percent = percent.trim_end_matches('0').trim_end_matches('.');
        let destination = entry.destination.as_ref();
        let host = destination.map_or("", |destination| destination.host.as_str());
        let subset =
            destination.and_then(|destination| destination.subset.as_ref()).map_or("", |subset| subset.as_str());
        format!("{percent:>7} %  {host} {subset}").trim_end().to_owned()
    };
    rule.route.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Source;

    const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop]
  http:
  - name: primary
    route:
    - {destination: {host: shop, subset: v1}, weight: 2}
    - {destination: {host: shop, subset: v2}, weight: 1}
  - redirect: {uri: /}
";

    fn loaded() -> Loaded {
        load::parse(vec![Source { path: "vs.yaml".into(), text: RULES.into() }])
    }

    #[test]
    fn shares_are_normalised() {
        assert_eq!(shares(&loaded()), "primary   66.667 %  shop v1\n          33.333 %  shop v2\n");
    }

    #[test]
    fn the_summary_counts_what_is_there() {
        let loaded = loaded();
        let summary = Summary::of(&loaded, &Settings::default());
        assert_eq!((summary.virtual_services, summary.routes, summary.destinations, summary.endpoints), (1, 2, 2, 0));
        assert_eq!(summary.series, 3 * 43 + 2 * 124);
        let text = people(&loaded, &summary, false);
        assert!(text.ends_with("valid: 0 errors, 0 warnings\n"), "{text}");
    }

    #[test]
    fn json_has_exactly_its_keys() {
        let broken =
            load::parse(vec![Source { path: "a.yaml".into(), text: RULES.replace("weight: 1", "wieght: 1").into() }]);
        let summary = Summary::of(&broken, &Settings::default());
        let value: serde_json::Value = serde_json::from_str(&json(&broken, summary)).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), ["diagnostics", "summary", "valid"]);
        assert_eq!(keys(&value["summary"]), ["destinations", "endpoints", "routes", "series", "virtual_services"]);
        let diagnostic = &value["diagnostics"][0];
        assert_eq!(keys(diagnostic), ["code", "column", "file", "help", "kind", "line", "message", "path", "severity"]);
        assert_eq!(diagnostic["path"], "spec.http[0].route[1].wieght");
        assert_eq!(
            (&diagnostic["line"], &diagnostic["column"], &diagnostic["kind"]),
            (&10.into(), &47.into(), &"field".into())
        );
        assert_eq!(
            (&diagnostic["severity"], &diagnostic["code"], &value["valid"]),
            (&"error".into(), &serde_json::Value::Null, &false.into())
        );
    }
}

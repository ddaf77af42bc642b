//! `serin explain`: which rule and destination a request gets, and why not another one.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::admin_client::{Admin, TokenOption};
use super::offline::{Ask, Offline, Outcome, Reading, Sent};
use super::{fail, print};
use crate::config::load::{Read, Source};
use crate::config::settings::Settings;

/// Say which rule and destination a request gets, and why no earlier rule
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  serin explain config/ -- GET http://reviews/api -H 'end-user: jason'
  serin explain vs.yaml --json -- POST /checkout -H 'Host: shop.example.com'
  serin explain --admin 127.0.0.1:15000 -- GET http://reviews/api

The listener is the one on the port of the URL; without a port, or if nothing is served there, one that answers to the host.
With --admin, the configuration is the one that a running proxy serves.

Exit status: 0 done (also if no rule takes the request), 1 the configuration is invalid, 2 wrong usage or no answer.")]
pub struct Explain {
    /// A file, a folder (every *.yaml and *.yml in it), or - for standard input
    #[arg(value_name = "PATH", required_unless_present = "admin", conflicts_with = "admin")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    reading: Reading,

    /// Ask for the configuration of the proxy with this admin address, instead of files
    #[arg(long, value_name = "URL|ADDR:PORT|unix:PATH")]
    admin: Option<Admin>,

    #[command(flatten)]
    token: TokenOption,

    /// Where the request comes from
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    from: IpAddr,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,

    /// METHOD URL [-H 'name: value']…
    #[arg(last = true, value_name = "REQUEST", required = true)]
    request: Vec<String>,
}

impl Explain {
    /// Does it, and says with what status to exit.
    pub fn run(self) -> ExitCode {
        let ask = match Ask::parse(&self.request) {
            Ok(ask) => Ask { from: self.from, ..ask },
            Err(message) => return fail(&message),
        };
        let offline = match &self.admin {
            Some(admin) => self.served(admin),
            None => self.reading.load(&self.paths),
        };
        let outcome = match offline {
            Ok(offline) => Outcome::new(&offline, &ask),
            Err(code) => return code,
        };
        let text = if self.json {
            let text = serde_json::to_string_pretty(&outcome).expect("text and numbers can always be written as JSON");
            text + "\n"
        } else {
            people(&ask, &outcome)
        };
        print(&text);
        ExitCode::SUCCESS
    }

    /// The table of a running proxy.
    fn served(&self, admin: &Admin) -> Result<Offline, ExitCode> {
        let answer =
            self.token.open(admin).and_then(|admin| admin.get("/config/dump")).map_err(|message| fail(&message))?;
        if !answer.status.is_success() {
            return Err(fail(&answer.refusal()));
        }
        let source = |source: &Value| {
            Some(Source { path: source["path"].as_str()?.into(), text: source["text"].as_str()?.into() })
        };
        let sources: Vec<_> = answer.body["sources"].as_array().into_iter().flatten().filter_map(source).collect();
        if sources.is_empty() {
            return Err(fail("no configuration serves"));
        }
        let settings = serde_json::from_value::<Settings>(answer.body["settings"].clone());
        let settings =
            settings.map_err(|error| fail(&format!("the admin port says no settings that are known here: {error}")))?;
        // It was judged where it is served; files that it names are there.
        let settings = Settings { references: false, ..settings };
        self.reading.understand(Read { sources, ..Read::default() }, &settings)
    }
}

fn people(ask: &Ask, outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let url = format!("{}://{}{}", ask.scheme, ask.authority, ask.path);
    let _ = writeln!(out, "{} {url}", ask.method);
    let _ = match (outcome.listener, &outcome.host) {
        (None, _) => writeln!(out, "listener  none: nothing listens"),
        (Some(port), None) => writeln!(out, "listener  {port}\nhost      none answers to `{}`: 404", ask.authority),
        (Some(port), Some(host)) => writeln!(out, "listener  {port}\nhost      {host}"),
    };
    for (number, skipped) in outcome.skipped.iter().enumerate() {
        let lead = if number == 0 { "not       " } else { "          " };
        let actual =
            skipped.actual.as_deref().map_or_else(|| "is not there".to_owned(), |actual| format!("is `{actual}`"));
        let _ =
            writeln!(out, "{lead}{}: {} must be `{}`, and {actual}", skipped.rule, skipped.condition, skipped.wanted);
    }
    if outcome.host.is_some() {
        let _ = match (&outcome.rule, &outcome.label) {
            (Some(rule), Some(label)) => {
                writeln!(out, "rule      {label} (http[{}] of {})", rule.index, rule.virtual_service)
            }
            (None, Some(label)) => writeln!(out, "rule      {label} (of the Gateway)"),
            (_, None) => writeln!(out, "rule      none takes it: 404"),
        };
    }
    if let Some(fault) = &outcome.fault {
        let _ = writeln!(out, "fault     {fault}");
    }
    match outcome.action {
        "forward" => forward(&mut out, ask, outcome),
        "none" => {}
        action => own(&mut out, action, outcome),
    }
    out
}

fn own(out: &mut String, action: &str, outcome: &Outcome) {
    let Some(own) = &outcome.response else { return };
    let _ = writeln!(out, "{action:<9} {}", own.status);
    for (name, value) in &own.headers {
        let _ = writeln!(out, "          {name}: {value}");
    }
    if !own.body.is_empty() {
        let _ = writeln!(out, "          {}", own.body.trim_end());
    }
}

fn forward(out: &mut String, ask: &Ask, outcome: &Outcome) {
    for (number, target) in outcome.destinations.iter().enumerate() {
        let lead = if number == 0 { "to        " } else { "          " };
        let port = target.place.port.map_or_else(|| " without a port".to_owned(), |port| format!(":{port}"));
        let endpoints = match &*target.place.endpoints {
            [] => "no endpoint: 503".to_owned(),
            endpoints => endpoints.join(", "),
        };
        let _ = writeln!(out, "{lead}{:>7} %  {}{port}  ({endpoints})", percent(target.share), target.place.name());
    }
    if let Some(sticky) = &outcome.sticky {
        let _ = match &sticky.to {
            Some(to) => writeln!(out, "sticky    by {}: this client gets {to}", sticky.by),
            None => writeln!(out, "sticky    by {}: this client is not known yet", sticky.by),
        };
    }
    let sent = &outcome.request;
    let _ = writeln!(out, "as        {} {}  Host: {}", sent.method, sent.path, sent.host);
    for line in changed(ask, sent) {
        let _ = writeln!(out, "          {line}");
    }
    if let Some(timeout) = &outcome.timeout {
        let _ = writeln!(out, "timeout   {timeout}");
    }
    if let Some(retries) = &outcome.retries {
        let each = retries.per_try_timeout.as_ref().map_or_else(String::new, |limit| format!(", each within {limit}"));
        let _ = writeln!(out, "retries   {} on {}{each}", retries.attempts, retries.on.join(", "));
    }
    for mirror in &outcome.mirrors {
        let _ = writeln!(out, "mirror    {} % to {}", percent(mirror.share), mirror.place.name());
    }
}

/// Headers that are not as they came.
fn changed(ask: &Ask, sent: &Sent) -> Vec<String> {
    let came = |name: &str| ask.headers.contains_key(name);
    let before = |name: &str| -> Vec<u8> {
        ask.headers.get_all(name).iter().map(|value| value.as_bytes()).collect::<Vec<_>>().join(&b","[..])
    };
    let gone =
        ask.headers.keys().filter(|name| !sent.headers.contains_key(name.as_str())).map(|name| format!("- {name}"));
    let new = sent.headers.iter().filter(|(name, value)| !came(name) || before(name) != value.as_bytes());
    gone.chain(new.map(|(name, value)| format!("+ {name}: {value}"))).collect()
}

/// A share in percent, without noughts that say nothing.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

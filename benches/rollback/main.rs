//! How soon a canary that fails every request is gone: `cargo bench --bench rollback`.
//!
//! The real binary runs a release at 10 % with the defaults of the analysis, but without a warm-up, again and again (`retry`), under
//! steady concurrent load. Counted are the requests of both versions until the decision, as the release itself gives them; timed
//! are the last request that was still routed to the canary (`time` in the access log, whole milliseconds) and the last that
//! arrived there, both from the moment of the decision by the release's own clock. `-- --help` lists the options.

mod load;
mod proxy;
mod report;
mod upstream;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use jiff::Timestamp;

use load::Load;
use proxy::Proxy;
use report::{Attempt, Pass, Report};
use upstream::Upstream;

/// How soon a canary that fails every request is gone.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench rollback --")]
struct Options {
    /// Releases under each load
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    releases: u32,

    /// Requests a second of the steady load; the other load is as fast as it is answered
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Connections that share the load
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Answers of the stable version before the first release, so that what is slow can be told from its p99.
const BEFORE: usize = 400;
/// Answers after a rollback, and how long they take at least, before the next release begins: what is late has come by then.
const AFTER: (usize, Duration) = (20, Duration::from_millis(50));
/// How long any single step may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let options = if env::args().any(|argument| argument == "--bench") {
        Options::parse()
    } else {
        println!("a smoke test: measures only under `cargo bench --bench rollback`");
        Options { releases: 2, rate: 500, connections: 4, bench: false }
    };
    match measure(&options) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) -> Result<Report, String> {
    let mut passes = Vec::new();
    for rate in [Some(options.rate), None] {
        passes.push(pass(options, rate)?);
    }
    Ok(Report { passes })
}

/// All releases under one load.
fn pass(options: &Options, rate: Option<u32>) -> Result<Pass, String> {
    let (stable, canary) = (Upstream::start("200 OK")?, Upstream::start("500 Internal Server Error")?);
    let proxy = Proxy::start(stable.port, canary.port)?;
    let load = Load::start(proxy.listen, options.connections, rate);
    wait("the first answers", || load.answered.load(Relaxed) >= BEFORE)?;
    let (mut decided, mut verb) = (Vec::new(), "start");
    let since = (Instant::now(), load.answered.load(Relaxed));
    for number in 1..=options.releases as usize {
        let begun = Timestamp::now();
        proxy.say(verb)?;
        verb = "retry";
        wait("the rollback", || proxy.rollbacks() >= number)?;
        let (answered, rolled_back) = (load.answered.load(Relaxed), Instant::now());
        wait("what is late", || load.answered.load(Relaxed) >= answered + AFTER.0 && rolled_back.elapsed() >= AFTER.1)?;
        let (at, requests) = proxy.decision()?;
        decided.push((begun, at, requests));
    }
    let seconds = since.0.elapsed().as_secs_f64();
    let rps = (load.answered.load(Relaxed) - since.1) as f64 / seconds;
    load.stop()?;
    let routed = proxy.end()?;
    let arrived = canary.arrived();
    let attempts = decided.iter().enumerate().map(|(number, &(begun, at, requests))| {
        // Until the next one begins.
        let end = decided.get(number + 1).map_or(Timestamp::MAX, |next| next.0);
        let late = |times: &[Timestamp]| {
            let last = times.iter().filter(|time| **time >= begun && **time < end).max();
            last.map_or(Duration::ZERO, |last| Duration::try_from(last.duration_since(at)).unwrap_or_default())
        };
        Attempt { requests, routed: late(&routed), arrived: late(&arrived) }
    });
    Ok(Pass { rate, connections: options.connections, rps, attempts: attempts.collect() })
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let since = Instant::now();
    while !condition() {
        if since.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {what}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

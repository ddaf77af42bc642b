//! Serin beside other proxies under the same load, in CPU time per request: `cargo bench --bench peers`.
//!
//! Every proxy splits 90/10 over two ports of one nginx, keeps its connections to them alive, writes no access log, runs
//! one worker and has a core to itself; load generator and upstream share the others. The proxies are measured in turn
//! (A B C A B C …), so that what else happens on the machine meets them all, and only ratios are to be compared: each is
//! the median of the ratios within a round. `-- --help` lists the options.
//!
//! Measures other programs from outside; never links what it measures.

mod bars;
mod configuration;
mod contender;
mod floor;
mod options;
#[allow(dead_code, reason = "the bench of reloads needs more of it")]
mod process;
mod report;
mod upstream;
mod work;

use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use clap::Parser;

use contender::{Contender, Running};
use options::Options;
use process::Cores;
use report::{Report, Row};
use upstream::Upstream;
use work::Work;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if let [_, role, listen, to] = arguments.as_slice()
        && role == floor::ROLE
    {
        return floor::run(listen, to);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("measures only under `cargo bench --bench peers`");
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    match measure(&options) {
        Ok(report) => finish(&options, &report),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn measure(options: &Options) -> Result<Report, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))?;
    // nginx's workers run as another user, and have to get in.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("cannot open the folder: {error}"))?;
    let cores = Cores::of_this_process()?;
    work::require_tools(&options.works())?;
    let upstream = Upstream::start(folder.path(), &cores)?;
    let mut missing = Vec::new();
    let mut running = Vec::new();
    for contender in Contender::chosen(options) {
        match contender.find() {
            Ok(found) => running.push(found.start(folder.path(), &cores, &upstream)?),
            Err(reason) => missing.push(reason),
        }
    }
    for reason in &missing {
        println!("left out: {reason}");
    }
    if running.is_empty() {
        return Err("nothing to measure".to_owned());
    }
    for proxy in &running {
        proxy.prove_split(&upstream)?;
    }
    let mut report = Report::new(options, &running, missing);
    for work in options.works() {
        report.rows.extend(measure_work(work, options, &cores, &running)?);
    }
    Ok(report)
}

fn measure_work(work: Work, options: &Options, cores: &Cores, running: &[Running]) -> Result<Vec<Row>, String> {
    let taking_part: Vec<&Running> = running.iter().filter(|proxy| proxy.takes_part(work)).collect();
    let mut rows: Vec<Row> = taking_part.iter().map(|proxy| Row::new(work, proxy.name())).collect();
    let load = |proxy: &Running, duration| {
        work.load(proxy.port(work), duration, cores).map_err(|error| format!("{}: {error}", proxy.name()))
    };
    for proxy in &taking_part {
        load(proxy, Duration::from_secs(1))?;
    }
    for round in 1..=options.rounds {
        eprintln!("{work}: round {round} of {}", options.rounds);
        for (proxy, row) in taking_part.iter().zip(&mut rows) {
            let before = proxy.process.cpu()?;
            let load = work
                .load(proxy.port(work), options.seconds(), cores)
                .map_err(|error| format!("{}: {error}", proxy.name()))?;
            let spent = proxy.process.cpu()?.saturating_sub(before);
            row.record(spent, &load, proxy.process.memory_kib()?);
        }
    }
    Ok(rows)
}

fn finish(options: &Options, report: &Report) -> ExitCode {
    print!("{report}");
    if let Some(path) = &options.json
        && let Err(error) = fs::write(path, format!("{:#}\n", report.json()))
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::from(2);
    }
    if !options.check {
        return ExitCode::SUCCESS;
    }
    match bars::judge(&report.rows).iter().filter_map(|verdict| verdict.met).reduce(|all, met| all && met) {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::from(1),
        None => {
            eprintln!("error: nothing to check: Serin, or every peer, is missing");
            ExitCode::from(2)
        }
    }
}

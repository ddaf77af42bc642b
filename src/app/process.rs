//! One proxy as a whole process: what it prints, which signals it obeys, how it exits.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};

use super::Options;
use super::descriptors::warn_if_few;
use super::listeners::shown;
use super::memory;
use super::serve::{Farewell, Running, start};
use super::service;
use super::successor::Program;
use super::watchdog;
use crate::admin::Address;
use crate::control::Trigger;
use crate::telemetry::report_panics;

/// How long a process that is to be replaced waits until nothing changes any more.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Something had to be cut off at the end.
const CUT_OFF: u8 = 3;

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    replace: Signal,
    quit: Signal,
    rotate: Signal,
}

/// Runs a proxy until a signal ends it. SIGTERM or SIGQUIT: drain; SIGINT: drain without waiting for balancers; a second one of any:
/// now. SIGHUP: read the configuration again. SIGUSR2: start the binary anew, hand every socket over, and drain. Exit code 0, or 3 if
/// requests were cut off. It aborts when a thread that it needs has died or is stuck.
///
/// # Errors
/// It could not start: what to tell the operator.
pub fn run(options: Options) -> Result<ExitCode, String> {
    report_panics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("error: cannot start: {error}"))?;
    runtime.block_on(async {
        // Before anything listens: a signal that comes early must not kill.
        let mut signals = Signals::install().map_err(|error| format!("error: cannot handle signals: {error}"))?;
        let drain_timeout = options.drain_timeout;
        let program = Program::current().map_err(|error| format!("error: cannot tell what is running: {error}"))?;
        warn_if_few(options.limits.max_connections);
        let running = start(options)?;
        let no_thread = |error: io::Error| format!("error: cannot start a thread: {error}");
        watchdog::start(running.pulses()).map_err(no_thread)?;
        if let Some(limit) = running.metrics.overload().memory_limit() {
            memory::watch(limit, Arc::clone(running.admission())).map_err(no_thread)?;
        }
        // Whoever read this may have gone away.
        let mut out = io::stdout().lock();
        for listener in &running.listeners {
            let _ = writeln!(out, "listener {}", shown(*listener));
        }
        let _ = match &running.admin {
            Address::Network(address) => writeln!(out, "admin http://{address}"),
            unix @ Address::Unix(_) => writeln!(out, "admin {unix}"),
        };
        drop(out);
        service::say(service::PREDECESSOR, service::READY);
        service::say(service::MANAGER, service::READY);
        let farewell = signals.wait_for_end(&running, &program).await;
        tracing::info!("draining");
        let cut_off = tokio::select! {
            cut_off = running.drain(drain_timeout, farewell) => cut_off,
            () = signals.end_again(farewell) => {
                tracing::warn!("second signal: ending now");
                return Ok(ExitCode::from(CUT_OFF));
            }
        };
        tracing::info!(cut_off, "drained");
        Ok(if cut_off == 0 { ExitCode::SUCCESS } else { ExitCode::from(CUT_OFF) })
    })
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            replace: signal(SignalKind::user_defined2())?,
            quit: signal(SignalKind::quit())?,
            rotate: signal(SignalKind::user_defined1())?,
        })
    }

    /// Serves until a signal ends it.
    async fn wait_for_end(&mut self, running: &Running, program: &Program) -> Farewell {
        let mut health = interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = either(&mut self.terminate, &mut self.quit) => return Farewell::Announced,
                _ = self.interrupt.recv() => return Farewell::Silent,
                _ = self.rotate.recv() => tracing::info!("nothing to open again: the access log follows its file by itself"),
                _ = self.hang_up.recv() => running.reload_soon(Trigger::Signal),
                _ = self.replace.recv() => if let Some(farewell) = self.hand_over(running, program).await {
                    return farewell;
                },
                _ = health.tick() => {
                    // Workers have a watch of their own.
                    running.look_after();
                    if let Some(thread) = running.missing() {
                        watchdog::die(&format!("the thread {thread} has died"));
                    }
                }
            }
        }
    }

    /// Lets another process take over; none: it could not, and this one goes on.
    async fn hand_over(&mut self, running: &Running, program: &Program) -> Option<Farewell> {
        tracing::info!("starting the process that takes over");
        let started = async {
            let resting = timeout(LONGEST_REST, spawn_blocking(running.rest())).await;
            resting
                .map_err(|_| "a change or a write under way does not end".to_owned())?
                .map_err(|error| error.to_string())?;
            let sockets = running.sockets().map_err(|error| format!("cannot copy the sockets: {error}"))?;
            program.start(sockets).await
        };
        let outcome = tokio::select! {
            outcome = started => outcome,
            () = either(&mut self.terminate, &mut self.quit) => {
                running.go_on();
                return Some(Farewell::Announced);
            }
            _ = self.interrupt.recv() => return Some(Farewell::Silent),
        };
        match outcome {
            Ok(pid) => {
                tracing::info!("process {pid} has taken over");
                service::say(service::MANAGER, &format!("MAINPID={pid}"));
                Some(Farewell::TakenOver)
            }
            Err(error) => {
                tracing::error!("nothing has taken over, this process goes on: {error}");
                running.go_on();
                None
            }
        }
    }

    /// A second signal that ends; for a process whose place was taken, the first one may have been meant for the other.
    async fn end_again(&mut self, farewell: Farewell) {
        if farewell == Farewell::TakenOver {
            self.any_end().await;
        }
        self.any_end().await;
    }

    async fn any_end(&mut self) {
        tokio::select! {
            () = either(&mut self.terminate, &mut self.quit) => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for one of two signals that mean the same.
async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

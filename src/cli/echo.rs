//! `serin echo`: a test upstream that says who it is and what it got. Knows nothing of the proxy: it stands behind it.

mod behaviour;
mod reply;
mod serve;

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub use behaviour::{Behaviour, Latency};
pub use serve::{Responder, serve};

/// A test upstream that says who it is and what it got.
#[derive(Args, Debug)]
#[command(after_help = "Paths with a meaning:
  /status/503   that status
  /delay/250ms  an answer after that time, on top of --latency; /delay/5 is 5 seconds
  /bytes/1000   a body of that many bytes
Anything else is answered with what was received, as JSON; a WebSocket gets its messages back.

With --admin, from this machine only:
  GET  /_echo                                  how it behaves
  POST /_echo?latency=5ms..80ms&error_rate=2%  behave like this from now on

Exit status: 0 ended as asked, 2 could not start.

Example:
  serin echo --name v2 --port 8082 --latency 5ms..80ms --error-rate 2%")]
pub struct Echo {
    /// Who it says it is, in `x-echo-name` and in the body
    #[arg(long, default_value = "echo")]
    name: String,

    /// The address to listen on
    #[arg(long, value_name = "ADDR", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,

    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// How long an answer takes: one duration, or a range from which each is drawn
    #[arg(long, value_name = "FROM..TO", default_value = "0ms", value_parser = Latency::parse)]
    latency: Latency,

    /// How many of the answers are a 500
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = behaviour::parse_rate)]
    error_rate: f64,

    /// Let `/_echo` switch the behaviour while it runs
    #[arg(long)]
    admin: bool,
}

impl Echo {
    /// Serves until SIGINT or SIGTERM. 0: ended as asked; 2: it could not start.
    pub fn run(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime
            .map_err(|error| format!("error: cannot start: {error}"))
            .and_then(|runtime| runtime.block_on(self.serve()))
        {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                super::say(&message);
                ExitCode::from(2)
            }
        }
    }

    async fn serve(self) -> Result<(), String> {
        let cannot_hear = |error| format!("error: cannot listen for signals: {error}");
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_hear)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot_hear)?;
        let cannot_listen = |error| format!("error: cannot listen on {}:{}: {error}", self.listen, self.port);
        let listener = TcpListener::bind((self.listen, self.port)).await.map_err(cannot_listen)?;
        println!("listening on {}", listener.local_addr().map_err(cannot_listen)?);
        let behaviour = Behaviour { latency: self.latency, error_rate: self.error_rate };
        let mut responder = Responder::new(&self.name, behaviour, rand::random());
        if self.admin {
            responder = responder.switchable();
        }
        tokio::select! {
            () = serve(listener, responder.into()) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
}

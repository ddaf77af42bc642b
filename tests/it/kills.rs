//! kill -9 at any moment of a release: what was started again stands no higher than what was acknowledged, and can read its state.
//!
//! A few kills in every run of the tests; five hundred, with what came of them, by
//! `cargo test --test it kill_minus_nine -- --ignored --nocapture`, more or fewer with `SERIN_KILLS`.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::support::client::HOST;
use super::support::eventually;
use super::support::proxy::Proxy;
use super::support::release::Scene;
use super::support::upstream::Upstream;
use super::support::wire::Wire;

/// Percent of each step. The last is never taken: nothing is left to be raised there.
const STEPS: [u32; 11] = [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
/// Weights move by words alone, as fast as they are answered.
const SPEC: &str = "  steps: [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]\n  analysis: {warmUp: 0s, minDuration: 30m, \
                    latency: {slowerThan: off}}\n";
/// A kill comes so long after the start at most.
const LATEST: Duration = Duration::from_millis(80);

/// What a person who moves the release has seen of it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The weight in the last answer.
    acknowledged: u32,
    /// The weight that was asked for and not answered yet.
    asked: Option<u32>,
    /// Since when that is so.
    since: Instant,
}

/// Moves the release up and down until the proxy is gone.
struct Mover {
    seen: Arc<Mutex<Seen>>,
    thread: JoinHandle<()>,
}

impl Mover {
    fn start(admin: SocketAddr, acknowledged: u32) -> Self {
        let seen = Arc::new(Mutex::new(Seen { acknowledged, asked: None, since: Instant::now() }));
        let shared = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            let Ok(stream) = TcpStream::connect(admin) else { return };
            let mut wire = Wire::new(stream);
            let mut answer = ask(&mut wire, "GET", "", "");
            while let Some(status) = answer {
                let (verb, body, wanted) = next(&status);
                let acknowledged = weight(&status);
                *lock(&shared) = Seen { acknowledged, asked: Some(wanted), since: Instant::now() };
                answer = ask(&mut wire, "POST", verb, &body);
                if let Some(status) = &answer {
                    assert_eq!(weight(status), wanted, "{verb} {body}: {status:#}");
                    *lock(&shared) = Seen { acknowledged: wanted, asked: None, since: Instant::now() };
                    // Some kills are to come after an answer and before the next word.
                    thread::sleep(Duration::from_secs_f64(rand::random::<f64>() * 0.002));
                }
            }
        });
        Self { seen, thread }
    }

    /// How things stand at this moment.
    fn seen(&self) -> Seen {
        *lock(&self.seen)
    }

    /// How they stood when the proxy was gone.
    fn end(self) -> Seen {
        self.thread.join().unwrap();
        *lock(&self.seen)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The release as it stands after a verb; none if the proxy is gone.
fn ask(wire: &mut Wire, method: &str, verb: &str, body: &str) -> Option<Value> {
    let verb = if verb.is_empty() { String::new() } else { format!("/{verb}") };
    let length = body.len();
    let head = format!("{method} /api/v1/rollouts/shop{verb} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {length}");
    wire.try_send(format!("{head}\r\ncontent-type: application/json\r\n\r\n{body}")).ok()?;
    let answer = wire.answer().ok()?;
    assert_eq!(answer.status(), 200, "{method} {verb} {body}: {}", answer.text());
    Some(serde_json::from_slice(&answer.body).unwrap())
}

fn weight(status: &Value) -> u32 {
    u32::try_from(status["effective_weight"].as_u64().unwrap()).unwrap()
}

/// What is said next, and the weight that it leads to: up step by step, and now and then down to nothing.
fn next(status: &Value) -> (&'static str, String, u32) {
    let step = status["state"]["step"].as_u64();
    match (status["state"]["name"].as_str().unwrap(), step) {
        ("idle", _) => ("start", String::new(), STEPS[0]),
        ("running", Some(step)) if step + 2 < STEPS.len() as u64 && rand::random::<f64>() < 0.85 => {
            let above = STEPS[usize::try_from(step).unwrap() + 1];
            ("promote", format!("{{\"from\": {step}}}"), above)
        }
        ("running", _) => ("abort", String::new(), 0),
        _ => ("retry", String::new(), STEPS[0]),
    }
}

/// Requests until the proxy is gone.
fn traffic(listen: SocketAddr) -> JoinHandle<()> {
    thread::spawn(move || {
        let Ok(stream) = TcpStream::connect(listen) else { return };
        let mut wire = Wire::new(stream);
        while wire.try_send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n")).is_ok() && wire.answer().is_ok() {}
    })
}

/// What came of all the kills.
#[derive(Debug, Default)]
struct Outcome {
    kills: usize,
    /// Kills while a change of weight was under way.
    during: usize,
    /// Other kills, and how long after the last answer.
    after: Vec<Duration>,
    /// Changes that were in force and kept, and whose answer the kill swallowed.
    swallowed: usize,
    /// Starts below what was acknowledged.
    lower: usize,
    violations: Vec<String>,
}

impl Outcome {
    /// Holds the weight after a start against what was seen before the kill. `applied`: the weight that was in force by the kept state.
    fn judge(&mut self, seen: Seen, applied: Option<u32>, now: u32) {
        let Seen { acknowledged, asked, .. } = seen;
        if now > acknowledged {
            if asked == Some(now) && applied == Some(now) {
                self.swallowed += 1;
            } else {
                self.violations.push(format!("{now} % after {acknowledged} % ({asked:?} asked, {applied:?} in force)"));
            }
        } else if now < acknowledged && asked != Some(now) {
            self.lower += 1;
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |limit| self.after.iter().filter(|after| **after <= Duration::from_millis(limit)).count();
        let Self { kills, during, swallowed, lower, violations, .. } = self;
        writeln!(
            f,
            "{kills} kills: {during} while a change of weight was under way, {} within 1 ms after one, {} within 5 ms, {} later",
            within(1),
            within(5) - within(1),
            self.after.len() - within(5)
        )?;
        writeln!(
            f,
            "{swallowed} changes were in force and kept, and the kill swallowed the answer; {lower} starts were lower"
        )?;
        write!(f, "{} violations", violations.len())?;
        violations.iter().try_for_each(|violation| write!(f, "\n{violation}"))
    }
}

/// The weight in force by the kept state, which has to be readable.
fn applied(scene: &Scene) -> Result<Option<u32>, String> {
    let file = scene.state().join("shop.json");
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let kept: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(kept["rollout"]["applied"].as_u64().and_then(|weight| u32::try_from(weight).ok()))
}

/// The release after a start.
fn status(proxy: &Proxy) -> Value {
    let mut answer = (0, String::new());
    eventually("the release is shown", || {
        answer = proxy.ask("GET", "/api/v1/rollouts/shop");
        answer.0 == 200
    });
    serde_json::from_str(&answer.1).unwrap()
}

/// Kills so many times, and starts again each time.
fn kill(times: usize) -> Outcome {
    let scene = Scene::new(Upstream::named("v1"), Upstream::named("v2"), SPEC);
    let mut outcome = Outcome::default();
    let mut before = None;
    for number in 0..=times {
        let mut proxy = scene.start();
        let now = weight(&status(&proxy));
        match (applied(&scene), before) {
            (Err(error), _) => outcome.violations.push(format!("kill {number}: the state cannot be read: {error}")),
            (Ok(_), None) => assert_eq!(now, 0, "the file alone decides at first"),
            (Ok(_), Some((seen, applied))) => outcome.judge(seen, applied, now),
        }
        if proxy.log().contains("cannot be used") {
            outcome.violations.push(format!("kill {number}: the state was put aside"));
        }
        if now == 0 {
            let mut client = proxy.client();
            assert!((0..20).all(|_| client.get("/").head.get("x-version") == "v1"), "nothing goes to v2 at 0 %");
        }
        if number == times {
            break;
        }
        let load = [traffic(proxy.listen), traffic(proxy.listen)];
        let mover = Mover::start(proxy.admin, now);
        thread::sleep(LATEST.mul_f64(rand::random::<f64>()));
        let seen = mover.seen();
        proxy.signal(Signal::KILL);
        match seen.asked {
            Some(_) => outcome.during += 1,
            None => outcome.after.push(seen.since.elapsed()),
        }
        proxy.wait();
        let seen = mover.end();
        load.into_iter().for_each(|client| client.join().unwrap());
        outcome.kills += 1;
        before = Some((seen, applied(&scene).unwrap_or_default()));
    }
    outcome
}

#[test]
fn a_few_kills_raise_nothing_and_leave_the_state_readable() {
    let outcome = kill(10);
    assert!(outcome.violations.is_empty(), "{outcome}");
}

#[test]
#[ignore = "takes minutes; a few kills are tested each time"]
fn kill_minus_nine() {
    let kills = std::env::var("SERIN_KILLS").map_or(500, |kills| kills.parse().expect("SERIN_KILLS is a number"));
    let outcome = kill(kills);
    println!("{outcome}");
    assert!(outcome.violations.is_empty());
}

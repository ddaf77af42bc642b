//! `serin rollout plan` and `simulate`: what a release would do, on made-up traffic, on an access log and on a report.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use super::support::config::Config;
use super::support::eventually;
use super::support::proxy::{Proxy, run, said, serin};
use super::support::upstream::Upstream;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/rollout");

fn rollout(arguments: &[&str]) -> Output {
    run(&[&["rollout"], arguments].concat(), Path::new("."))
}

/// What it prints, when it exits with this status.
#[track_caller]
fn told(arguments: &[&str], status: i32) -> String {
    let output = rollout(arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
    text
}

#[track_caller]
fn json(arguments: &[&str], status: i32) -> Value {
    serde_json::from_str(&told(&[arguments, &["--json"]].concat(), status)).unwrap()
}

#[test]
fn a_plan_says_what_each_step_needs_and_finds() {
    let plan = |more: &[&str]| json(&[&["plan", EXAMPLE], more].concat(), 0);
    let quick = plan(&["--rps", "100"]);
    let column = |plan: &Value, field: &str| -> Vec<f64> {
        plan["steps"].as_array().unwrap().iter().map(|step| step[field].as_f64().unwrap()).collect()
    };
    assert_eq!(column(&quick, "weight"), [10.0, 30.0, 50.0, 100.0]);
    // A minute at 100 requests a second is more than 300 requests of v2 need.
    assert_eq!(column(&quick, "requests"), [6_000.0; 4]);
    assert_eq!(column(&quick, "duration"), [70.0; 4]);
    assert_eq!(quick["duration"], 280.0);
    assert_eq!(column(&quick, "failures_if_all_fail")[0], 4.0);
    let finds = column(&quick, "smallest");
    assert!(finds[0] > 0.02 && finds[0] < 0.04 && finds[2] < finds[0], "{finds:?}");
    let slow = plan(&["--rps", "1"]);
    assert!(column(&slow, "duration")[0] >= 3_010.0 && column(&slow, "smallest")[0] > finds[0], "{slow:#}");
    assert_eq!((&slow["release"], &slow["slower_than"]), (&"product-service".into(), &Value::Null));
    assert_eq!(plan(&["--rps", "1", "--slower-than", "260ms"])["slower_than"], 0.3);

    let text = told(&["plan", EXAMPLE, "--rps", "100"], 0);
    assert!(
        text.starts_with(
            "product-service: v1 to v2 on product-service-vs/0, 10 → 30 → 50 → 100 %\n100 rps, v1 fails 0.5 %"
        ),
        "{text}"
    );
    assert!(text.contains("`slowerThan: auto`") && text.contains("promoted after about 5 min"), "{text}");
    let row: Vec<&str> = text.lines().find(|line| line.starts_with("  10 %")).unwrap().split_whitespace().collect();
    assert_eq!((row[2], row[3], row[4], row.last()), ("6,000", "70", "s", Some(&"4")));
    let never = told(&["plan", EXAMPLE, "--rps", "100", "--v1-errors", "3%"], 0);
    assert!(never.contains("for ever") && never.contains("help: raise `maxErrorRate` above 3 %"), "{never}");
    assert_eq!(plan(&["--rps", "100", "--v1-errors", "3%"])["duration"], Value::Null);
}

#[test]
fn a_bad_release_is_rolled_back_and_a_healthy_one_is_not() {
    let simulate = |more: &[&str]| {
        json(&[&["simulate", EXAMPLE, "--rps", "50", "--runs", "20", "--v1-errors", "0%"], more].concat(), 0)
    };
    let bad = simulate(&["--v2-errors", "100%"]);
    assert_eq!((&bad["given"]["runs"], &bad["given"]["rolled_back"]), (&20.into(), &20.into()));
    // Within a few requests of v2, once the warm-up of 10 s is over.
    let rollback = &bad["given"]["rollback"];
    assert!((10..100).contains(&rollback["requests"][0].as_u64().unwrap()), "{rollback}");
    let seconds = rollback["seconds"][0].as_f64().unwrap();
    assert!((10.0..12.0).contains(&seconds), "{rollback}");
    assert_eq!((&bad["healthy"]["rolled_back"], &bad["healthy"]["promoted"]), (&0.into(), &20.into()));
    assert!(bad["healthy"]["rolled_back_between"][1].as_f64().unwrap() < 0.2);
    assert_eq!((&bad["slower_than"], &bad["fixed_rule"]), (&0.015.into(), &Value::Null));

    assert_eq!(simulate(&["--v2-errors", "100%"]), bad, "the same seed, the same releases");
    assert_ne!(simulate(&["--v2-errors", "100%", "--seed", "2"])["given"]["rollback"], *rollback);

    let slow = simulate(&["--v1-latency", "20ms..100ms", "--v2-latency", "200ms..900ms"]);
    assert_eq!((&slow["slower_than"], &slow["given"]["rolled_back"]), (&0.15.into(), &20.into()));
    let off = simulate(&["--v2-latency", "200ms..900ms", "--slower-than", "10s"]);
    assert_eq!((&off["slower_than"], &off["given"]["rolled_back"]), (&10.0.into(), &0.into()));
}

#[test]
fn a_fixed_rule_is_measured_beside_it() {
    let arguments = ["simulate", EXAMPLE, "--rps", "3", "--runs", "20", "--beside-fixed-rule", "99%"];
    let found = json(&arguments, 0);
    let fixed = &found["fixed_rule"];
    assert_eq!((&fixed["success"], &fixed["threshold"]), (&0.99.into(), &2.into()));
    let minutes = found["healthy"]["promotion"]["seconds"][0].as_f64().unwrap() / 60.0;
    assert_eq!(fixed["checks"].as_f64(), Some(minutes.ceil()));
    // 18 requests of v2 a minute at first: one failure of them is less than 99 %.
    assert!(fixed["healthy"]["rolled_back"].as_u64() > Some(10) && found["healthy"]["rolled_back"] == 0, "{found:#}");
    assert_eq!((&fixed["given"], &found["given"]), (&fixed["healthy"], &found["healthy"]));
    let text = told(&arguments, 0);
    assert!(text.contains("v2 as good as v1: each rollback is a false one\n  rolled back       0 of 20"), "{text}");
    assert!(text.contains("with the fixed rule\n    rolled back") && !text.contains("v2 as given"), "{text}");
}

/// A release that was really run, and logged.
struct Release {
    folder: TempDir,
    proxy: Proxy,
}

const SPEC: &str = "  virtualService: product-service-vs\n  stable: v1\n  canary: v2\n  \
                    steps: [{weight: 10, approve: true}, 100]\n  \
                    analysis: {warmUp: 0s, latency: {slowerThan: off}}\n";

fn canary(name: &str) -> String {
    format!("---\napiVersion: serin.dev/v1alpha1\nkind: Canary\nmetadata: {{name: {name}}}\nspec:\n{SPEC}")
}

impl Release {
    fn start(v1: u16, v2: u16, shield: bool) -> Self {
        let config = Config::default().version("v1", 100, &[v1]).version("v2", 0, &[v2]).rule("retries: {attempts: 0}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("all.yaml"), config.yaml() + &canary("shop") + &format!("  shield: {shield}\n"))
            .unwrap();
        let mut command = serin();
        command.arg("run").arg(folder.path().join("all.yaml"));
        command.arg("--state-dir").arg(folder.path().join("state"));
        command.arg("--access-log").arg(format!("json={}", folder.path().join("access.json").display()));
        let proxy = Proxy::spawn(tempfile::tempdir().unwrap(), &mut command);
        Self { folder, proxy }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn say(&self, verb: &str) {
        let admin = self.proxy.admin.to_string();
        told(&[verb, "--admin", &admin], 0);
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.proxy.ask("GET", "/api/v1/rollouts/shop").1).unwrap()
    }

    /// The log, once it has so many lines.
    fn log(&self, lines: usize) -> String {
        let mut text = String::new();
        eventually("all are logged", || {
            text = fs::read_to_string(self.path("access.json")).unwrap_or_default();
            text.lines().count() == lines
        });
        text
    }

    fn report(&self) -> PathBuf {
        let mut found = None;
        eventually("the report is kept", || {
            let files = fs::read_dir(self.path("state")).unwrap().map(|file| file.unwrap().path());
            found = files
                .filter(|file| file.to_str().unwrap().contains("report"))
                .find(|file| file.extension().is_some_and(|extension| extension == "json"));
            found.is_some()
        });
        found.unwrap()
    }
}

#[test]
fn a_logged_release_and_its_report_are_replayed() {
    let bad = Upstream::answering(|_| b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_vec());
    let v1 = Upstream::named("v1");
    let release = Release::start(v1.port, bad.port, false);
    let mut client = release.proxy.client();
    (0..20).for_each(|_| drop(client.get("/")));
    release.say("start");
    let mut sent = 20;
    while release.status()["state"]["name"] != "rolledBack" {
        assert!(sent < 2_000, "{:#}", release.status());
        (0..5).for_each(|_| drop(client.get("/")));
        sent += 5;
    }
    let mut log = release.log(sent);
    let (config, file) = (release.path("all.yaml"), release.path("access.json"));

    // The decision that was made. A replay looks after each failure, the proxy perhaps after several: it may know more.
    let replayed = json(&["simulate", &config, "--from", &file], 0);
    let made = release.status()["events"].as_array().unwrap().last().unwrap().clone();
    let outcome = &replayed["outcome"];
    let last = outcome["transitions"].as_array().unwrap().last().unwrap();
    assert_eq!((&outcome["state"]["name"], &last["reason"]), (&"rolledBack".into(), &made["reason"]));
    let bad = |decision: &Value, of: &str| decision["numbers"]["tests"][0][of].as_u64().unwrap();
    assert!((3..=bad(&made, "canary_bad")).contains(&bad(last, "canary_bad")), "{last:#}\n{made:#}");
    assert_eq!((bad(last, "stable_bad"), bad(&made, "stable_bad")), (0, 0));
    assert!(replayed["left_out"]["without_share"].as_u64() >= Some(20), "{replayed:#}");
    assert_eq!(replayed["shares"].as_array().unwrap().len(), 1);

    let other = log.lines().last().unwrap().replace("\"route\":\"", "\"route\":\"other-");
    log.push_str(&format!("{other}\nnot a line\n"));
    fs::write(&file, &log).unwrap();
    let text = told(&["simulate", &config, "--from", &file], 0);
    assert!(text.contains("\nwould have been rolled back after "), "{text}");
    assert!(text.contains("share of v2 as drawn: 10 % for "), "{text}");
    assert!(text.contains("1 of other routes or versions") && text.contains("1 that cannot be read"), "{text}");
    assert!(text.contains(&format!("\n  line {}: not JSON: ", sent + 2)), "{text}");

    reports_are_computed_again(&release.report(), &config);
}

fn reports_are_computed_again(report: &Path, config: &str) {
    let path = report.to_str().unwrap();
    let text = told(&["simulate", "--from", path], 0);
    assert!(text.starts_with("shop: v1 to v2 on product-service-vs/0, attempt 1, rolledBack after "), "{text}");
    assert!(text.ends_with("computed again from the report: 3 of 3 decisions the same, 0 different\n"), "{text}");
    let tried = json(&["simulate", config, "--from", path], 0);
    assert!(tried["with_path"][0]["result"]["against"].is_number(), "{tried:#}");
    let lax = fs::read_to_string(config).unwrap().replace("{warmUp:", "{tolerance: 900, warmUp:");
    let laxer = report.with_file_name("lax.yaml");
    fs::write(&laxer, lax).unwrap();
    let tried = told(&["simulate", laxer.to_str().unwrap(), "--from", path], 0);
    assert!(tried.contains("with the limits of PATH, errors: not rolled back, evidence up to "), "{tried}");

    // A number that does not follow from what the report holds.
    let mut changed: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    changed["decisions"][2]["numbers"]["tests"][0]["ln_ratio"] = 9.5.into();
    let forged = report.with_file_name("forged.json");
    // In one line, as the admin port answers.
    fs::write(&forged, changed.to_string()).unwrap();
    let text = told(&["simulate", "--from", forged.to_str().unwrap()], 1);
    assert!(text.contains("  DIFFERS   rolled back shop") && text.contains("ln E of the ratio was 9.5"), "{text}");
    let answer = json(&["simulate", "--from", forged.to_str().unwrap()], 1);
    assert_eq!((&answer["decisions"][1]["same"], &answer["decisions"][2]["same"]), (&true.into(), &false.into()));
    changed["plan"].as_object_mut().unwrap().remove("steps");
    fs::write(&forged, format!("{changed:#}")).unwrap();
    let text = told(&["simulate", "--from", forged.to_str().unwrap()], 2);
    assert!(text.contains("is no report that can be read here: missing field `steps`"), "{text}");
}

/// The log names the version that answered; what is judged is the one that was drawn.
#[test]
fn failures_that_a_shield_hides_are_replayed_as_the_canarys() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let v1 = Upstream::named("v1");
    let release = Release::start(v1.port, dead, true);
    release.say("start");
    let mut client = release.proxy.client();
    (0..300).for_each(|_| assert_eq!(client.get("/").head.get("x-version"), "v1"));
    let log = release.log(300);
    let shielded = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let shielded: Vec<Value> = shielded.filter(|line| !line["drawn"].is_null()).collect();
    assert!(shielded.iter().all(|line| line["drawn"] == "v2" && line["version"] == "v1" && line["share"] == 0.1));
    let replayed = json(&["simulate", &release.path("all.yaml"), "--from", &release.path("access.json")], 0);
    let outcome = &replayed["outcome"];
    assert_eq!((&outcome["state"]["name"], &replayed["left_out"]["others"]), (&"rolledBack".into(), &0.into()));
    let failures = outcome["canary_failures"].as_u64().unwrap();
    assert!((3..=shielded.len() as u64).contains(&failures), "{outcome:#}");
}

#[test]
fn a_healthy_log_is_undecided_and_says_what_is_missing() {
    let (v1, v2) = (Upstream::named("v1"), Upstream::named("v2"));
    let release = Release::start(v1.port, v2.port, false);
    release.say("start");
    let mut client = release.proxy.client();
    (0..100).for_each(|_| drop(client.get("/")));
    release.log(100);
    let text = told(&["simulate", &release.path("all.yaml"), "--from", &release.path("access.json")], 0);
    assert!(text.contains("\nundecided at the end of the log, after 100 requests"), "{text}");
    let met = v2.ledger.len();
    assert!(text.contains(&format!("({met} of v2, 0 failed)")), "{text}");
}

#[test]
fn what_cannot_be_asked_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let config = Config::default().version("v1", 100, &[1]).version("v2", 0, &[2]).rule("name: main").yaml();
    let two = config.replace("product-service", "other") + &canary("second").replace("product-service", "other");
    let two = file("two.yaml", &(config.clone() + &canary("first") + "---\n" + &two));
    let none = file("none.yaml", &config);
    let text = told(&["plan", &none, "--rps", "1"], 2);
    assert!(text.starts_with("error: there is no Canary in these files\n  help: "), "{text}");
    let text = told(&["plan", &two, "--rps", "1"], 2);
    assert_eq!(
        text,
        "error: there are several Canaries in these files\n  help: say which with `--name`: `first`, `second`\n"
    );
    let text = told(&["simulate", &two, "--rps", "1", "--name", "third"], 2);
    assert_eq!(text, "error: there is no Canary `third` in these files\n  help: there are `first`, `second`\n");
    assert_eq!(json(&["plan", &two, "--rps", "1", "--name", "second"], 0)["release"], "second");
    let broken = file("broken.yaml", &(config.clone() + &canary("first").replace("canary: v2", "canary: v3")));
    assert!(told(&["plan", &broken, "--rps", "1"], 1).contains("this configuration is refused"));
    assert!(
        told(&["plan", &two, "--name", "first", "--rps", "1", "--slower-than", "10h"], 2).contains("help: at most")
    );

    for (rps, more) in [("0", &[][..]), ("-1", &[]), ("1", &["--v2-errors", "101%"]), ("1", &["--runs", "0"])] {
        told(&[&["simulate", EXAMPLE, &format!("--rps={rps}")], more].concat(), 2);
    }
    told(&["simulate", EXAMPLE], 2);
    told(&["simulate", "--rps", "1"], 2);
    told(&["simulate", EXAMPLE, "--from", "access.json", "--rps", "1"], 2);

    let from = |log: &str| told(&["simulate", EXAMPLE, "--from", log], 2);
    assert!(from("/no/such/file").contains("cannot read /no/such/file: "));
    let line = r#"{"time":"2026-11-25T10:00:00Z","duration_ms":1,"upstream_ms":1,"version":"v9","attempts":1}"#;
    let text = from(&file("older.json", &format!("{line}\n")));
    assert!(text.contains("no line is of a JSON access log of serin\n  line 1: no field `route`\n  help: "), "{text}");
    let line = line.replace('}', r#","route":"product-service-vs/0","share":1,"first_failed":false}"#);
    let text = from(&file("other.json", &line));
    assert!(text.contains("no line is of the route `product-service-vs/0` and the version `v1` or `v2`"), "{text}");
    let text = from(&file("before.json", &line.replace("v9", "v1")));
    assert!(text.contains("no request was drawn while `v2` had a share"), "{text}");
    assert!(from(&file("empty.json", "")).contains("it is empty"));
    let text = told(&["simulate", "--from", &file("log.json", &line)], 2);
    assert!(text.contains("is no report, and no PATH says which release to replay"), "{text}");
}

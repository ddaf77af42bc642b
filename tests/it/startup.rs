//! Starting: what cannot work is said at once, with what to do about it; and bad input harms no proxy that runs.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use super::support::client::request;
use super::support::config::Config;
use super::support::proxy::{Proxy, said, serin};
use super::support::upstream::{Refusing, Upstream};
use super::support::{eventually, is_share};

/// A refusal that takes longer hangs, whatever the file holds; on a machine of its own it takes at most two seconds.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Runs `serin run` where it must refuse to start.
fn refused(arguments: &[&str], folder: &Path) -> String {
    let since = Instant::now();
    let output: Output = serin()
        .arg("run")
        .args(arguments)
        .args(["--admin", "127.0.0.1:0"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(since.elapsed() < AT_ONCE, "it took {:?}", since.elapsed());
    assert!(text.contains("error"), "{text}");
    text
}

fn folder_with(name: &str, content: impl AsRef<[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(name), content).unwrap();
    folder
}

fn canary(upstreams: &[Upstream; 2]) -> Config {
    Config::default().version("v1", 90, &[upstreams[0].port]).version("v2", 10, &[upstreams[1].port])
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let folder = folder_with("config.yaml", Config::single(&[9]).yaml());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = refused(&["config.yaml", "--listen", &address], folder.path());
    assert!(text.contains(&address) && text.contains("choose another port with --listen"), "{text}");

    let output = serin()
        .args(["run", "config.yaml", "--listen", "127.0.0.1:0", "--admin", &address])
        .current_dir(&folder)
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains(&address) && text.contains("choose another port with --admin"), "{text}");
}

/// Not even a second proxy, whose sockets would share the port.
#[test]
fn a_second_proxy_does_not_share_the_port_of_the_first() {
    let upstream = Upstream::named("v1");
    let first = Proxy::start(&Config::single(&[upstream.port]));
    let folder = folder_with("config.yaml", Config::single(&[upstream.port]).yaml());
    let text = refused(&["config.yaml", "--listen", &first.listen.to_string()], folder.path());
    assert!(text.contains(&first.listen.to_string()), "{text}");
    assert_eq!(first.client().get("/").status(), 200);
}

#[test]
fn a_configuration_that_is_missing_or_invalid_is_refused_with_its_place() {
    let folder = folder_with("config.yaml", Config::single(&[9]).yaml().replace("weight: 100", "weight: -1"));
    let listen = ["--listen", "127.0.0.1:0"];
    let text = refused(&["elsewhere.yaml", listen[0], listen[1]], folder.path());
    assert!(text.contains("elsewhere.yaml"), "{text}");
    let text = refused(&["config.yaml", listen[0], listen[1]], folder.path());
    assert!(text.contains("config.yaml:11:19") && text.contains("weight: -1"), "{text}");
    fs::write(folder.path().join("config.yaml"), "a: [b\nc").unwrap();
    let text = refused(&["config.yaml", listen[0], listen[1]], folder.path());
    assert!(text.contains("config.yaml:2:"), "{text}");
    let empty = tempfile::tempdir().unwrap();
    refused(&[".", listen[0], listen[1]], empty.path());
}

#[test]
fn a_proxy_may_wait_for_its_configuration() {
    let upstream = Upstream::named("v1");
    let folder = folder_with("config.yaml", "nothing: [valid");
    let path = folder.path().to_owned();
    let proxy = Proxy::spawn(folder, serin().arg("run").arg(path).arg("--wait-for-config"));
    assert_eq!(proxy.ask("GET", "/ready").0, 503);
    assert_eq!(proxy.ask("GET", "/live").0, 200);
    let mut client = proxy.client();
    assert_eq!(client.get("/").status(), 404);
    proxy.save_by_rename(&Config::single(&[upstream.port]).yaml());
    eventually("it is ready", || proxy.ask("GET", "/ready").0 == 200);
    assert_eq!(client.get("/").text(), "v1");
}

#[test]
fn a_proxy_may_run_without_a_file() {
    let upstreams = [Upstream::named("v1"), Upstream::named("v2")];
    let proxy = Proxy::spawn(
        tempfile::tempdir().unwrap(),
        serin()
            .args(["run", "--upstream", &format!("v1=localhost:{}", upstreams[0].port)])
            .args(["--upstream", &format!("v2=127.0.0.1:{}", upstreams[1].port)])
            .args(["--split", "v1=70,v2=30"]),
    );
    let mut client = proxy.client();
    let answers = (0..1_000).map(|_| client.get("/").head.get("x-version").to_owned());
    let second = answers.filter(|version| version == "v2").count();
    assert!(is_share(second, 1_000, 0.3), "{second} of 1000 at 30 %");
    assert_eq!(proxy.requests(&[("version", "v2")]), second as f64);
}

#[test]
fn what_runs_without_a_file_can_be_written_to_one() {
    let upstreams = [Upstream::named("v1"), Upstream::named("v2")];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let proxy = Proxy::spawn(
        folder,
        serin()
            .args(["run", "--upstream", &format!("v1=127.0.0.1:{}", upstreams[0].port)])
            .args(["--upstream", &format!("v2=127.0.0.1:{}", upstreams[1].port)])
            .args(["--split", "v1=100,v2=0", "--write"])
            .arg(&path),
    );
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "v1");
    let check = serin().arg("check").arg(&path).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
    let edit = serin().arg("set-weight").arg(&path).args(["v1=0", "v2=100"]).output().unwrap();
    assert_eq!(edit.status.code(), Some(0), "{}", said(&edit));
    eventually("the file is watched", || proxy.generation() == 2);
    assert_eq!(client.get("/").text(), "v2");
}

#[test]
fn an_endpoint_that_is_down_is_named_with_its_version_and_line() {
    let down = Refusing::new();
    let proxy = Proxy::start(&Config::single(&[down.port]));
    let mut client = proxy.client();
    client.send(request("GET", "/", b""));
    assert_eq!(client.answer().unwrap().status(), 503);
    let log = proxy.log();
    let place = format!("{}:", proxy.path("config.yaml").display());
    for part in ["product-service v1", &format!("127.0.0.1:{}", down.port), "refused", &place] {
        assert!(log.contains(part), "{part:?} in {log}");
    }
}

/// Nine levels of nine aliases each.
fn alias_bomb() -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(",");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    text
}

/// Files that nobody means, each with a name.
fn bad_files() -> Vec<(&'static str, Vec<u8>)> {
    let good = Config::single(&[9]).yaml();
    vec![
        ("an alias bomb", alias_bomb().into_bytes()),
        ("deep nesting", "[".repeat(100_000).into_bytes()),
        ("a long key", format!("{}: 1\n", "k".repeat(2 << 20)).into_bytes()),
        ("truncated YAML", good.as_bytes()[..good.len() / 3].to_vec()),
        ("garbage", (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("NUL bytes", vec![0; 4096]),
        ("nothing", Vec::new()),
        ("a hundred megabytes", "# nothing but a comment\n".repeat((100 << 20) / 24).into_bytes()),
    ]
}

#[test]
fn no_file_can_start_a_proxy_that_it_should_not() {
    for (what, bytes) in bad_files() {
        let folder = folder_with("config.yaml", bytes);
        let text = refused(&["config.yaml", "--listen", "127.0.0.1:0"], folder.path());
        assert!(text.contains("config.yaml"), "{what}: {text}");
        assert!(text.len() < 20_000, "{what}: {} bytes of errors", text.len());
    }
}

#[test]
fn no_file_can_disturb_a_proxy_that_runs() {
    let upstreams = [Upstream::named("v1"), Upstream::named("v2")];
    let config = canary(&upstreams);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let on_disk = || proxy.status()["on_disk"].clone();
    for (what, bytes) in bad_files() {
        let before = on_disk()["hash"].clone();
        let mut file = fs::File::create(proxy.path(".new")).unwrap();
        file.write_all(&bytes).unwrap();
        fs::rename(proxy.path(".new"), proxy.path("config.yaml")).unwrap();
        eventually(&format!("{what} is refused"), || {
            assert_eq!(client.get("/").status(), 200, "{what}");
            let on_disk = on_disk();
            on_disk["state"] == "rejected" && on_disk["hash"] != before
        });
        assert_eq!((proxy.generation(), proxy.ask("GET", "/ready").0), (1, 200), "{what}");
    }
    proxy.save(&config.weights(&[0, 100]).yaml());
    eventually("the next good file is in force", || proxy.generation() == 2);
    assert_eq!(client.get("/").text(), "v2");
}

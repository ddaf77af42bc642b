//! What needs another system around the proxy: mounts, limits, a queue that overflows. User namespaces give that without
//! root; where they are switched off these tests say so and end.

use std::fs;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::config::Config;
use crate::support::eventually;
use crate::support::proxy::{Proxy, serin};
use crate::support::sandbox::sandboxed;
use crate::support::upstream::Upstream;

use super::writers;

/// A folder with the configuration, the same with other weights, and something to answer.
fn prepare() -> (TempDir, [String; 3], Upstream) {
    let upstream = Upstream::named("v1");
    let config = Config::default().version("v1", 100, &[upstream.port]).version("v2", 0, &[upstream.port]);
    let texts = [[100, 0], [50, 50], [0, 100]].map(|weights| config.weights(&weights).yaml());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("vs.yaml"), &texts[0]).unwrap();
    (folder, texts, upstream)
}

fn healthy(proxy: &Proxy) -> bool {
    proxy.metric("serin_config_watch_healthy", &[]) == 1.0
}

#[test]
fn without_inotify_the_poll_carries_on() {
    let (folder, texts, _upstream) = prepare();
    let path = folder.path().join("vs.yaml");
    let setup = "echo 0 >/proc/sys/user/max_inotify_instances";
    let Some(mut command) = sandboxed(setup, &path.display().to_string()) else { return };
    let proxy = Proxy::spawn(folder, &mut command);
    eventually("it says so", || !healthy(&proxy) && proxy.log().contains("no file watcher to be had"));
    for (generation, text) in (2..).zip(&texts[1..]) {
        writers::in_place(&path, text);
        eventually("the poll finds it", || proxy.generation() == generation);
    }
    assert_eq!(proxy.metric("serin_config_reloads_total", &[("result", "applied"), ("trigger", "poll")]), 2.0);
}

#[test]
fn a_single_mounted_file_is_seen_until_it_is_replaced() {
    let (folder, texts, _upstream) = prepare();
    let root = folder.path().to_owned();
    fs::create_dir(root.join("mounted")).unwrap();
    fs::write(root.join("mounted/vs.yaml"), "").unwrap();
    let mounted = root.join("mounted/vs.yaml").display().to_string();
    let setup = format!("mount --bind {} {mounted}", root.join("vs.yaml").display());
    let Some(mut command) = sandboxed(&setup, &mounted) else { return };
    let proxy = Proxy::spawn(folder, &mut command);
    assert!(healthy(&proxy));
    writers::in_place(&root.join("vs.yaml"), &texts[1]);
    eventually("an edit in place is seen", || proxy.generation() == 2);
    assert_eq!(proxy.metric("serin_config_reloads_total", &[("result", "applied"), ("trigger", "watch")]), 1.0);

    writers::rename(&root.join("vs.yaml"), &texts[2]);
    eventually("the replacement is told", || !healthy(&proxy));
    let warnings = || proxy.log().matches("mount the folder it is in").count();
    eventually("the remedy is told", || warnings() == 1);
    assert_eq!((proxy.ask("POST", "/config/reload").0, proxy.generation(), warnings()), (200, 2, 1));
}

#[test]
fn a_queue_that_overflowed_loses_no_change() {
    let (folder, texts, _upstream) = prepare();
    let path = folder.path().join("vs.yaml");
    let proxy = Proxy::spawn(folder, serin().arg("run").arg(&path));
    proxy.signal(Signal::STOP);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Five events each; two names in turn, so that the kernel cannot merge them.
    for round in 0..limit / 5 + 100 {
        let noise = path.with_file_name(["one", "two"][round % 2]);
        fs::write(&noise, "noise").unwrap();
        fs::remove_file(noise).unwrap();
    }
    writers::rename(&path, &texts[1]);
    proxy.signal(Signal::CONT);
    eventually("what was lost is looked for", || proxy.generation() == 2);
    assert_eq!(proxy.metric("serin_config_reloads_total", &[("result", "applied"), ("trigger", "watch")]), 1.0);
    writers::rename(&path, &texts[2]);
    eventually("the new watcher sees the next change", || proxy.generation() == 3);
    assert!(healthy(&proxy));
}

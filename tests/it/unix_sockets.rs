//! Endpoints on Unix sockets, by path and by abstract name.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;

use std::io::{Read, Write};

use super::support::config::Config;
use super::support::proxy::Proxy;
use super::support::upstream::answer;

/// Answers whatever comes on a connection, once for each blank line.
fn serve(listener: UnixListener, name: &'static str) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut seen = Vec::new();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    seen.push(byte[0]);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        stream.write_all(&answer(name)).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn endpoints_on_unix_sockets_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v1.sock");
    serve(UnixListener::bind(&path).unwrap(), "v1");
    let name = format!("serin-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    serve(UnixListener::bind_addr(&address).unwrap(), "v2");
    let config = Config::default().version("v1", 50, &[1]).version("v2", 50, &[2]);
    let yaml = config
        .yaml()
        .replace("address: 127.0.0.1, ports: {http: 1}", &format!("address: 'unix://{}'", path.display()))
        .replace("address: 127.0.0.1, ports: {http: 2}", &format!("address: 'unix://@{name}'"));
    let proxy = Proxy::start(&config.weights(&[100, 0]));
    proxy.save(&yaml);
    super::support::eventually("the sockets are in force", || proxy.generation() == 2);
    let mut client = proxy.client();
    let versions: Vec<String> = (0..60).map(|_| client.get("/").head.get("x-version").to_owned()).collect();
    assert!(versions.contains(&"v1".to_owned()) && versions.contains(&"v2".to_owned()), "{versions:?}");
    assert_eq!(proxy.metric("serin_upstream_healthy", &[("endpoint", &format!("unix://{}", path.display()))]), 1.0);
}

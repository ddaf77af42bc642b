//! Connections: how many, for how long, and their end.

use super::*;

#[test]
fn silent_connections_do_not_lock_others_out() {
    let admin = Admin::start();
    let silent: Vec<_> = (0..17).map(|_| admin.connect()).collect();
    assert_eq!(admin.ask("GET /live", "").status, 200);
    drop(silent);
}

#[test]
fn the_thread_ends_with_the_process_although_a_client_stays() {
    let mut admin = Admin::start();
    let mut idle = admin.connect();
    idle.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).unwrap();
    drop(admin.stop.take());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    assert!(TcpStream::connect(admin.address).is_err());
}

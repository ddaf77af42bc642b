//! `/ready` and `/live`.

use super::*;

#[test]
fn readiness_follows_the_process_and_liveness_does_not() {
    let admin = Admin::start();
    for (state, status) in [(0, 503), (1, 200), (2, 503)] {
        admin.readiness.store(state, SeqCst);
        assert_eq!(admin.ask("GET /ready", "").status, status);
        assert_eq!(admin.ask("GET /live", "").status, 200);
    }
}

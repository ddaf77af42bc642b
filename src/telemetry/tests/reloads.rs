//! Reloads and snapshots as a scraper sees them.

use super::*;

#[test]
fn reloads_and_snapshots() {
    let metrics = Metrics::new(1, Buckets::Fine);
    let reloads = metrics.reloads();
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("serin_config_last_reload_successful", &[]), 0.0);
    assert_eq!(scrape.one("serin_config_snapshots_live", &[]), 0.0);
    assert!(scrape.find("serin_config_info", &[]).is_empty());

    let held = [reloads.snapshot(), reloads.snapshot()];
    reloads.in_force(1, "first");
    reloads.set_watch_healthy(true);
    reloads.looked(ReloadResult::Applied, ReloadTrigger::Watch, Duration::from_millis(3));
    reloads.in_force(2, "second");
    reloads.looked(ReloadResult::Rejected, ReloadTrigger::Api, Duration::from_millis(1));
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("serin_config_reloads_total", &[("result", "applied"), ("trigger", "watch")]), 1.0);
    assert_eq!(scrape.one("serin_config_reloads_total", &[("result", "rejected"), ("trigger", "api")]), 1.0);
    assert_eq!(scrape.sum("serin_config_reloads_total", &[]), 2.0);
    assert_eq!(scrape.one("serin_config_last_reload_successful", &[]), 0.0);
    assert!(scrape.one("serin_config_last_reload_success_timestamp_seconds", &[]) > 1.7e9);
    assert_eq!(scrape.one("serin_config_generation", &[]), 2.0);
    assert_eq!(scrape.one("serin_config_info", &[("hash", "second")]), 1.0);
    assert_eq!(scrape.one("serin_config_snapshots_live", &[]), 2.0);
    assert_eq!(scrape.one("serin_config_watch_healthy", &[]), 1.0);
    assert_eq!(scrape.one("serin_config_reload_duration_seconds_count", &[]), 2.0);

    drop(held);
    reloads.looked(ReloadResult::Unchanged, ReloadTrigger::Poll, Duration::ZERO);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.one("serin_config_snapshots_live", &[]), 0.0);
    assert_eq!(scrape.one("serin_config_last_reload_successful", &[]), 1.0, "what is on disk is in force again");
}

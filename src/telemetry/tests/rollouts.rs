//! The releases as a scraper sees them.

use super::*;

#[test]
fn a_release_is_shown_in_one_state_of_all_there_are() {
    let (metrics, _) = canary();
    assert!(!metrics.render().contains("serin_rollout"), "nothing without a release");
    let evidence =
        EvidenceGauges { test: "error", ln_ratio: 1e4_f64.ln(), ln_guard: 0.1_f64.ln(), ln_limit: 200_f64.ln() };
    let gauges = |name: &str, state| RolloutGauges {
        name: name.to_owned(),
        state,
        step: 2,
        declared: 0.0,
        effective: 0.3,
        evidence: vec![evidence.clone()],
    };
    metrics.rollouts().set(vec![gauges("b\"\n", "held"), gauges("a", "promoted")]);
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.types["serin_rollout_state"], "gauge");
    for (rollout, current) in [("a", "promoted"), ("b\"\n", "held")] {
        for state in ROLLOUT_STATES {
            let value = scrape.one("serin_rollout_state", &[("rollout", rollout), ("state", state)]);
            assert_eq!(value, f64::from(u8::from(state == current)), "{rollout} {state}");
        }
    }
    assert_eq!(scrape.one("serin_rollout_step", &[("rollout", "a")]), 2.0);
    assert_eq!(scrape.one("serin_rollout_weight", &[("rollout", "a"), ("source", "declared")]), 0.0);
    assert_eq!(scrape.one("serin_rollout_weight", &[("rollout", "a"), ("source", "effective")]), 0.3);
    let evidence =
        |against| scrape.one("serin_rollout_evidence", &[("rollout", "a"), ("test", "error"), ("against", against)]);
    assert!((evidence("stable") - 4.0).abs() < 1e-12 && (evidence("floor") + 1.0).abs() < 1e-12);
    let limit = scrape.one("serin_rollout_evidence_limit", &[("rollout", "a"), ("test", "error")]);
    assert!((limit - 200_f64.log10()).abs() < 1e-12, "{limit}");
    metrics.rollouts().set(Vec::new());
    assert!(!metrics.render().contains("serin_rollout"));
}

#[test]
fn the_moves_of_releases_are_counted_up_to_the_cap() {
    let (metrics, _) = canary();
    let rollback = || metrics.rollouts().moved("shop", "held", "rolledBack", "errors");
    rollback();
    rollback();
    let labels = [("rollout", "shop"), ("from", "held"), ("to", "rolledBack"), ("reason", "errors")];
    assert_eq!(Scrape::of(&metrics).one("serin_rollout_transitions_total", &labels), 2.0);
    for name in 0..LABEL_SETS {
        metrics.rollouts().moved(&name.to_string(), "idle", "warming", "started");
    }
    rollback();
    let scrape = Scrape::of(&metrics);
    assert_eq!(scrape.types["serin_rollout_transitions_total"], "counter");
    assert_eq!(scrape.sets("serin_rollout_transitions_total"), LABEL_SETS);
    assert_eq!(scrape.sum("serin_rollout_transitions_total", &[]), 3.0 + LABEL_SETS as f64);
    assert_eq!(scrape.one("serin_rollout_transitions_total", &[("rollout", OTHER), ("reason", OTHER)]), 2.0);
    assert_eq!(scrape.one("serin_metrics_dropped_labelsets_total", &[]), 2.0);
}

//! `/`: the list of resources, for a person who followed the port.

/// Plain text.
pub(super) async fn index() -> &'static str {
    concat!(
        "serin ",
        env!("CARGO_PKG_VERSION"),
        "\n\n",
        "GET  /metrics         Prometheus metrics\n",
        "GET  /ready           200 while taking traffic, 503 before that and while draining\n",
        "GET  /live            200 while the process answers\n",
        "GET  /api/v1/versions        what every version did since the start; ?since=reset: since the last reset\n",
        "POST /api/v1/versions/reset  answers what was since the last reset, and begins anew\n",
        "GET  /config/status   the configuration in force, and what is wrong with the one on disk\n",
        "GET  /config/dump     the configuration in force in full\n",
        "POST /config/reload   look at the configuration now: 200 with the generation, 422 with what is wrong\n",
    )
}

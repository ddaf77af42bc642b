//! Values for tests.

use std::time::Duration;

use super::plan::{Analysis, Mode, Plan, Step};

/// A plan of three steps that judges failures only.
pub(crate) fn plan() -> Plan {
    Plan {
        name: "shop".to_owned(),
        virtual_service: "shop-vs".to_owned(),
        route: "main".to_owned(),
        stable: "v1".to_owned(),
        canary: "v2".to_owned(),
        steps: [10, 30, 100].into_iter().map(Step::new).collect(),
        analysis: Analysis::default(),
        mode: Mode::Run,
        latency_edges: [100, 200, 300, 400, 1000].into_iter().map(Duration::from_millis).collect(),
    }
}

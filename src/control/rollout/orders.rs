//! From what a configuration says of releases to what this process runs.

use super::{Latency, Order, RuleAddress, Start, WebhookOrder};
use crate::config::load::Loaded;
use crate::config::release::{self, LATENCY_EDGES, Release, releases};
use crate::config::resource::canary;
use crate::rollout::{Analysis, Mode, OnFileChange, OnInconclusive, Plan, Step};

/// What a configuration that is valid orders.
pub fn orders(loaded: &Loaded) -> Vec<Order> {
    releases(&loaded.resources, &loaded.sources).into_iter().map(order).collect()
}

/// What this process runs for one release of a configuration.
pub fn order(release: Release) -> Order {
    let name = match release.namespace.as_str() {
        "default" => release.name.clone(),
        other => format!("{other}/{}", release.name),
    };
    let latency = match release.analysis.latency {
        release::Latency::Auto => Latency::Auto,
        release::Latency::Edge(edge) => Latency::Fixed(edge),
        release::Latency::Off => Latency::Off,
    };
    let webhooks = release.webhooks.iter().map(webhook).collect();
    Order {
        plan: plan(&release, &name),
        name,
        latency,
        rule: RuleAddress {
            namespace: release.route.namespace,
            virtual_service: release.route.virtual_service,
            number: release.route.rule,
        },
        stable: release.stable.position,
        canary: release.canary.position,
        declared: release.declared,
        start: match release.start {
            canary::Start::Manual => Start::Manual,
            canary::Start::OnSubset => Start::OnSubset,
        },
        shield: release.shield,
        gates: release.analysis.gates,
        webhooks,
    }
}

/// The plan as far as a file can say it: what is slow is found when the release begins.
fn plan(release: &Release, name: &str) -> Plan {
    let step = |step: &release::Step| Step {
        min_duration: step.min_duration,
        min_requests: step.min_requests.into(),
        approve: step.approve,
        soak: step.soak,
        ..Step::new(step.weight)
    };
    let analysis = &release.analysis;
    Plan {
        name: name.to_owned(),
        virtual_service: release.route.virtual_service.clone(),
        route: release.route.label.clone(),
        stable: release.stable.subset.clone(),
        canary: release.canary.subset.clone(),
        steps: release.steps.iter().map(step).collect(),
        analysis: Analysis {
            false_rollback_rate: analysis.false_rollback_rate,
            tolerance: analysis.tolerance,
            max_error_rate: analysis.max_error_rate,
            slower_than: None,
            warm_up: analysis.warm_up,
            max_step_duration: analysis.max_step_duration,
            on_inconclusive: match analysis.on_inconclusive {
                canary::OnInconclusive::Hold => OnInconclusive::Hold,
                canary::OnInconclusive::Rollback => OnInconclusive::Rollback,
                canary::OnInconclusive::Advance => OnInconclusive::Advance,
            },
            on_file_change: match release.on_file_change {
                canary::OnFileChange::Adopt => OnFileChange::Adopt,
                canary::OnFileChange::Abort => OnFileChange::Abort,
            },
            gates: analysis.gates.iter().map(|gate| gate.name.clone()).collect(),
        },
        mode: match release.mode {
            canary::Mode::Run => Mode::Run,
            canary::Mode::Observe => Mode::Observe,
        },
        latency_edges: LATENCY_EDGES.to_vec(),
    }
}

fn webhook(hook: &release::Webhook) -> WebhookOrder {
    WebhookOrder {
        url: hook.url.clone(),
        events: hook.events.iter().map(|event| event.name().to_owned()).collect(),
        secret: hook.secret_file.clone(),
        timeout: hook.timeout,
        retries: hook.retries,
    }
}

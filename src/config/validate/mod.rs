//! Every rule about values and relations, applied to what was decoded. All problems are found in one pass; none hides another.
//! It judges resources and says what it finds; it changes nothing and reads nothing else.

mod analysis;
mod annotations;
mod canary;
mod checks;
mod client_tls;
mod conflicts;
mod cors;
mod covering;
mod delegates;
mod destination_rule;
mod fault;
mod gateway;
mod gateways;
mod headers;
mod http_match;
mod http_route;
mod l4_route;
mod load_balancer;
mod merged;
mod mirror;
mod outlier;
mod protocol;
mod reachability;
mod references;
mod releases;
mod remedies;
mod report;
mod retry;
mod served;
mod server_tls;
mod service_entry;
#[cfg(test)]
mod testing;
mod traffic_policy;
mod url;
pub mod variables;
mod virtual_service;
mod visibility;
mod weights;
mod workload_entry;

use report::Report;

use crate::config::diagnostic::Diagnostic;
use crate::config::resource::Resources;
use crate::config::settings::Settings;

/// Everything that is wrong with these resources, and everything worth a warning, by place.
pub fn check(resources: &Resources, settings: &Settings) -> Vec<Diagnostic> {
    let mut report = Report::default();
    for resource in &resources.virtual_services {
        annotations::virtual_service(&mut report, &resource.metadata);
        virtual_service::check(&mut report, resource, settings.relative_weights);
    }
    for resource in &resources.destination_rules {
        annotations::other(&mut report, &resource.metadata, "DestinationRule");
        destination_rule::check(&mut report, resource);
    }
    for resource in &resources.service_entries {
        annotations::other(&mut report, &resource.metadata, "ServiceEntry");
        service_entry::check(&mut report, resource);
    }
    for resource in &resources.workload_entries {
        annotations::other(&mut report, &resource.metadata, "WorkloadEntry");
        workload_entry::check(&mut report, resource);
    }
    for resource in &resources.gateways {
        annotations::other(&mut report, &resource.metadata, "Gateway");
        gateway::check(&mut report, resource);
    }
    for resource in &resources.canaries {
        annotations::other(&mut report, &resource.metadata, "Canary");
        canary::check(&mut report, resource);
    }
    if settings.references {
        references::check(&mut report, resources, settings);
        conflicts::check(&mut report, resources);
        gateways::check(&mut report, resources);
        merged::check(&mut report, resources);
        delegates::check(&mut report, resources);
        outlier::check(&mut report, resources, settings);
        releases::check(&mut report, resources);
    }
    report.sorted()
}

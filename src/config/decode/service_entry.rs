//! `spec` of a ServiceEntry and of a WorkloadEntry, from the tree to their types.

use crate::config::place::Spanned;
use crate::config::resource::service_entry::{Location, Resolution, ServiceEntry, ServicePort, WorkloadEntry};
use crate::config::value::StringMap;

use super::object::{At, Object};
use super::out::Out;
use super::shape::{Shape, many, one, value};

pub(super) static SERVICE_ENTRY: Shape = Shape::new(
    "the `spec` of a ServiceEntry",
    &[
        value("hosts"),
        value("addresses"),
        many("ports", &SERVICE_PORT),
        value("location"),
        value("resolution"),
        many("endpoints", &WORKLOAD_ENTRY),
        one("workloadSelector", &WORKLOAD_SELECTOR),
        value("exportTo"),
        value("subjectAltNames"),
    ],
);

static SERVICE_PORT: Shape =
    Shape::new("an entry of `ports`", &[value("number"), value("protocol"), value("name"), value("targetPort")]);

static WORKLOAD_SELECTOR: Shape = Shape::new("`workloadSelector`", &[value("labels")]);

pub(super) static WORKLOAD_ENTRY: Shape = Shape::new(
    "a workload entry",
    &[
        value("address"),
        value("ports"),
        value("labels"),
        value("network"),
        value("locality"),
        value("weight"),
        value("serviceAccount"),
    ],
);

pub(super) fn service_entry(at: At<'_>, out: &mut Out) -> ServiceEntry {
    let object = Object::open(at, &SERVICE_ENTRY, out);
    let locations = [("MESH_EXTERNAL", Location::MeshExternal), ("MESH_INTERNAL", Location::MeshInternal)];
    let resolutions = [
        ("NONE", Resolution::None),
        ("STATIC", Resolution::Static),
        ("DNS", Resolution::Dns),
        ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
        ("DYNAMIC_DNS", Resolution::DynamicDns),
    ];
    ServiceEntry {
        hosts: object.strings("hosts", out),
        addresses: object.strings("addresses", out),
        ports: object.many_or_null("ports", out, service_port),
        location: object.choice("location", &locations, out),
        resolution: object.choice("resolution", &resolutions, out),
        endpoints: object.rules("endpoints", out, workload_entry),
        workload_selector: object.one("workloadSelector", out, workload_selector),
        export_to: object.strings("exportTo", out),
        subject_alt_names: object.strings("subjectAltNames", out),
        place: object.place(),
    }
}

fn service_port(at: At<'_>, out: &mut Out) -> ServicePort {
    let object = Object::open(at, &SERVICE_PORT, out);
    ServicePort {
        number: object.uint32("number", out).unwrap_or_else(|| Spanned::new(0, object.place())),
        protocol: object.string("protocol", out),
        name: object.text("name", out),
        target_port: object.uint32("targetPort", out),
        place: object.place(),
    }
}

fn workload_selector(at: At<'_>, out: &mut Out) -> Spanned<StringMap> {
    let object = Object::open(at, &WORKLOAD_SELECTOR, out);
    Spanned::new(object.string_map("labels", out), object.place())
}

pub(super) fn workload_entry(at: At<'_>, out: &mut Out) -> WorkloadEntry {
    let object = Object::open(at, &WORKLOAD_ENTRY, out);
    WorkloadEntry {
        address: object.text("address", out),
        ports: object.number_map("ports", out),
        labels: object.string_map("labels", out),
        network: object.string("network", out),
        locality: object.string("locality", out),
        weight: object.uint32("weight", out),
        service_account: object.string("serviceAccount", out),
        place: object.place(),
    }
}

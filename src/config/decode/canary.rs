//! `spec` of a Canary, from the tree to its type. No rule beyond types and names is applied here.

use crate::config::place::Spanned;
use crate::config::resource::canary::{
    Analysis, Canary, Event, Gate, Mode, OnFileChange, OnInconclusive, Secret, SlowerThan, Soak, Start, Step, Webhook,
};
use crate::config::yaml::{Data, Node};

use super::object::{At, Object};
use super::out::Out;
use super::scalar::{self, Wrong};
use super::shape::{Shape, many, nearest, one, own, value};

pub(super) static CANARY: Shape = own(
    "the `spec` of a Canary",
    &[
        value("virtualService"),
        value("route"),
        value("stable"),
        value("canary"),
        many("steps", &STEP),
        one("analysis", &ANALYSIS),
        value("mode"),
        value("start"),
        value("onFileChange"),
        value("shield"),
        one("soak", &SOAK),
        many("webhooks", &WEBHOOK),
    ],
);

static STEP: Shape =
    own("an entry of `steps`", &[value("weight"), value("minDuration"), value("minRequests"), value("approve")]);

static ANALYSIS: Shape = own(
    "`analysis`",
    &[
        value("falseRollbackRate"),
        value("tolerance"),
        value("maxErrorRate"),
        one("latency", &LATENCY),
        value("minDuration"),
        value("minRequests"),
        value("warmUp"),
        value("maxStepDuration"),
        value("onInconclusive"),
        many("prometheus", &GATE),
    ],
);

static LATENCY: Shape = own("`latency`", &[value("slowerThan")]);

static GATE: Shape = own(
    "an entry of `prometheus`",
    &[value("name"), value("address"), value("query"), value("max"), value("min"), value("interval")],
);

static SOAK: Shape = own("`soak`", &[value("weight"), value("duration")]);

static WEBHOOK: Shape = own(
    "an entry of `webhooks`",
    &[value("url"), value("events"), one("secret", &SECRET), value("timeout"), value("retries")],
);

static SECRET: Shape = own("`secret`", &[value("file")]);

pub(super) fn canary(at: At<'_>, out: &mut Out) -> Canary {
    let object = Object::open(at, &CANARY, out);
    Canary {
        virtual_service: object.text("virtualService", out),
        route: object.string("route", out),
        stable: object.text("stable", out),
        canary: object.text("canary", out),
        steps: object.many("steps", out, step),
        analysis: object.one("analysis", out, analysis).unwrap_or_default(),
        mode: object.choice("mode", &Mode::NAMES, out),
        start: object.choice("start", &Start::NAMES, out),
        on_file_change: object.choice("onFileChange", &OnFileChange::NAMES, out),
        shield: object.boolean("shield", out),
        soak: object.one("soak", out, soak),
        webhooks: object.many("webhooks", out, webhook),
        place: object.place(),
    }
}

/// `30`, or `{weight: 30, …}`.
fn step(at: At<'_>, out: &mut Out) -> Step {
    if let (Data::Scalar { .. }, false) = (&at.node.data, at.node.is_null()) {
        return Step { weight: shorthand(at, out), place: at.place, ..Step::default() };
    }
    let object = Object::open(at, &STEP, out);
    Step {
        weight: object.int32("weight", out),
        min_duration: object.duration("minDuration", out),
        min_requests: object.int32("minRequests", out),
        approve: object.boolean("approve", out),
        place: object.place(),
    }
}

fn shorthand(at: At<'_>, out: &mut Out) -> Option<Spanned<i64>> {
    let (mut wrong, usable) = match scalar::whole(at.node, "step", (i64::from(i32::MIN), i64::from(i32::MAX))) {
        Ok(number) => return Some(Spanned::new(number, at.node.place)),
        Err(wrong) => wrong,
    };
    wrong.message = wrong.message.replacen("`step`", "an entry of `steps`", 1);
    wrong.help = Some("write weights such as `[10, 30, 50, 100]`, or `{weight: 10, approve: true}`".to_owned());
    out.wrong(at.place, at.node.place, wrong);
    usable.map(|number| Spanned::new(number, at.node.place))
}

fn analysis(at: At<'_>, out: &mut Out) -> Analysis {
    let object = Object::open(at, &ANALYSIS, out);
    Analysis {
        false_rollback_rate: object.scalar("falseRollbackRate", out, scalar::percentage),
        tolerance: object.double("tolerance", out),
        max_error_rate: object.scalar("maxErrorRate", out, scalar::percentage),
        slower_than: object.one("latency", out, latency).flatten(),
        min_duration: object.duration("minDuration", out),
        min_requests: object.int32("minRequests", out),
        warm_up: object.duration("warmUp", out),
        max_step_duration: object.duration("maxStepDuration", out),
        on_inconclusive: object.choice("onInconclusive", &OnInconclusive::NAMES, out),
        prometheus: object.many("prometheus", out, gate),
    }
}

fn latency(at: At<'_>, out: &mut Out) -> Option<Spanned<SlowerThan>> {
    Object::open(at, &LATENCY, out).scalar("slowerThan", out, slower_than)
}

fn slower_than(node: &Node<'_>, name: &str) -> Result<SlowerThan, Wrong> {
    let Data::Scalar { text, .. } = &node.data else {
        return scalar::duration(node, name).map(SlowerThan::Time);
    };
    match &**text {
        "auto" => Ok(SlowerThan::Auto),
        "off" => Ok(SlowerThan::Off),
        other => scalar::duration(node, name).map(SlowerThan::Time).map_err(|mut wrong| {
            let begins = other.starts_with(|first: char| first.is_ascii_digit());
            let near = nearest(other, ["auto", "off"].into_iter()).filter(|_| !begins);
            wrong.message = wrong.message.replacen("must be a duration", "must be `auto`, `off` or a duration", 1);
            wrong.help = near.map(|near| format!("did you mean `{near}`?")).or(wrong.help);
            wrong
        }),
    }
}

fn gate(at: At<'_>, out: &mut Out) -> Gate {
    let object = Object::open(at, &GATE, out);
    Gate {
        name: object.text("name", out),
        address: object.text("address", out),
        query: object.text("query", out),
        max: object.double("max", out),
        min: object.double("min", out),
        interval: object.duration("interval", out),
        place: object.place(),
    }
}

fn soak(at: At<'_>, out: &mut Out) -> Soak {
    let object = Object::open(at, &SOAK, out);
    Soak { weight: object.int32("weight", out), duration: object.duration("duration", out), place: object.place() }
}

fn webhook(at: At<'_>, out: &mut Out) -> Webhook {
    let object = Object::open(at, &WEBHOOK, out);
    Webhook {
        url: object.text("url", out),
        events: events(&object, out),
        secret: object.one("secret", out, secret),
        timeout: object.duration("timeout", out),
        retries: object.int32("retries", out),
        place: object.place(),
    }
}

/// None when absent, and when one of them is misspelt: that is told already.
fn events(object: &Object<'_>, out: &mut Out) -> Option<Vec<Spanned<Event>>> {
    object.field("events")?;
    let before = out.errors;
    let read = object.choices("events", &Event::NAMES, out);
    (out.errors == before).then_some(read)
}

fn secret(at: At<'_>, out: &mut Out) -> Secret {
    let object = Object::open(at, &SECRET, out);
    Secret { file: object.text("file", out), place: object.place() }
}

//! `fault` of an HTTP rule.

use super::checks;
use super::report::{Report, missing, no_effect, unsupported, wrong};
use crate::config::names;
use crate::config::resource::virtual_service::{FaultAbort, FaultDelay, HttpFault};
use crate::config::value::{GRPC_STATUSES, Percent};

/// The smallest percentage above 0: one in a million.
const SMALLEST: f64 = 0.0001;

/// Checks the faults that a rule injects.
pub(super) fn check(report: &mut Report, fault: Option<&HttpFault>) {
    let Some(fault) = fault else { return };
    if fault.delay.is_none() && fault.abort.is_none() {
        report.add(missing(fault.place, "a fault needs a `delay` or an `abort`"));
    }
    if let Some(delay) = &fault.delay {
        check_delay(report, delay);
    }
    if let Some(abort) = &fault.abort {
        check_abort(report, abort);
    }
}

fn check_delay(report: &mut Report, delay: &FaultDelay) {
    percentage(report, delay.percentage.as_ref());
    checks::whole_percent(report, "percent", delay.percent.as_ref());
    if let Some(fixed) = &delay.fixed_delay {
        checks::duration(report, fixed);
    }
    if let Some(exponential) = &delay.exponential_delay {
        checks::duration(report, exponential);
        report.add(unsupported(exponential.place, "`exponentialDelay` is not supported").help("use `fixedDelay`"));
    } else if delay.fixed_delay.is_none() {
        report.add(no_effect(delay.place, "the delay has no effect without `fixedDelay`"));
    }
    if delay.percentage.is_none() && delay.percent.is_none() {
        report.add(nothing(delay.place, "delay"));
    }
}

fn check_abort(report: &mut Report, abort: &FaultAbort) {
    percentage(report, abort.percentage.as_ref());
    if let Some(status) = abort.http_status.as_ref().filter(|status| !(200..=600).contains(&status.value)) {
        report.wrong(status.place, format!("the status {} is not between 200 and 599", status.value));
    }
    if let Some(status) = abort.grpc_status.as_ref().filter(|status| !GRPC_STATUSES.contains(&status.as_str())) {
        let found = wrong(status.place, format!("`{}` is no gRPC status", status.value));
        report.add(match names::nearest(status, GRPC_STATUSES) {
            Some(meant) => found.help(format!("did you mean `{meant}`?")),
            None => found.help(format!("one of {}", GRPC_STATUSES.join(", "))),
        });
    }
    if let Some(error) = &abort.http2_error {
        report.add(unsupported(error.place, "`http2Error` is not supported").help("use `httpStatus` or `grpcStatus`"));
    }
    if abort.http_status.is_none() && abort.grpc_status.is_none() && abort.http2_error.is_none() {
        report.add(no_effect(abort.place, "the abort has no effect without `httpStatus` or `grpcStatus`"));
    }
    if abort.percentage.is_none() {
        report.add(nothing(abort.place, "abort"));
    }
}

fn percentage(report: &mut Report, percentage: Option<&Percent>) {
    let Some(percentage) = percentage else { return };
    checks::percent(report, "percentage", percentage);
    if percentage.value > 0.0 && percentage.value < SMALLEST {
        report.wrong(percentage.place, format!("`percentage` is {}, below the smallest, {SMALLEST}", percentage.value));
    }
}

fn nothing(place: crate::config::place::Place, what: &str) -> crate::config::diagnostic::Diagnostic {
    no_effect(place, format!("the {what} has no effect: without `percentage` it is injected into 0 % of requests"))
        .help("write `percentage: {value: 100}`")
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::{each_rule_fails, rule, warnings};

    #[test]
    fn faults_are_possible() {
        each_rule_fails(&[
            ("    fault: {}", "needs a `delay` or an `abort`"),
            ("    fault: {abort: {httpStatus: 199}}", "between 200 and 599"),
            ("    fault: {abort: {httpStatus: 500, percentage: {value: 100.1}}}", "not between 0 and 100"),
            ("    fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}", "below the smallest"),
            ("    fault: {abort: {grpcStatus: UNAVAILABEL}}", "is no gRPC status"),
            ("    fault: {abort: {http2Error: CANCEL}}", "not supported"),
            ("    fault: {delay: {exponentialDelay: 1s}}", "not supported"),
            ("    fault: {delay: {fixedDelay: 0s}}", "at least 1ms"),
        ]);
        assert!(
            rule("    fault: {abort: {httpStatus: 600, percentage: {value: 0.0001}}, delay: {fixedDelay: 5s}}")
                .is_empty()
        );
    }

    #[test]
    fn a_fault_that_never_happens_is_said_to_do_nothing() {
        let spec = |fault: &str| {
            format!("  hosts: [a]\n  http:\n  - route: [{{destination: {{host: b}}}}]\n    fault: {fault}")
        };
        assert_eq!(warnings("VirtualService", &spec("{abort: {httpStatus: 500}}")).len(), 1);
        assert_eq!(warnings("VirtualService", &spec("{delay: {percentage: {value: 1}}}")).len(), 1);
        assert!(warnings("VirtualService", &spec("{abort: {httpStatus: 500, percentage: {}}}")).is_empty());
    }
}

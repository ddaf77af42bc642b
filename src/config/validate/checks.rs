//! Rules for single values that several resources share.

use std::time::Duration;

use super::report::{Report, wrong};
use crate::config::names;
use crate::config::place::Spanned;
use crate::config::value::{Pattern, Percent, StringMap, StringMatch};

/// Longest regex that Istio takes, in bytes.
const LONGEST_REGEX: usize = 1024;

/// A port number, 1 to 65535.
pub(super) fn port(report: &mut Report, port: &Spanned<i64>) {
    if !(1..=65535).contains(&port.value) {
        report.wrong(port.place, format!("port `{}` is not between 1 and 65535", port.value));
    }
}

/// The name of a port. Whether it is one.
pub(super) fn port_name(report: &mut Report, name: &Spanned<String>) -> bool {
    let valid = names::is_label(name);
    if !valid {
        report.wrong(name.place, format!("`{}` is no port name: letters, digits and inner dashes", name.value));
    }
    valid
}

/// A time of at least 1 ms, in whole milliseconds.
pub(super) fn duration(report: &mut Report, duration: &Spanned<Duration>) {
    at_least(report, duration, "leave the field out to have its default");
}

/// The same for a time that nothing limits unless it is given.
pub(super) fn limit(report: &mut Report, duration: &Spanned<Duration>) {
    at_least(report, duration, "leave the field out to have no limit");
}

fn at_least(report: &mut Report, duration: &Spanned<Duration>, instead_of_zero: &str) {
    if duration.value < Duration::from_millis(1) {
        let found = wrong(duration.place, "the duration must be at least 1ms");
        report.add(if duration.value.is_zero() { found.help(instead_of_zero) } else { found });
    } else {
        whole_milliseconds(report, duration);
    }
}

/// A time that may be 0, in whole milliseconds.
pub(super) fn duration_or_zero(report: &mut Report, duration: &Spanned<Duration>) {
    whole_milliseconds(report, duration);
}

fn whole_milliseconds(report: &mut Report, duration: &Spanned<Duration>) {
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        report.wrong(duration.place, "the duration must be a whole number of milliseconds");
    }
}

/// A count: 0 to 2^31-1.
pub(super) fn count(report: &mut Report, name: &str, value: Option<&Spanned<i64>>) {
    let Some(value) = value else { return };
    if value.value < 0 {
        report.wrong(value.place, format!("`{name}` must not be negative"));
    } else if value.value > i64::from(i32::MAX) {
        report.wrong(value.place, format!("`{name}` is larger than {}", i32::MAX));
    }
}

/// A whole percentage.
pub(super) fn whole_percent(report: &mut Report, name: &str, value: Option<&Spanned<i64>>) {
    if let Some(value) = value.filter(|value| !(0..=100).contains(&value.value)) {
        report.wrong(value.place, format!("`{name}` is {}, not between 0 and 100", value.value));
    }
}

/// A percentage with a fraction.
pub(super) fn percent(report: &mut Report, name: &str, value: &Percent) {
    if !(0.0..=100.0).contains(&value.value) {
        report.wrong(value.place, format!("`{name}` is {}, not between 0 and 100", value.value));
    }
}

/// Labels, keys and values.
pub(super) fn labels(report: &mut Report, labels: &StringMap) {
    for (key, value) in labels {
        if let Err(reason) = names::check_label_key(key) {
            report.wrong(key.place, reason);
        }
        if let Err(reason) = names::check_label_value(value) {
            report.wrong(value.place, reason);
        }
    }
}

/// Labels that select something: no empty keys, no wildcards.
pub(super) fn selector(report: &mut Report, labels: &StringMap) {
    for (key, value) in labels {
        if key.is_empty() {
            report.wrong(key.place, "a selector cannot have an empty key");
        }
        for text in [key, value].into_iter().filter(|text| text.contains('*')) {
            report.wrong(text.place, format!("`{}`: a selector cannot have wildcards", text.value));
        }
    }
}

/// The host of a destination or of a rule: a DNS name that may begin with a wildcard.
pub(super) fn host(report: &mut Report, host: &Spanned<String>) {
    if let Err(reason) = names::check_wildcard_domain(host) {
        report.add(bad_host(host, &reason));
    }
}

/// What to say of a host that is none.
pub(super) fn bad_host(host: &Spanned<String>, reason: &str) -> crate::config::diagnostic::Diagnostic {
    let message =
        if host.is_empty() { reason.to_owned() } else { format!("`{}` is no host name: {reason}", host.value) };
    let found = wrong(host.place, message);
    match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => {
            found.help(format!("a host has no port here: write `{name}`, and the port in a field of its own"))
        }
        _ => found,
    }
}

/// An IP address, without a prefix length.
pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}

/// An IP address, with or without a prefix length.
pub(super) fn subnet(report: &mut Report, subnet: &Spanned<String>) {
    let fits = match subnet.split_once('/') {
        Some((address, length)) => match (address.parse::<std::net::IpAddr>(), length.parse::<u8>()) {
            (Ok(address), Ok(bits)) => bits <= if address.is_ipv4() { 32 } else { 128 },
            _ => false,
        },
        None => is_ip(subnet),
    };
    if !fits {
        report.wrong(subnet.place, format!("`{}` is neither an IP address nor a CIDR block", subnet.value));
    }
}

/// A Unix socket after `unix://`: an absolute path to a file, or `@name`.
pub(super) fn unix_path(report: &mut Report, written: &Spanned<String>, path: &str) {
    if path.starts_with('@') || (path.starts_with('/') && !path.ends_with('/')) {
        return;
    }
    report.wrong(written.place, format!("`{}` names no absolute path to a socket", written.value));
}

/// A string match anywhere but on a path: an empty prefix would match everything.
pub(super) fn string_match(report: &mut Report, name: &str, value: &Spanned<StringMatch>) {
    match &value.value {
        StringMatch::Prefix(prefix) if prefix.is_empty() => {
            report.add(
                wrong(value.place, format!("the prefix of `{name}` must not be empty"))
                    .help(format!("to require only that `{name}` is there, write `{{}}`")),
            );
        }
        _ => regex_match(report, name, value),
    }
}

/// A string match on a path, where an empty prefix is legal.
pub(super) fn regex_match(report: &mut Report, name: &str, value: &Spanned<StringMatch>) {
    if let StringMatch::Regex(found) = &value.value {
        pattern(report, name, &Spanned::new(found, value.place));
    }
}

fn pattern(report: &mut Report, name: &str, pattern: &Spanned<&Pattern>) {
    let compiled = pattern.value.regex.as_ref().map(|_| ()).map_err(String::as_str);
    regex(report, name, &Spanned::new(pattern.value.text.as_str(), pattern.place), compiled);
}

/// A regex: not empty, not too long, and one that compiles.
pub(super) fn regex(report: &mut Report, name: &str, text: &Spanned<&str>, compiled: Result<(), &str>) {
    if text.is_empty() {
        report.wrong(text.place, format!("the regex of `{name}` must not be empty"));
    } else if text.len() > LONGEST_REGEX {
        let message = format!("the regex of `{name}` has {} bytes, more than {LONGEST_REGEX}", text.len());
        report.wrong(text.place, message);
    } else if let Err(reason) = compiled {
        report.add(
            wrong(text.place, format!("`{}` is no regex: {reason}", text.value))
                .help("regexes are RE2: no look-around, no backreferences"),
        );
    }
}

/// Text that goes into a header or a request line as it is.
pub(super) fn printable(report: &mut Report, name: &str, text: Option<&Spanned<String>>) {
    let Some(text) = text else { return };
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        report.wrong(text.place, format!("`{name}` must not hold blanks or control characters"));
    }
}

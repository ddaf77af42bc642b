//! Names as Istio allows them: DNS labels and names, wildcards, label keys, and what of them covers what.
//! Only the shape of a name is judged here; whether it names something is the business of `validate`.

use std::borrow::Cow;

/// Longest label of a DNS name (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;
/// Longest DNS name (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 255;

/// The suffix of a Kubernetes service name, with which Istio completes short names.
const CLUSTER_SUFFIX: &str = "svc.cluster.local";

/// A host as it is compared: in lower case, without a trailing dot.
pub fn canonical(host: &str) -> Cow<'_, str> {
    let trimmed = host.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(host);
    if trimmed.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(trimmed.to_ascii_lowercase())
    } else {
        Cow::Borrowed(trimmed)
    }
}

/// What a short name (one without a dot) stands for in Kubernetes: `name.namespace.svc.cluster.local`. None for longer names.
pub fn expand(host: &str, namespace: &str) -> Option<String> {
    let host = canonical(host);
    (!host.contains(['.', '*']) && !host.is_empty()).then(|| format!("{host}.{namespace}.{CLUSTER_SUFFIX}"))
}

/// Whether a host is a pattern such as `*.example.com`.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether text is a DNS label as Istio takes it: letters of both cases, digits and inner dashes, at most 63.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= LONGEST_LABEL
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Why text is no DNS name, or nothing.
pub fn check_domain(name: &str) -> Result<(), String> {
    check_length(name)?;
    check_labels(name)
}

/// Why text is neither a DNS name nor one that begins with a wildcard (`*`, `*foo` or `*-foo` as the first label), or nothing.
pub fn check_wildcard_domain(name: &str) -> Result<(), String> {
    check_length(name)?;
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    if !is_wildcard_label(first) {
        return Err(bad_label(first));
    }
    rest.map_or(Ok(()), check_labels)
}

fn check_length(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("a host name must not be empty".to_owned()),
        length if length > LONGEST_NAME => {
            Err(format!("a host name has at most {LONGEST_NAME} characters, this one has {length}"))
        }
        _ => Ok(()),
    }
}

fn is_wildcard_label(label: &str) -> bool {
    label == "*"
        || label.strip_prefix('*').is_some_and(|rest| is_label(rest.strip_prefix('-').unwrap_or(rest)))
        || is_label(label)
}

fn check_labels(name: &str) -> Result<(), String> {
    let top = name.rsplit('.').next().unwrap_or(name);
    if !top.is_empty() && top.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the top level domain `{top}` is all digits"));
    }
    let labels = name.strip_suffix('.').unwrap_or(name);
    labels.split('.').find(|label| !is_label(label)).map_or(Ok(()), |label| Err(bad_label(label)))
}

fn bad_label(label: &str) -> String {
    if label.is_empty() {
        "a part between two dots is empty".to_owned()
    } else if label.len() > LONGEST_LABEL {
        format!("`{label}` has more than {LONGEST_LABEL} characters")
    } else if label.contains('*') {
        format!("`{label}` is not allowed: a `*` may only begin the first part")
    } else {
        format!("`{label}` is not made of letters, digits and inner dashes")
    }
}

/// Whether two hosts, each a name or a wildcard, have a name in common.
pub fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (canonical(one), canonical(other));
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(suffix), None) => other.ends_with(suffix),
        (None, Some(suffix)) => one.ends_with(suffix),
        (None, None) => one == other,
    }
}

/// Whether every name that `narrow` stands for is one that `wide` stands for.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow) = (canonical(wide), canonical(narrow));
    match (wide.strip_prefix('*'), narrow.strip_prefix('*')) {
        (Some(suffix), Some(inner)) => inner.ends_with(suffix),
        (Some(suffix), None) => narrow.ends_with(suffix),
        (None, Some(_)) => false,
        (None, None) => wide == narrow,
    }
}

/// Why text is no label key of Kubernetes (`name` or `dns.prefix/name`), or nothing.
pub fn check_label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| prefix.len() > LONGEST_NAME || !prefix.split('.').all(is_label)) {
        return Err(format!("the label key `{key}` has no DNS name before its `/`"));
    }
    if name.is_empty() || !is_qualified(name) {
        return Err(format!(
            "the label key `{key}` is not made of letters, digits and inner `-`, `_`, `.` (at most {LONGEST_LABEL})"
        ));
    }
    Ok(())
}

/// Why text is no label value of Kubernetes, or nothing.
pub fn check_label_value(value: &str) -> Result<(), String> {
    if is_qualified(value) {
        return Ok(());
    }
    Err(format!(
        "the label value `{value}` is not made of letters, digits and inner `-`, `_`, `.` (at most {LONGEST_LABEL})"
    ))
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= LONGEST_LABEL
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The candidate that was probably meant by what was typed: the nearest one, if it is near.
/// Names that differ in digits only, such as `v1` and `v2`, are meant as they are.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(typed, candidates, 1 + typed.len().min(24) / 4)
}

/// The candidate that was almost certainly meant: one slip of the pen away, or two in a long name.
pub fn misspelt<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    within(typed, candidates, if typed.len() < 8 { 1 } else { 2 })
}

fn within<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>, allowed: usize) -> Option<&'a str> {
    let letters = |text: &'a str| text.bytes().filter(|byte| !byte.is_ascii_digit());
    let versions = |candidate: &'a str| letters(candidate).eq(typed.bytes().filter(|byte| !byte.is_ascii_digit()));
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(typed.len()) <= allowed && !versions(candidate))
        // Of two at the same distance, letters that changed places are likelier than one too many.
        .map(|candidate| (strsim::osa_distance(typed, candidate), candidate.len().abs_diff(typed.len()), candidate))
        .filter(|(distance, ..)| *distance <= allowed)
        .min()
        .map(|(.., candidate)| candidate)
}

/// Whether a header says where the body of a message ends (RFC 9112 §6): only who writes the body can know it.
pub fn frames_a_body(name: &str) -> bool {
    ["content-length", "transfer-encoding"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_judged_as_istio_judges_them() {
        for good in ["a", "a.b", "istio.io.", "A-b.C9", "1.com", "x.1a"] {
            assert_eq!(check_domain(good), Ok(()), "{good}");
        }
        for bad in
            ["", "-a", "a-.b", "a..b", "a_b", "10.0.0.1", "*.a", "a b", "a:80", &"x".repeat(64), &"a.".repeat(130)]
        {
            assert!(check_domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wildcard_begins_the_first_label_only() {
        for good in ["*", "*.com", "*foo.com", "*-foo.com", "foo.com"] {
            assert_eq!(check_wildcard_domain(good), Ok(()), "{good}");
        }
        for bad in ["foo.*.com", "foo*.com", "**.com", "*..com", "*.10"] {
            assert!(check_wildcard_domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_needs_a_common_name() {
        for (one, other, wanted) in [
            ("*.foo.com", "a.foo.com", true),
            ("*.foo.com", "*.com", true),
            ("*.foo.com", "foo.com", false),
            ("*", "anything", true),
            ("a.com", "A.com.", true),
            ("*.a.com", "*.b.com", false),
        ] {
            assert_eq!(overlap(one, other), wanted, "{one} {other}");
            assert_eq!(overlap(other, one), wanted, "{other} {one}");
        }
    }

    #[test]
    fn covering_goes_one_way() {
        assert!(covers("*.com", "*.foo.com"));
        assert!(!covers("*.foo.com", "*.com"));
        assert!(!covers("a.com", "*.com"));
    }

    #[test]
    fn short_names_are_expanded_and_long_ones_are_not() {
        assert_eq!(expand("Reviews", "prod").as_deref(), Some("reviews.prod.svc.cluster.local"));
        assert_eq!(expand("reviews.prod", "prod"), None);
        assert_eq!(expand("*", "prod"), None);
    }

    #[test]
    fn label_keys_may_carry_a_dns_prefix() {
        for good in ["version", "topology.kubernetes.io/zone", "a_b.c-d", "security.istio.io/tlsMode"] {
            assert_eq!(check_label_key(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "-a", "a/b/c", "@", "a b"] {
            assert!(check_label_key(bad).is_err(), "{bad}");
        }
        assert_eq!(check_label_value(""), Ok(()));
        assert!(check_label_value("a/b").is_err());
        assert!(check_label_value(&"v".repeat(64)).is_err());
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let hosts = ["product-service", "reviews", "v1"];
        assert_eq!(nearest("prodcut-service", hosts), Some("product-service"));
        assert_eq!(nearest("vi", hosts), Some("v1"));
        assert_eq!(nearest("v2", hosts), None);
        assert_eq!(nearest("ratings-service", hosts), None);
        assert_eq!(misspelt("reveiws", hosts), Some("reviews"));
        assert_eq!(misspelt("previewss", hosts), Some("reviews"));
        assert_eq!(misspelt("review.it", hosts), None);
    }
}

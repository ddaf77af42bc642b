//! `%VAR%` in header values: Envoy's substitutions. The one list of those that Serin knows, and the grammar that Istio checks.

use super::headers::is_token;

/// A substitution that Serin knows.
struct Known {
    name: &'static str,
    argument: Argument,
    /// Whether there is a value only once the response is there.
    response_only: bool,
}

/// What stands in parentheses after a name.
#[derive(Clone, Copy)]
enum Argument {
    None,
    /// A header or a pseudo header, or two of them with a `?` between: the second is taken where the first is missing.
    RequestField,
    /// A header.
    ResponseField,
}

const fn anywhere(name: &'static str) -> Known {
    Known { name, argument: Argument::None, response_only: false }
}

const fn in_responses(name: &'static str) -> Known {
    Known { name, argument: Argument::None, response_only: true }
}

/// All of them.
const KNOWN: &[Known] = &[
    Known { name: "REQ", argument: Argument::RequestField, response_only: false },
    Known { name: "RESP", argument: Argument::ResponseField, response_only: true },
    in_responses("RESPONSE_CODE"),
    in_responses("UPSTREAM_HOST"),
    anywhere("PROTOCOL"),
    anywhere("DOWNSTREAM_REMOTE_ADDRESS"),
    anywhere("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"),
    anywhere("DOWNSTREAM_LOCAL_PORT"),
    anywhere("START_TIME"),
];

/// Fields of a request that are no headers but can be asked for like them.
const PSEUDO: [&str; 4] = [":method", ":scheme", ":authority", ":path"];

impl Argument {
    fn fits(self, written: Option<&str>) -> bool {
        let of_request = |name| is_token(name) || PSEUDO.iter().any(|pseudo| pseudo.eq_ignore_ascii_case(name));
        match (self, written) {
            (Self::None, written) => written.is_none(),
            (Self::RequestField, Some(written)) => written.splitn(2, '?').all(of_request),
            (Self::ResponseField, Some(written)) => is_token(written),
            (_, None) => false,
        }
    }
}

/// One `%NAME%` or `%NAME(argument)%` of a header value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable<'a> {
    /// As it stands between the percent signs.
    pub text: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What stands in the parentheses.
    pub argument: Option<&'a str>,
}

/// A part of a header value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Sent as it is.
    Literal(&'a str),
    /// `%%`, sent as one percent sign.
    Percent,
    /// Replaced by what it names.
    Variable(Variable<'a>),
}

impl Variable<'_> {
    /// Whether Serin knows it, in request headers or in response headers.
    pub fn is_known(&self, in_response: bool) -> bool {
        KNOWN.iter().any(|known| {
            known.name == self.name && known.argument.fits(self.argument) && (in_response || !known.response_only)
        })
    }
}

/// The parts of a header value, or what is wrong with its percent signs.
pub fn parse(value: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            pieces.push(Piece::Literal(&rest[..at]));
        }
        let after = &rest[at + 1..];
        if after.is_empty() {
            return Err("a `%` stands alone at the end".to_owned());
        }
        if let Some(behind) = after.strip_prefix('%') {
            pieces.push(Piece::Percent);
            rest = behind;
            continue;
        }
        let (variable, behind) = variable(after).ok_or_else(|| format!("`%{after}` does not end with a `%`"))?;
        pieces.push(Piece::Variable(variable));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest));
    }
    Ok(pieces)
}

/// The variable at the beginning, behind its first `%`, and what follows its last.
fn variable(text: &str) -> Option<(Variable<'_>, &str)> {
    let end = text.find(['%', '('])?;
    let name = &text[..end];
    if text.as_bytes()[end] == b'%' {
        return Some((Variable { text: name, name, argument: None }, &text[end + 1..]));
    }
    let close = end + 1 + closing(&text[end + 1..])?;
    let argument = text[end + 1..close].trim();
    let behind = text[close + 1..].trim_start_matches(' ').strip_prefix('%')?;
    Some((Variable { text: &text[..=close], name, argument: Some(argument) }, behind))
}

/// Where the `)` is that ends an argument; a backslash takes the next character with it.
fn closing(argument: &str) -> Option<usize> {
    let mut escaped = false;
    argument.bytes().position(|byte| {
        let ends = byte == b')' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str) -> Vec<&str> {
        let pieces = parse(value).unwrap();
        pieces.iter().filter_map(|piece| if let Piece::Variable(one) = piece { Some(one.name) } else { None }).collect()
    }

    #[test]
    fn literals_escapes_and_variables_are_told_apart() {
        assert_eq!(parse("50%% off").unwrap(), [Piece::Literal("50"), Piece::Percent, Piece::Literal(" off")]);
        assert_eq!(names("a %HOSTNAME% b %REQ(X-A)%"), ["HOSTNAME", "REQ"]);
        assert_eq!(names("%START_TIME(%Y/%m/%d)%"), ["START_TIME"]);
        assert_eq!(names(r#"%DYNAMIC_METADATA(["a.b", "c)"])%"#.replace("c)", "c").as_str()), ["DYNAMIC_METADATA"]);
        assert_eq!(names(r"%ENVIRONMENT(a\)b) %x"), ["ENVIRONMENT"]);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_variable_is_known_by_name_argument_and_place() {
        let known = |value: &str, in_response| matches!(parse(value).unwrap()[..], [Piece::Variable(variable)] if variable.is_known(in_response));
        assert!(known("%REQ(X-A)%", false) && known("%PROTOCOL%", true) && known("%RESP(X-A)%", true));
        assert!(!known("%REQ%", false) && !known("%PROTOCOL(x)%", false) && !known("%HOSTNAME%", true));
        assert!(!known("%RESP(X-A)%", false) && !known("%RESPONSE_CODE%", false));
        assert!(known("%REQ(:PATH)%", false) && known("%REQ(x-a?:path)%", true) && known("%UPSTREAM_HOST%", true));
        for unknown in ["%REQ()%", "%REQ(a b)%", "%REQ(:status)%", "%RESP(:path)%", "%START_TIME(%s)%"] {
            assert!(!known(unknown, true), "{unknown}");
        }
    }

    #[test]
    fn a_percent_sign_that_is_not_closed_is_refused() {
        for value in ["50%", "abc%123", "%START_TIME%%", "%REQ(x", "%REQ(x)", "%REQ(x):10%", "%%%"] {
            assert!(parse(value).is_err(), "{value}");
        }
    }
}

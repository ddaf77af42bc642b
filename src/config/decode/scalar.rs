//! What a scalar says as a boolean, a number, a duration or a name. YAML 1.2's core schema, and Go's notation of durations.

use std::borrow::Cow;
use std::time::Duration;

use crate::config::yaml::{Data, Node};

/// Why a value is not what was wanted, and what to write instead.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Wrong {
    fn new(message: String) -> Self {
        Self { message, help: None }
    }

    fn write(mut self, instead: impl std::fmt::Display) -> Self {
        self.help = Some(format!("write `{instead}`"));
        self
    }
}

/// A node in words: `the number \`1.0\``.
pub(super) fn shown(node: &Node<'_>) -> String {
    match &node.data {
        Data::List(_) => "a list".to_owned(),
        Data::Object(_) => "an object".to_owned(),
        Data::Scalar { .. } if node.is_null() => "nothing".to_owned(),
        Data::Scalar { text, plain: false } => format!("the text `\"{}\"`", short(text)),
        Data::Scalar { text, plain: true } if is_number(text) => format!("the number `{}`", short(text)),
        Data::Scalar { text, plain: true } => format!("`{}`", short(text)),
    }
}

fn short(text: &str) -> Cow<'_, str> {
    let escaped = text.chars().any(char::is_control).then(|| text.escape_debug().to_string());
    let text = escaped.map_or(Cow::Borrowed(text), Cow::Owned);
    match text.char_indices().nth(60) {
        Some((at, _)) => Cow::Owned(format!("{}…", &text[..at])),
        None => text,
    }
}

fn is_boolean(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    let begins = digits.starts_with(|c: char| c.is_ascii_digit()) || digits.starts_with('.') && digits.len() > 1;
    begins && text.len() - digits.len() <= 1 && (float(text).is_some() || integer(digits).is_some())
        || matches!(digits.to_ascii_lowercase().as_str(), ".inf" | ".nan")
}

fn float(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    number.is_finite().then_some(number)
}

/// A whole number in YAML's notations, without sign.
fn integer(digits: &str) -> Option<i128> {
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        _ => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    i128::from_str_radix(digits, radix).ok()
}

/// Text. A plain number or boolean is none: Kubernetes would refuse it too.
pub(super) fn text<'n>(node: &'n Node<'_>, name: &str) -> Result<&'n str, Wrong> {
    match &node.data {
        Data::Scalar { text, plain: false } => Ok(text),
        Data::Scalar { text, plain: true } if !node.is_null() && !is_boolean(text) && !is_number(text) => Ok(text),
        Data::Scalar { text, plain: true } if !node.is_null() => {
            let mut wrong = Wrong::new(format!("`{name}` must be text, not {}", shown(node)));
            wrong.help = Some(format!("quote it: `\"{}\"`", short(text)));
            Err(wrong)
        }
        _ => Err(Wrong::new(format!("`{name}` must be text, not {}", shown(node)))),
    }
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node<'_>, name: &str) -> Result<bool, Wrong> {
    let wrong = || Wrong::new(format!("`{name}` must be `true` or `false`, not {}", shown(node)));
    let Data::Scalar { text, plain } = &node.data else { return Err(wrong()) };
    match (&*text.to_ascii_lowercase(), plain) {
        ("true", true) if is_boolean(text) => Ok(true),
        ("false", true) if is_boolean(text) => Ok(false),
        ("true" | "yes" | "on" | "y" | "1", _) => Err(wrong().write("true")),
        ("false" | "no" | "off" | "n" | "0", _) => Err(wrong().write("false")),
        _ => Err(wrong()),
    }
}

/// A whole number between two bounds. The number may be usable even if it is written in a wrong way: then it is the second part.
pub(super) fn whole(node: &Node<'_>, name: &str, (least, most): (i64, i64)) -> Result<i64, (Wrong, Option<i64>)> {
    let wrong = || Wrong::new(format!("`{name}` must be a whole number, not {}", shown(node)));
    let Data::Scalar { text, plain } = &node.data else { return Err((wrong(), None)) };
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let Some(number) = integer(digits).or_else(|| whole_float(digits)) else {
        let per_cent = digits.strip_suffix('%').filter(|rest| integer(rest).is_some());
        return Err((per_cent.map_or_else(wrong, |rest| wrong().write(format_args!("{name}: {rest}"))), None));
    };
    let number = if text.starts_with('-') { -number } else { number };
    let usable = i64::try_from(number).ok().filter(|number| (least..=most).contains(number));
    let Some(usable) = usable else {
        let message = match (least, number < 0) {
            (0, true) => format!("`{name}` must not be negative"),
            _ => format!("`{name}` must be between {least} and {most}"),
        };
        return Err((Wrong::new(message), None));
    };
    if !plain {
        return Err((wrong().write(format_args!("{name}: {usable}")), Some(usable)));
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let mut wrong = Wrong::new(format!("`{name}: {text}` is {usable} to some programs and octal to others"));
        wrong.help = Some("write it without the leading zero".to_owned());
        return Err((wrong, Some(usable)));
    }
    Ok(usable)
}

/// `50.0` and `1e3` are whole numbers too.
#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and far below the limits of i128")]
fn whole_float(digits: &str) -> Option<i128> {
    let number = digits.starts_with(|c: char| c.is_ascii_digit()).then(|| float(digits))??;
    (number.fract() == 0.0 && number < 1e15).then_some(number as i128)
}

/// A number.
pub(super) fn double(node: &Node<'_>, name: &str) -> Result<f64, Wrong> {
    let wrong = || Wrong::new(format!("`{name}` must be a number, not {}", shown(node)));
    let Data::Scalar { text, plain } = &node.data else { return Err(wrong()) };
    let digits = text.strip_suffix('%').unwrap_or(text);
    let number = is_number(digits).then(|| float(digits)).flatten();
    match number {
        Some(number) if *plain && digits.len() == text.len() => Ok(number),
        Some(_) => Err(wrong().write(format_args!("{name}: {digits}"))),
        None => Err(wrong()),
    }
}

/// A percentage with its sign: `0.5%`, which is 0.5. Without the sign it might be meant as a share.
pub(super) fn percentage(node: &Node<'_>, name: &str) -> Result<f64, Wrong> {
    let wrong = || Wrong::new(format!("`{name}` must be a percentage such as `1%`, not {}", shown(node)));
    let Data::Scalar { text, .. } = &node.data else { return Err(wrong()) };
    let number = |digits: &str| is_number(digits).then(|| float(digits)).flatten();
    match text.strip_suffix('%').map(str::trim_end) {
        Some(digits) => number(digits).ok_or_else(wrong),
        None => Err(match number(text) {
            // A share: rounded, as 0.29 is not 29 of a hundred in binary.
            Some(share) if share > 0.0 && share < 1.0 => {
                let percent = (share * 1e12).round() / 1e10;
                let help = format!("write `{name}: {percent}%` if it is a share, `{name}: {text}%` if not");
                Wrong { help: Some(help), ..wrong() }
            }
            Some(_) => wrong().write(format_args!("{name}: {text}%")),
            None => wrong(),
        }),
    }
}

/// A duration in Go's notation.
pub(super) fn duration(node: &Node<'_>, name: &str) -> Result<Duration, Wrong> {
    let wrong = || Wrong::new(format!("`{name}` must be a duration such as `1.5s` or `250ms`, not {}", shown(node)));
    let Data::Scalar { text, plain } = &node.data else { return Err(wrong()) };
    if is_number(text) && (*plain || &**text != "0") {
        return Err(wrong().write(format_args!("{name}: {text}s")));
    }
    go_duration(text).map_err(|message| match message {
        "" => wrong(),
        message => Wrong::new(format!("`{name}`: {message}, in {}", shown(node))),
    })
}

/// The duration that text says; an empty reason where it says none at all.
pub(crate) fn go_duration(text: &str) -> Result<Duration, &'static str> {
    if text.starts_with('-') {
        return Err("a duration must not be negative");
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut sum = 0_f64;
    if rest.is_empty() {
        return Err("");
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| "")?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let nanoseconds = match &unit[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            "" => return Err("a number has no unit"),
            "d" => return Err("days are written in hours"),
            _ => return Err("the units are `h`, `m`, `s`, `ms`, `us` and `ns`"),
        };
        sum += number * nanoseconds;
        rest = &unit[end..];
    }
    if sum >= i64::MAX as f64 {
        return Err("too long, the most is 2562047h");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above, never negative")]
    Ok(Duration::from_nanos(sum.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::place::Place;

    fn node(text: &'static str, plain: bool) -> Node<'static> {
        Node { place: Place::default(), last_line: 0, data: Data::Scalar { text: text.into(), plain } }
    }

    #[test]
    fn quotes_tell_text_from_numbers() {
        for plain in ["1.0", "90", "-1", ".5", "1e3", "true", "0x1F", ".inf", "0o17"] {
            let wrong = text(&node(plain, true), "version").unwrap_err();
            assert_eq!(wrong.help.unwrap(), format!("quote it: `\"{plain}\"`"));
            assert_eq!(text(&node(plain, false), "version"), Ok(plain));
        }
        for plain in ["v1", "1.0.0", "10.0.0.1", "infinity", "nan", "yes", "-", ".", "1_000", "--1"] {
            assert_eq!(text(&node(plain, true), "version"), Ok(plain), "{plain}");
        }
    }

    #[test]
    fn booleans_of_yaml_1_1_get_help() {
        assert_eq!(boolean(&node("true", true), "x"), Ok(true));
        assert_eq!(boolean(&node("off", true), "x").unwrap_err().help.unwrap(), "write `false`");
        assert_eq!(boolean(&node("true", false), "x").unwrap_err().help.unwrap(), "write `true`");
        assert_eq!(boolean(&node("maybe", true), "x").unwrap_err().help, None);
    }

    #[test]
    fn whole_numbers_keep_to_their_bounds() {
        let bounds = (0, 100);
        assert_eq!(whole(&node("90", true), "weight", bounds).unwrap(), 90);
        assert_eq!(whole(&node("50.0", true), "weight", bounds).unwrap(), 50);
        let (wrong, usable) = whole(&node("90", false), "weight", bounds).unwrap_err();
        assert_eq!((wrong.help.unwrap().as_str(), usable), ("write `weight: 90`", Some(90)));
        for (text, message) in [
            ("-1", "`weight` must not be negative"),
            ("101", "`weight` must be between 0 and 100"),
            (
                "99999999999999999999999999999999999999999",
                "`weight` must be a whole number, not the number `99999999999999999999999999999999999999999`",
            ),
            ("33.3", "`weight` must be a whole number, not the number `33.3`"),
            ("010", "`weight: 010` is 10 to some programs and octal to others"),
        ] {
            assert_eq!(whole(&node(text, true), "weight", bounds).unwrap_err().0.message, message);
        }
    }

    #[test]
    fn percentages_have_their_sign() {
        for (text, number) in [("1%", 1.0), ("0.5%", 0.5), ("1e-2%", 0.01), ("5 %", 5.0), ("-1%", -1.0)] {
            assert_eq!(percentage(&node(text, true), "rate"), Ok(number), "{text}");
        }
        let help = |text| percentage(&node(text, true), "rate").unwrap_err().help.unwrap();
        assert_eq!(help("5"), "write `rate: 5%`");
        assert_eq!(help("0.29"), "write `rate: 29%` if it is a share, `rate: 0.29%` if not");
        for text in ["%", "a%", "1%%", ".inf%", ""] {
            assert_eq!(percentage(&node(text, false), "rate").unwrap_err().help, None, "{text}");
        }
    }

    #[test]
    fn durations_are_go_s() {
        for (text, nanoseconds) in [
            ("1h", 3_600_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            ("250ms", 250_000_000),
            ("+.5s", 500_000_000),
            ("1us", 1_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(&node(text, true), "timeout").unwrap(), Duration::from_nanos(nanoseconds), "{text}");
        }
        assert_eq!(duration(&node("5", true), "timeout").unwrap_err().help.unwrap(), "write `timeout: 5s`");
        for text in ["", "s", "1", "-1s", "1d", "1.2.3s", "abc", "1s ", "9999999999h"] {
            assert!(duration(&node(text, false), "timeout").is_err(), "{text}");
        }
    }
}

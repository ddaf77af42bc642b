//! The table of `serin test`: from YAML to requests and expectations.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::cli::offline::Ask;
use crate::config::yaml::{self, Data, Node};

/// One line of the table.
#[derive(Debug)]
pub(super) struct Case {
    /// What it is called.
    pub(super) name: String,
    /// Where it begins.
    pub(super) line: u32,
    /// The request.
    pub(super) ask: Ask,
    /// What is to become of it.
    pub(super) expect: Expect,
}

/// What is to become of a request. What is absent may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// The name of the rule, `VIRTUALSERVICE/INDEX`, or `none`.
    pub(super) rule: Option<String>,
    /// `HOST[/SUBSET][:PORT]`, or `none`.
    pub(super) destination: Option<String>,
    /// Percent that `destination` gets.
    pub(super) share: Option<f64>,
    /// Everybody who gets something, in percent.
    pub(super) destinations: Option<BTreeMap<String, f64>>,
    /// Path and query at the destination.
    pub(super) path: Option<String>,
    /// Host at the destination.
    pub(super) host: Option<String>,
    /// Headers at the destination; `None` for one that is not to be there.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Option<Text>>,
    /// The status of an answer.
    pub(super) status: Option<u16>,
    /// Where a redirect leads.
    pub(super) location: Option<String>,
    /// The body of a direct response.
    pub(super) body: Option<String>,
    /// Headers of an answer of the proxy's own.
    #[serde(default)]
    pub(super) response: BTreeMap<String, Option<Text>>,
    /// The timeout, or `none`.
    pub(super) timeout: Option<String>,
}

/// Text that may have been written as a number or a boolean.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Text(pub(super) String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    request: String,
    #[serde(default)]
    headers: BTreeMap<String, Several>,
    from: Option<IpAddr>,
    #[serde(default)]
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Several {
    One(Text),
    Many(Vec<Text>),
}

impl TryFrom<Value> for Text {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(flag) => Ok(Self(flag.to_string())),
            other => Err(format!("wanted text, not {other}")),
        }
    }
}

/// The cases of a table, or the first thing that is wrong with it: `LINE: message`.
pub(super) fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let mut wrong = None;
    let broken = yaml::read(text, 0, &mut |node| {
        let Data::List(items) = &node.data else {
            wrong.get_or_insert(format!("{}: wanted a list of cases", node.place.line));
            return;
        };
        for item in items {
            match case(item) {
                Ok(case) => cases.push(case),
                Err(message) => {
                    wrong.get_or_insert(format!("{}: {message}", item.place.line));
                }
            }
        }
    });
    if let Some(problem) = broken.first() {
        return Err(format!("{}: {}", problem.place.line, problem.message));
    }
    match wrong {
        Some(message) => Err(message),
        None if cases.is_empty() => Err("1: there are no cases".to_owned()),
        None => Ok(cases),
    }
}

fn case(node: &Node<'_>) -> Result<Case, String> {
    let written: Written = serde_json::from_value(value(node)).map_err(|error| error.to_string())?;
    let words: Vec<_> = written.request.split_whitespace().map(str::to_owned).collect();
    let mut ask = Ask::parse(&words)?;
    if let Some(from) = written.from {
        ask.from = from;
    }
    for (name, values) in &written.headers {
        let values = match values {
            Several::One(value) => std::slice::from_ref(value),
            Several::Many(values) => values,
        };
        for value in values {
            ask.header(name, &value.0)?;
        }
    }
    let name = written.name.unwrap_or(written.request);
    Ok(Case { name, line: node.place.line, ask, expect: written.expect })
}

/// The same as JSON; what is plain and looks like a number or a boolean is one.
fn value(node: &Node<'_>) -> Value {
    match &node.data {
        Data::List(items) => Value::Array(items.iter().map(value).collect()),
        Data::Object(entries) => {
            let pairs = entries.iter().map(|entry| (entry.key.to_string(), value(&entry.value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Data::Scalar { text, plain } => {
            let number = || text.parse::<i64>().ok().map(Number::from).or_else(|| Number::from_f64(text.parse().ok()?));
            match (&**text, plain) {
                _ if node.is_null() => Value::Null,
                ("true", true) => Value::Bool(true),
                ("false", true) => Value::Bool(false),
                (_, true) => number().map_or_else(|| Value::String(text.to_string()), Value::Number),
                (_, false) => Value::String(text.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_with_its_lines() {
        let cases = parse(
            "# routes\n- request: GET http://a/x\n  headers: {x-n: 1, x-l: [a, \"2\"]}\n  expect: {headers: {x-y: true, x-z: null}, share: 12.5}\n\
             - {name: second, request: /y, from: 10.0.0.1}\n",
        )
        .unwrap();
        assert_eq!(
            (cases[0].name.as_str(), cases[0].line, cases[1].name.as_str(), cases[1].line),
            ("GET http://a/x", 2, "second", 5)
        );
        assert_eq!(cases[0].ask.headers["x-n"], "1");
        assert_eq!(cases[0].ask.headers.get_all("x-l").iter().collect::<Vec<_>>(), ["a", "2"]);
        let expect = &cases[0].expect;
        assert_eq!(
            (expect.share, &expect.headers["x-y"], &expect.headers["x-z"]),
            (Some(12.5), &Some(Text("true".into())), &None)
        );
        assert_eq!(cases[1].ask.from.to_string(), "10.0.0.1");
    }

    #[test]
    fn what_is_no_table_is_refused_with_a_line() {
        for (text, wanted) in [
            ("", "1: there are no cases"),
            ("a: b", "1: wanted a list of cases"),
            ("- request: GET /\n- expect: {}", "2: missing field `request`"),
            ("- request: GET /\n  expcet: {}", "1: unknown field `expcet`"),
            ("- request: GET /\n  expect: {rul: a}", "1: unknown field `rul`"),
            ("- request: GET\n", "1: write the request as"),
            ("- request: GET /\n  headers: {a b: c}", "1: `a b` is no name"),
            ("- [", "2: did not find"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.starts_with(wanted), "{text}: {message}");
        }
    }
}

//! What an answer of Prometheus' `/api/v1/query` says about a bound. Pure.
//!
//! A scalar is one value, a vector one for each of its series, and every one of them is judged: the gate is outside if any is,
//! and inside only if all are. No series, a series without a number (NaN, a native histogram) and any other type of result are
//! no value: nothing can be said, so the gate is unreachable. NaN beside a value outside is outside.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::control::rollout::GateOrder;
use crate::rollout::{Gate, GateState};

/// How much of somebody else's words is shown, in characters.
const LONGEST_QUOTE: usize = 200;

#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Sample),
    Vector(Vec<Series>),
    Matrix(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    /// None for a native histogram.
    value: Option<Sample>,
}

/// When, and how much: a number in text, so that it can be `NaN` and `+Inf`.
#[derive(Deserialize)]
struct Sample(IgnoredAny, String);

/// A value, and how the series is called that has it.
struct Value {
    number: f64,
    series: String,
}

/// What the gate of this order says after this answer.
pub(super) fn judge(order: &GateOrder, status: StatusCode, body: &[u8]) -> Gate {
    let found = values(status, body).and_then(|(values, warning)| Ok((verdict(order, &values)?, warning)));
    let (state, value, mut detail, warning) = match found {
        Ok(((state, value, detail), warning)) => (state, Some(value), detail, warning),
        Err(reason) => (GateState::Unreachable, None, reason, None),
    };
    if let Some(warning) = warning {
        detail.push_str(&format!(" (Prometheus warns: {})", quote(&warning)));
    }
    Gate { name: order.name.clone(), state, value, detail }
}

/// The values of an answer and its first warning, or why it has none.
fn values(status: StatusCode, body: &[u8]) -> Result<(Vec<Value>, Option<String>), String> {
    let parsed = serde_json::from_slice::<Answer>(body);
    if !status.is_success() {
        return Err(match parsed {
            Ok(Answer { error: Some(error), .. }) => {
                format!("Prometheus answered {}: {}", status.as_u16(), quote(&error))
            }
            _ if status.is_redirection() => format!("answered {}: redirects are not followed", status.as_u16()),
            _ => format!("answered {}", status.as_u16()),
        });
    }
    let answer = parsed.map_err(|error| format!("this is no answer of Prometheus' API: {error}"))?;
    if answer.status != "success" {
        let error = answer.error.unwrap_or(answer.status);
        return Err(format!("Prometheus answered: {}", quote(&error)));
    }
    let warning = answer.warnings.unwrap_or_default().into_iter().next();
    let wrong = |kind| Err(format!("the query gives a {kind}, not a number"));
    let values = match answer.data {
        None => return Err("the answer has no data".to_owned()),
        Some(Data::Matrix(_)) => return wrong("range of values"),
        Some(Data::String(_)) => return wrong("string"),
        Some(Data::Scalar(sample)) => vec![Value { number: number(&sample)?, series: String::new() }],
        Some(Data::Vector(series)) => series.iter().map(value).collect::<Result<_, _>>()?,
    };
    Ok((values, warning))
}

fn value(series: &Series) -> Result<Value, String> {
    let labels: Vec<String> = series.metric.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let name = quote(&format!("{{{}}}", labels.join(", ")));
    match &series.value {
        Some(sample) => Ok(Value { number: number(sample)?, series: name }),
        None => Err(format!("{name} is a histogram, not a number: histogram_quantile() and the like make one of it")),
    }
}

fn number(Sample(_, text): &Sample) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{} is no number", quote(text)))
}

/// The state, the value that decided it, and the bound in words.
fn verdict(order: &GateOrder, values: &[Value]) -> Result<(GateState, f64, String), String> {
    // How far beyond its bound a value is; below 0 inside.
    let beyond = |value: &Value| {
        let above = order.max.map(|max| value.number - max);
        let below = order.min.map(|min| min - value.number);
        above.into_iter().chain(below).fold(f64::NEG_INFINITY, f64::max)
    };
    let numbers = || values.iter().filter(|value| !value.number.is_nan());
    let worst = numbers().max_by(|a, b| beyond(a).total_cmp(&beyond(b)));
    let outside = worst.filter(|worst| beyond(worst) > 0.0);
    let nothing = values.iter().find(|value| value.number.is_nan());
    let (state, shown) = match (outside, nothing, worst) {
        (Some(outside), _, _) => (GateState::Outside, outside),
        (None, Some(nothing), _) if values.len() == 1 => return Err(format!("the value is NaN{}", of(nothing))),
        (None, Some(nothing), _) => {
            return Err(format!("the value of one of {} series is NaN{}", values.len(), of(nothing)));
        }
        (None, None, Some(inside)) => (GateState::Inside, inside),
        (None, None, None) => return Err("the query finds no series".to_owned()),
    };
    let mut detail = match (order.min, order.max) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (None, Some(max)) => format!("at most {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, None) => "no bound".to_owned(),
    };
    if values.len() > 1 {
        detail.push_str(&format!("; the worst of {} series{}", values.len(), of(shown)));
    }
    Ok((state, shown.number, detail))
}

fn of(value: &Value) -> String {
    if value.series.len() > "{}".len() { format!(": {}", value.series) } else { String::new() }
}

/// Cut, and without control characters: it goes to terminals.
fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(LONGEST_QUOTE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST_QUOTE).is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value as Json, json};

    use super::*;

    fn order(min: Option<f64>, max: Option<f64>) -> GateOrder {
        let (name, address, query) = ("memory".to_owned(), "http://a".to_owned(), "q".to_owned());
        GateOrder { name, address, query, min, max, interval: Duration::from_secs(15) }
    }

    fn said(order: &GateOrder, data: &Json) -> Gate {
        let body = json!({ "status": "success", "data": data }).to_string();
        judge(order, StatusCode::OK, body.as_bytes())
    }

    fn vector(values: &[&str]) -> Json {
        let series = values.iter().enumerate().map(|(n, value)| {
            let metric = if values.len() == 1 { json!({}) } else { json!({ "pod": n.to_string() }) };
            json!({ "metric": metric, "value": [1.5, value] })
        });
        json!({ "resultType": "vector", "result": series.collect::<Vec<_>>() })
    }

    #[test]
    fn a_bound_is_inclusive_and_may_be_on_either_side() {
        use GateState::{Inside, Outside};
        for (min, max, value, wanted) in [
            (None, Some(500e6), "500000000", Inside),
            (None, Some(500e6), "5.00000001e+08", Outside),
            (None, Some(0.0), "-Inf", Inside),
            (None, Some(0.0), "+Inf", Outside),
            (Some(1.0), None, "1", Inside),
            (Some(1.0), None, "0.999", Outside),
            (Some(1.0), None, "+Inf", Inside),
            (Some(1.0), Some(2.0), "1.5", Inside),
            (Some(1.0), Some(2.0), "0.5", Outside),
            (Some(1.0), Some(2.0), "2.5", Outside),
            (None, None, "7", Inside),
        ] {
            let gate = said(&order(min, max), &vector(&[value]));
            assert_eq!((gate.state, gate.value), (wanted, value.parse().ok()), "{value} from {min:?} to {max:?}");
            assert_eq!(gate.name, "memory");
            let scalar = json!({ "resultType": "scalar", "result": [1.5, value] });
            assert_eq!(said(&order(min, max), &scalar), gate);
        }
    }

    #[test]
    fn the_bound_is_said_in_words() {
        let detail = |min, max| said(&order(min, max), &vector(&["1"])).detail;
        assert_eq!(detail(None, Some(500e6)), "at most 500000000");
        assert_eq!(detail(Some(0.5), None), "at least 0.5");
        assert_eq!(detail(Some(0.5), Some(2.0)), "from 0.5 to 2");
        assert_eq!(detail(None, None), "no bound");
    }

    #[test]
    fn every_series_is_judged_and_the_worst_is_shown() {
        let bound = order(Some(0.0), Some(10.0));
        let gate = said(&bound, &vector(&["3", "9", "5"]));
        assert_eq!((gate.state, gate.value), (GateState::Inside, Some(9.0)));
        assert_eq!(gate.detail, "from 0 to 10; the worst of 3 series: {pod=\"1\"}");
        let gate = said(&bound, &vector(&["5", "11", "-7"]));
        assert_eq!((gate.state, gate.value), (GateState::Outside, Some(-7.0)));
        assert!(gate.detail.ends_with("{pod=\"2\"}"), "{}", gate.detail);
    }

    #[test]
    fn what_is_no_number_says_nothing() {
        let bound = order(None, Some(10.0));
        let unreachable = |data: Json| {
            let gate = said(&bound, &data);
            assert_eq!((gate.state, gate.value), (GateState::Unreachable, None), "{data}");
            gate.detail
        };
        assert_eq!(unreachable(vector(&[])), "the query finds no series");
        assert_eq!(unreachable(vector(&["NaN"])), "the value is NaN");
        assert_eq!(unreachable(vector(&["1", "NaN"])), "the value of one of 2 series is NaN: {pod=\"1\"}");
        assert_eq!(unreachable(vector(&["much"])), "much is no number");
        assert_eq!(
            unreachable(json!({ "resultType": "matrix", "result": [] })),
            "the query gives a range of values, not a number"
        );
        assert_eq!(
            unreachable(json!({ "resultType": "string", "result": [1, "a"] })),
            "the query gives a string, not a number"
        );
        let histogram = json!({ "metric": { "job": "a" }, "histogram": [1.5, { "count": "1", "sum": "2" }] });
        let detail = unreachable(json!({ "resultType": "vector", "result": [histogram] }));
        assert!(detail.starts_with("{job=\"a\"} is a histogram"), "{detail}");
    }

    #[test]
    fn a_value_outside_is_outside_though_another_is_no_number() {
        let gate = said(&order(None, Some(10.0)), &vector(&["NaN", "11"]));
        assert_eq!((gate.state, gate.value), (GateState::Outside, Some(11.0)));
    }

    #[test]
    fn what_prometheus_complains_of_is_said() {
        let detail = |status, body: &str| {
            let gate = judge(&order(None, Some(1.0)), StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!((gate.state, gate.value), (GateState::Unreachable, None), "{body}");
            gate.detail
        };
        let error = r#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected \u001b end"}"#;
        assert_eq!(detail(400, error), "Prometheus answered 400: parse error: unexpected   end");
        assert_eq!(detail(200, error), "Prometheus answered: parse error: unexpected   end");
        assert_eq!(detail(503, "<html>"), "answered 503");
        assert_eq!(detail(302, ""), "answered 302: redirects are not followed");
        assert!(detail(200, "<html>").starts_with("this is no answer of Prometheus' API: expected value"));
        assert!(detail(200, r#"{"status":"success","data":{"resultType":"vector","result":7}}"#).contains("no answer"));
        assert_eq!(detail(200, r#"{"status":"success"}"#), "the answer has no data");
        let long = json!({ "status": "error", "error": "x".repeat(1000) }).to_string();
        assert_eq!(detail(400, &long).chars().count(), "Prometheus answered 400: ".len() + LONGEST_QUOTE + 1);
    }

    #[test]
    fn a_warning_is_shown_beside_the_bound() {
        let body = json!({ "status": "success", "warnings": ["a store is down"], "infos": [], "data": vector(&["1"]) });
        let gate = judge(&order(None, Some(1.0)), StatusCode::OK, body.to_string().as_bytes());
        assert_eq!(gate.state, GateState::Inside);
        assert_eq!(gate.detail, "at most 1 (Prometheus warns: a store is down)");
    }
}

//! Parsers for the values of flags. Messages say what was wanted; clap adds the flag and what was typed.

use std::time::Duration;

use crate::telemetry::{Buckets, access_log};

/// `250ms`, `1.5s`, `2m`, `1m30s`, `1h`; `0` needs no unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = || "wanted a duration such as 250ms, 1.5s, 2m or 1m30s".to_owned();
    let mut total = Duration::ZERO;
    let mut rest = if text == "0" { "0s" } else { text };
    if rest.is_empty() {
        return Err(wanted());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wanted)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wanted())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wanted()),
        };
        total += Duration::try_from_secs_f64(number * seconds).map_err(|_| wanted())?;
        rest = &rest[end..];
    }
    Ok(total)
}

/// `5ms..80ms`, the shorter one first; one duration stands for both.
pub fn parse_duration_range(text: &str) -> Result<(Duration, Duration), String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let (from, to) = (parse_duration(from)?, parse_duration(to)?);
    if from > to {
        return Err("wanted the shorter duration first, such as 5ms..80ms".to_owned());
    }
    Ok((from, to))
}

/// `2%` or `0.5%`, as a share from 0 to 1. The sign may be left out.
pub fn parse_percentage(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("wanted a percentage from 0% to 100%, such as 2%".to_owned()),
    }
}

/// Requests a second: above 0, at most a million.
pub fn parse_rps(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rps) if rps > 0.0 && rps <= 1e6 => Ok(rps),
        _ => Err("wanted requests a second, above 0 and at most 1000000, such as 100 or 0.5".to_owned()),
    }
}

/// `64KiB`, `1MiB`, `2GiB`, `4096`.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let wanted = || "wanted a size such as 4096, 64KiB, 1MiB or 2GiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().map_err(|_| wanted())?;
    let unit = match &text[digits..] {
        "" | "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        _ => return Err(wanted()),
    };
    number.checked_mul(unit).ok_or_else(wanted)
}

/// `fine` or `small`.
pub fn parse_buckets(text: &str) -> Result<Buckets, String> {
    match text {
        "fine" => Ok(Buckets::Fine),
        "small" => Ok(Buckets::Small),
        _ => Err("wanted fine or small".to_owned()),
    }
}

/// `P=L`.
pub fn parse_port_map(text: &str) -> Result<(u16, u16), String> {
    let wanted = || "wanted two ports, such as 80=8080".to_owned();
    let (port, local) = text.split_once('=').ok_or_else(wanted)?;
    Ok((port.parse().map_err(|_| wanted())?, local.parse().map_err(|_| wanted())?))
}

/// `VERSION=HOST:PORT`.
pub fn parse_upstream(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((version, address)) if !version.is_empty() && address.contains(':') => {
            Ok((version.to_owned(), address.to_owned()))
        }
        _ => Err("wanted a version and an address, such as v1=localhost:8081".to_owned()),
    }
}

/// `VERSION=WEIGHT`.
pub fn parse_split(text: &str) -> Result<(String, u32), String> {
    let wanted = || "wanted a version and its weight, such as v1=90".to_owned();
    let (version, weight) = text.split_once('=').ok_or_else(wanted)?;
    Ok((version.to_owned(), weight.parse().map_err(|_| wanted())?))
}

/// `--access-log`: none is `off`.
#[derive(Clone, Debug)]
pub struct AccessLogFlag(pub Option<access_log::Destination>);

/// `off`, `text`, `json`, `text=FILE` or `json=FILE`.
pub fn parse_access_log(text: &str) -> Result<AccessLogFlag, String> {
    match text {
        "off" => Ok(AccessLogFlag(None)),
        _ => text.parse().map(Some).map(AccessLogFlag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for bad in ["", "5", "s", "5x", "-1s", "1s5", "1..5s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("7"), Ok(7));
        assert_eq!(parse_size("3GiB"), Ok(3 << 30));
        for bad in ["", "KiB", "64KB", "-1", "99999999999999999999MiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}

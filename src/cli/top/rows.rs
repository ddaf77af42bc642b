//! The table's rows: one for each route and version. Pure.

use std::cmp::Ordering;
use std::time::Duration;

use crate::cli::view::recent::{Lately, Recent};
use crate::cli::view::text::{NOTHING, duration, part, percent, plain, width_of};
use crate::telemetry::{NONE, RouteSummary, VersionSummary};

/// One route and version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) route: String,
    pub(super) version: String,
    /// Share in the file, and in force.
    wanted: Option<(f64, f64)>,
    got: Option<f64>,
    rate: Option<f64>,
    requests: u64,
    pub(super) errors: u64,
    p50: Option<Duration>,
    p99: Option<Duration>,
    /// With how often.
    flags: Vec<(String, u64)>,
}

/// What a row shows, from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Route,
    Version,
    Wanted,
    Got,
    Rate,
    Errors,
    P50,
    P99,
    Flags,
}

impl Column {
    pub(super) const ALL: [Self; 9] = [
        Self::Route,
        Self::Version,
        Self::Wanted,
        Self::Got,
        Self::Rate,
        Self::Errors,
        Self::P50,
        Self::P99,
        Self::Flags,
    ];

    /// Its head.
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Version => "version",
            Self::Wanted => "wanted",
            Self::Got => "got",
            Self::Rate => "req/s",
            Self::Errors => "5xx",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Flags => "flags",
        }
    }

    /// The one to the right; after the last, the first.
    pub(super) fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    /// Whether it holds words, not numbers.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Route | Self::Version | Self::Flags)
    }
}

impl Row {
    /// The text in a column.
    pub(super) fn cell(&self, column: Column) -> String {
        let nothing = || NOTHING.to_owned();
        match column {
            Column::Route => self.route.clone(),
            Column::Version => self.version.clone(),
            Column::Wanted => self.wanted.map_or_else(nothing, |(declared, effective)| {
                let mark = if (declared - effective).abs() < 1e-9 { "" } else { "*" };
                percent(effective, 1) + mark
            }),
            Column::Got => self.got.map_or_else(nothing, |got| format!("{:.1} %", got * 100.0)),
            Column::Rate => self.rate.map_or_else(nothing, |rate| format!("{rate:.1}")),
            Column::Errors => part(self.errors, self.requests),
            Column::P50 => duration(self.p50),
            Column::P99 => duration(self.p99),
            Column::Flags => {
                let flags: Vec<_> = self.flags.iter().map(|(flag, count)| format!("{flag} {count}")).collect();
                flags.join(" ")
            }
        }
    }

    fn error_share(&self) -> f64 {
        if self.requests == 0 { -1.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// By a column: words rise, numbers fall, so that what matters comes first.
    fn compare(&self, other: &Self, by: Column) -> Ordering {
        let falling = |of: fn(&Self) -> f64| of(other).total_cmp(&of(self));
        match by {
            Column::Route => Ordering::Equal,
            Column::Version => self.version.cmp(&other.version),
            Column::Wanted => falling(|row| row.wanted.map_or(-1.0, |(_, effective)| effective)),
            Column::Got => falling(|row| row.got.unwrap_or(-1.0)),
            Column::Rate => falling(|row| row.rate.unwrap_or(-1.0)),
            Column::Errors => falling(Self::error_share),
            Column::P50 => other.p50.cmp(&self.p50),
            Column::P99 => other.p99.cmp(&self.p99),
            Column::Flags => falling(|row| row.flags.iter().map(|(_, count)| *count as f64).sum()),
        }
    }
}

/// Sorts by a column, and what is equal there by route and version.
pub(super) fn sort(rows: &mut [Row], by: Column, reversed: bool) {
    let names = |row: &Row| (row.route.clone(), row.version.clone());
    rows.sort_by_cached_key(names);
    rows.sort_by(|a, b| a.compare(b, by));
    if reversed {
        rows.reverse();
    }
}

/// Every pair that the configuration in force names, or that had requests lately.
pub(super) fn rows(recent: &Recent) -> Vec<Row> {
    let versions = recent.picture().map_or(&[][..], |picture| &picture.counted.versions);
    let mut apps = versions.iter().map(|one| one.app.as_str()).filter(|app| *app != NONE);
    let first = apps.next();
    let alone = apps.all(|app| Some(app) == first);
    let pairs = versions.iter().flat_map(|one| one.routes.iter().map(move |route| (one, route)));
    let mut rows: Vec<_> = pairs.filter_map(|(one, route)| row(recent, one, route, alone)).collect();
    share_out(&mut rows);
    rows
}

fn row(recent: &Recent, of: &VersionSummary, route: &RouteSummary, alone: bool) -> Option<Row> {
    let done = recent.window().through(&route.route, &of.app, &of.version);
    let nowhere = of.app == NONE;
    let wanted = route.declared.zip(route.effective);
    if done.requests == 0 && (wanted.is_none() || nowhere) {
        return None;
    }
    let version = match (nowhere, alone) {
        (true, _) => "(no version)".to_owned(),
        (false, true) => of.version.clone(),
        (false, false) => format!("{} {}", of.app, of.version),
    };
    let lately = Lately { span: recent.span(), done };
    Some(Row {
        route: plain(if route.route == NONE { "(no route)" } else { &route.route }),
        version: plain(&version),
        wanted: wanted.filter(|_| !nowhere),
        got: None,
        rate: lately.rate(),
        requests: lately.done.requests,
        errors: lately.done.errors,
        p50: lately.done.latency.quantile(0.5),
        p99: lately.done.latency.quantile(0.99),
        flags: recent.window().flags(&of.app, &of.version),
    })
}

/// The share of each row among those of its route that have one.
fn share_out(rows: &mut [Row]) {
    let mut all = std::collections::BTreeMap::<String, u64>::new();
    for row in rows.iter().filter(|row| row.wanted.is_some()) {
        *all.entry(row.route.clone()).or_default() += row.requests;
    }
    for row in rows.iter_mut().filter(|row| row.wanted.is_some()) {
        let of = all[&row.route];
        row.got = (of > 0).then(|| row.requests as f64 / of as f64);
    }
}

/// The table for a pipe: as wide as it has to be.
pub(super) fn text(rows: &[Row]) -> String {
    let mut lines = vec![Column::ALL.map(|column| column.head().to_owned())];
    lines.extend(rows.iter().map(|row| Column::ALL.map(|column| row.cell(column))));
    let wide = Column::ALL.map(|column| lines.iter().map(|line| width_of(&line[column as usize])).max().unwrap_or(0));
    let mut text = String::new();
    for line in &lines {
        let mut cells = String::new();
        for column in Column::ALL {
            let (cell, wide) = (&line[column as usize], wide[column as usize]);
            let gap = " ".repeat(wide - width_of(cell));
            let cell = if column.is_text() { format!("{cell}{gap}") } else { format!("{gap}{cell}") };
            cells.push_str(&cell);
            cells.push_str("  ");
        }
        text.push_str(cells.trim_end());
        text.push('\n');
    }
    text
}

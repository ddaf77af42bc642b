//! Draws `docs/rollout.svg`: the evidence against four canaries, request by request.
//!
//! `cargo test --lib draws_the_picture -- --ignored`

use std::fmt::Write;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::rollout::evidence::Evidence;
use crate::rollout::input::{Arm, Bad, Test};

const REQUESTS: u64 = 800;
const LIMIT: f64 = 200.0;

/// ln E after each request of a canary at 10 %, until the limit is reached. `outage` is when both begin to fail.
fn course(canary: f64, outage: u64, seed: u64) -> Vec<f64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut evidence = Evidence::new(Test::Error, 1.2, 0.01, Duration::ZERO);
    let (mut requests, mut course) = (0, vec![0.0]);
    for n in 1..=REQUESTS {
        let at = Duration::from_millis(n * 10);
        let arm = if random.random_bool(0.1) { Arm::Canary } else { Arm::Stable };
        requests += u64::from(arm == Arm::Canary);
        let rate = if arm == Arm::Canary { canary } else { 0.005 };
        evidence.requests(requests, at);
        if random.random_bool(rate) || n > outage {
            evidence.bad(&Bad { at, arm, test: Test::Error, share: 0.1, key: None });
        }
        course.push(evidence.engine().ln_e().min(LIMIT.ln()));
        if evidence.is_against(LIMIT.ln()) {
            break;
        }
    }
    course
}

fn x(n: usize) -> f64 {
    60.0 + n as f64 / REQUESTS as f64 * 520.0
}

/// From 1:100 at the bottom to 1000:1 at the top.
fn y(ln_e: f64) -> f64 {
    let decades = ln_e / std::f64::consts::LN_10;
    40.0 + (3.0 - decades.clamp(-2.0, 3.0)) / 5.0 * 240.0
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(svg, r#"<text x="{x:.0}" y="{y:.0}" text-anchor="{anchor}">{text}</text>"#);
}

#[test]
#[ignore = "it writes a file"]
fn draws_the_picture() {
    let mut svg = String::from(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 330" font-family="sans-serif" font-size="12" fill="#222">
<rect width="640" height="330" fill="#fff"/>
"##,
    );
    for (odds, text) in
        [(0.01, "1:100"), (0.1, "1:10"), (1.0, "1:1"), (10.0, "10:1"), (100.0, "100:1"), (1e3, "1000:1")]
    {
        let at = y(f64::ln(odds));
        let _ = writeln!(svg, r##"<path d="M60 {at:.0}H580" stroke="#ddd"/>"##);
        label(&mut svg, 54.0, at + 4.0, "end", text);
    }
    for n in (0..=REQUESTS as usize).step_by(200) {
        label(&mut svg, x(n), 298.0, "middle", &n.to_string());
    }
    label(&mut svg, 320.0, 318.0, "middle", "requests to both versions, a tenth of them to v2");
    label(&mut svg, 60.0, 24.0, "start", "evidence that v2 is worse than v1, and worse than 1 % of failures");
    let _ =
        writeln!(svg, r##"<path d="M60 {at:.1}H580" stroke="#b00020" stroke-dasharray="5 4"/>"##, at = y(LIMIT.ln()));
    label(&mut svg, 576.0, y(LIMIT.ln()) - 6.0, "end", "200:1: rolled back");
    let courses = [
        ("#b00020", "v2 fails every request", course(1.0, u64::MAX, 2)),
        ("#d9730d", "v2 fails one in five", course(0.2, u64::MAX, 7)),
        ("#1f6feb", "v2 is as good as v1", course(0.005, u64::MAX, 3)),
        ("#6e7781", "both fail from 400 on", course(0.005, 400, 5)),
    ];
    for (row, (colour, text, course)) in courses.iter().enumerate() {
        let mut path = format!("M{:.1} {:.1}", x(0), y(course[0]));
        let mut last = course[0];
        for n in 1..course.len() {
            if (course[n] - last).abs() > 0.02 || n + 1 == course.len() {
                // Evidence stands still between bad events: a step, not a slope.
                let (before, now) = (course[n - 1], course[n]);
                let _ = write!(path, "L{:.1} {:.1}L{:.1} {:.1}", x(n - 1), y(before), x(n), y(now));
                last = now;
            }
        }
        let _ = writeln!(
            svg,
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>"#
        );
        let at = 100.0 + row as f64 * 18.0;
        let _ = writeln!(svg, r#"<path d="M400 {at:.0}h18" stroke="{colour}" stroke-width="3"/>"#);
        label(&mut svg, 424.0, at + 4.0, "start", text);
    }
    svg.push_str("</svg>\n");
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rollout.svg"), svg).unwrap();
}

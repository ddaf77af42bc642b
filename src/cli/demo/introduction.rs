//! What is said at the beginning: what there is, and what to do with it. Pure.

use std::net::SocketAddr;

use super::folder::{CANARY, WEIGHTS, Written};
use super::{FOLDER, Tale};
use crate::app::AdminAddress;

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Where clients connect.
    pub proxy: SocketAddr,
    /// The admin port.
    pub admin: AdminAddress,
    /// Where v2 lets itself be changed; none if it is a service of the reader's own.
    pub v2: Option<SocketAddr>,
}

/// Something to type, and what comes of it.
type Try = (String, &'static str);

/// The introduction. `serin` is how the reader starts this program.
pub(super) fn introduction(tale: Tale, written: Written, places: Places, serin: &str) -> String {
    let state = match written {
        Written::All => "written just now",
        Written::Kept => "as you left it; --reset writes it anew",
    };
    let mut text = format!("The configuration is in {FOLDER}/ ({state}).\n");
    let about = match tale {
        Tale::Weights => None,
        Tale::Rollout => Some("v2 is as good as v1"),
        Tale::Bad => Some("v2 fails one request in five"),
    };
    if let Some(about) = about {
        text.push_str(&format!("{about}; the release in {CANARY} begins in a moment.\n"));
    }
    let tries = tries(tale, places, serin);
    let wide = tries.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    text.push_str("While this runs, try\n");
    text.extend(tries.iter().map(|(what, why)| format!("  {what:wide$}  {why}\n")));
    text + "Ctrl-C ends it.\n\n"
}

fn tries(tale: Tale, Places { proxy, admin, v2 }: Places, serin: &str) -> Vec<Try> {
    let v2_fails = |rate: &str, why| v2.map(|v2| (format!("curl -X POST 'http://{v2}/_echo?error_rate={rate}'"), why));
    let (mut tries, of_v2) = match tale {
        Tale::Weights => (
            vec![
                (format!("edit {FOLDER}/{WEIGHTS} and save"), "in force at once"),
                (format!("{serin} set-weight {FOLDER} v1=70 v2=30"), "the same"),
                (format!("curl http://{proxy}/"), "a request"),
                (format!("curl http://{admin}/metrics"), "for Prometheus"),
            ],
            v2_fails("20%", "makes v2 worse"),
        ),
        Tale::Rollout => (
            vec![
                (format!("{serin} top --admin {admin}"), "every version"),
                (format!("{serin} rollout pause --admin {admin}"), "`resume` goes on"),
            ],
            v2_fails("20%", "makes v2 worse"),
        ),
        Tale::Bad => (
            vec![
                (format!("{serin} top --admin {admin}"), "every version"),
                (format!("{serin} rollout retry --admin {admin}"), "tries v2 again"),
            ],
            v2_fails("0%", "mends v2"),
        ),
    };
    tries.extend(of_v2);
    tries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tale_says_what_to_try() {
        let places = Places {
            proxy: "127.0.0.1:8080".parse().unwrap(),
            admin: "127.0.0.1:15000".parse().unwrap(),
            v2: Some("127.0.0.1:8082".parse().unwrap()),
        };
        assert_eq!(
            introduction(Tale::Bad, Written::All, places.clone(), "serin"),
            "\
The configuration is in serin-demo/ (written just now).
v2 fails one request in five; the release in canary.yaml begins in a moment.
While this runs, try
  serin top --admin 127.0.0.1:15000                         every version
  serin rollout retry --admin 127.0.0.1:15000               tries v2 again
  curl -X POST 'http://127.0.0.1:8082/_echo?error_rate=0%'  mends v2
Ctrl-C ends it.

"
        );
        let own = Places { v2: None, ..places };
        let weights = introduction(Tale::Weights, Written::Kept, own, "serin");
        assert!(weights.contains("--reset") && weights.contains("set-weight"), "{weights}");
        assert!(!weights.contains("release") && !weights.contains("_echo"), "{weights}");
    }
}

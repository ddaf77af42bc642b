//! Bookinfo's services: reviews of three versions, of which the later two ask the proxy for ratings.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use super::{JASON, Task};
use crate::support::client::Client;
use crate::support::upstream::{Upstream, answer};
use crate::support::wire::Message;

/// The services, and the proxy in front of them.
pub(super) struct Bookinfo {
    /// v1, v2 and v3.
    pub(super) reviews: [Upstream; 3],
    /// v1.
    pub(super) ratings: Upstream,
    /// The proxy.
    pub(super) task: Task,
}

impl Bookinfo {
    /// Starts them at their first versions, then applies an example.
    pub(super) fn with(example: &str) -> Self {
        let mut bookinfo = Self::start();
        bookinfo.task.apply(example);
        bookinfo
    }

    /// Starts them at their first versions.
    pub(super) fn start() -> Self {
        let proxy = Arc::new(OnceLock::new());
        let reviews = ["v1", "v2", "v3"].map(|version| match version {
            "v1" => Upstream::named(version),
            _ => with_ratings(version, Arc::clone(&proxy)),
        });
        let (ratings, other) = (Upstream::named("stars"), Upstream::named("other"));
        let endpoints = [
            ("productpage/v1", other.port),
            ("details/v1", other.port),
            ("ratings/v1", ratings.port),
            ("reviews/v1", reviews[0].port),
            ("reviews/v2", reviews[1].port),
            ("reviews/v3", reviews[2].port),
        ];
        let task = Task::start(&["subsets", "all-v1"], &endpoints);
        proxy.set(task.proxy.listen).unwrap();
        Self { reviews, ratings, task }
    }

    /// What a user reads, and the version that wrote it.
    pub(super) fn read(&self, fields: &[(&str, &str)]) -> (String, String) {
        let answer = self.task.ask("reviews", fields);
        assert_eq!(answer.status(), 200);
        (answer.head.get("x-version").to_owned(), answer.text())
    }

    /// How many requests each version of the reviews has got.
    pub(super) fn read_from(&self) -> [usize; 3] {
        self.reviews.each_ref().map(|version| version.ledger.len())
    }
}

/// Reviews that show what the ratings answered, as the sample's v2 and v3 do; they hand the user on.
fn with_ratings(version: &'static str, proxy: Arc<OnceLock<SocketAddr>>) -> Upstream {
    Upstream::answering(move |request: &Message| {
        let user = request.head.get(JASON.0);
        let fields = [(JASON.0, user)];
        let fields = if user.is_empty() { &[][..] } else { &fields[..] };
        let ratings = Client::connect(*proxy.get().unwrap()).ask("ratings", "/", fields).unwrap();
        let text = format!("ratings: {}", if ratings.status() == 200 { ratings.text() } else { "unavailable".into() });
        let head = answer(version);
        let head = String::from_utf8(head).unwrap();
        let head = head.split("content-length").next().unwrap();
        format!("{head}content-length: {}\r\n\r\n{text}", text.len()).into_bytes()
    })
}

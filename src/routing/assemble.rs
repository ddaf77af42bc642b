//! From the rules of one or more VirtualServices to a virtual host, and from virtual hosts to a listener. Knows the order of
//! rules, not what they say.

use std::sync::Arc;

use http::StatusCode;

use super::headers::HeaderOps;
use super::host::HostIndex;
use super::matching::Matchers;
use super::policy::RetryPolicy;
use super::redirect::Redirect;
use super::rewrite::Matched;
use super::table::{Action, Hosts, LeftOut, Route, Rule, VirtualHost};
use crate::config::binding::{self, Obstacle};
use crate::config::resource::virtual_service::HttpMatch;

/// What rules are called that no VirtualService wrote: the redirect of a Gateway.
const HTTPS_REDIRECT: &str = "https-redirect";

/// The routes of one virtual host while they are put together. Blocks that match everything are kept back for the end, where
/// the first of them stands; the others of their kind could never be reached.
#[derive(Debug)]
pub(super) struct Lines<D> {
    matchers: Matchers,
    routes: Vec<Route<D>>,
    left_out: Vec<LeftOut>,
    last: Option<Last<D>>,
}

/// A block that matches everything.
#[derive(Debug)]
struct Last<D> {
    block: Option<HttpMatch>,
    name: Arc<str>,
    rule: Arc<Rule<D>>,
}

/// The virtual hosts of one listener while they are put together.
#[derive(Debug)]
pub(super) struct Assembly<D> {
    index: HostIndex,
    virtual_hosts: Vec<VirtualHost<D>>,
}

impl<D> Default for Lines<D> {
    fn default() -> Self {
        Self { matchers: Matchers::default(), routes: Vec::new(), left_out: Vec::new(), last: None }
    }
}

impl<D> Default for Assembly<D> {
    fn default() -> Self {
        Self { index: HostIndex::default(), virtual_hosts: Vec::new() }
    }
}

impl<D> Lines<D> {
    /// Adds a block of a rule; none is that of a rule without blocks. Says whether it matches everything, so that what its
    /// VirtualService has after it is dead.
    pub(super) fn push(&mut self, block: Option<&HttpMatch>, name: Arc<str>, rule: Arc<Rule<D>>) -> bool {
        let catch_all = binding::is_catch_all(block);
        if !catch_all {
            self.append(block, name, rule);
        } else if self.last.is_none() {
            self.last = Some(Last { block: block.cloned(), name, rule });
        }
        catch_all
    }

    /// Notes a block that can never match here, for whoever asks why.
    pub(super) fn leave_out(&mut self, rule: &Arc<str>, obstacle: Obstacle) {
        let Obstacle { condition, wanted, actual } = obstacle;
        self.left_out.push(LeftOut { behind: self.routes.len(), rule: Arc::clone(rule), condition, wanted, actual });
    }

    fn append(&mut self, block: Option<&HttpMatch>, name: Arc<str>, rule: Arc<Rule<D>>) {
        let matched = self.matchers.push(block);
        self.routes.push(Route { name, matched, rule });
    }

    fn finish(mut self, https_redirect: bool) -> VirtualHost<D> {
        if let Some(Last { block, name, rule }) = self.last.take() {
            self.append(block.as_ref(), name, rule);
        }
        self.matchers.shrink();
        VirtualHost {
            matchers: self.matchers,
            routes: self.routes.into(),
            https_redirect,
            left_out: self.left_out.into(),
        }
    }
}

impl<D> Assembly<D> {
    /// Adds a virtual host; gives back its number, or none for one that would do nothing.
    pub(super) fn add(&mut self, lines: Lines<D>, https_redirect: bool) -> Option<u32> {
        let host = lines.finish(https_redirect);
        if host.routes.is_empty() && !https_redirect {
            return None;
        }
        self.virtual_hosts.push(host);
        Some(u32::try_from(self.virtual_hosts.len() - 1).expect("there are fewer virtual hosts than 2³²"))
    }

    /// Whether a host pattern has its virtual host already.
    pub(super) fn contains(&self, pattern: &str) -> bool {
        self.index.contains(pattern)
    }

    /// Lets a virtual host answer to a pattern, unless another one does.
    pub(super) fn answer(&mut self, pattern: &str, number: u32) {
        self.index.insert(pattern, number);
    }

    /// How many virtual hosts there are.
    pub(super) fn len(&self) -> usize {
        self.virtual_hosts.len()
    }

    /// The listener. `rules`: how many rules there are so far.
    pub(super) fn finish(self, rules: &mut usize) -> Hosts<D> {
        let redirects = self.virtual_hosts.iter().any(|host| host.https_redirect);
        let redirect = redirects.then(|| {
            *rules += 1;
            https_redirect(*rules - 1)
        });
        Hosts::new(self.index, self.virtual_hosts, redirect)
    }
}

/// The route of a plain request that a Gateway wants to be `https`.
fn https_redirect<D>(number: usize) -> Route<D> {
    let name: Arc<str> = HTTPS_REDIRECT.into();
    let rule = Rule {
        filters: None,
        number,
        label: Arc::clone(&name),
        origin: None,
        action: Action::Redirect(Redirect::to_https(StatusCode::MOVED_PERMANENTLY)),
        sticky: None,
        timeout: None,
        retry: RetryPolicy::default(),
        response_headers: HeaderOps::default(),
        path_rewrite: None,
    };
    Route { name, matched: Matched::Whole, rule: Arc::new(rule) }
}

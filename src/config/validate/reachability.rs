//! Rules of `http` that no request can reach, because an earlier one takes everything they would match.
//! What is not provable from their conditions (two regexes, say) is not said.

use super::covering::{Seen, takes_everything};
use super::report::{Report, dead};
use crate::config::resource::virtual_service::HttpRoute;

/// Warns of rules and blocks that are never reached.
pub(super) fn check(report: &mut Report, routes: &[HttpRoute]) {
    if routes.len() < 2 && routes.first().is_none_or(|route| route.matches.len() < 2) {
        return;
    }
    let mut seen = Seen::default();
    let mut catch_all: Option<usize> = None;
    for (index, route) in routes.iter().enumerate() {
        if let Some(earlier) = catch_all {
            let message = format!(
                "{} is never reached: {} takes everything",
                name(route, index),
                name(&routes[earlier], earlier)
            );
            report
                .add(dead(route.place, message).help("move the rule that takes everything to the end").code("IST0130"));
            continue;
        }
        // What its delegate does not take goes on to the next rule.
        let takes = route.delegate.is_none();
        if route.matches.is_empty() {
            catch_all = takes.then_some(index);
            continue;
        }
        let mut covered = 0;
        for block in &route.matches {
            if let Some(earlier) = seen.covering(block) {
                covered += 1;
                let who = match earlier.rule {
                    own if own == index => "an earlier match of this rule".to_owned(),
                    other => name(&routes[other], other),
                };
                let (what, help) = match earlier.exactly {
                    true => ("the same requests", "remove one of the two"),
                    false => ("all of its requests", "put the more specific match first"),
                };
                let message = format!("this match never matters: {who} already takes {what}");
                report.add(dead(block.place, message).help(help).code("IST0131"));
            } else if takes {
                seen.add(block, index);
            }
            if takes && catch_all.is_none() && takes_everything(block) {
                catch_all = Some(index);
            }
        }
        if covered == route.matches.len() {
            let message = format!("{} is never reached: earlier rules take all of its matches", name(route, index));
            report.add(dead(route.place, message).code("IST0130"));
        }
    }
}

/// What a rule is called.
pub(super) fn name(route: &HttpRoute, index: usize) -> String {
    match route.name.as_ref().filter(|name| !name.is_empty()) {
        Some(name) => format!("rule `{}`", name.value),
        None => format!("rule {index}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::validate::testing::warnings;

    fn dead(blocks: &[&str]) -> Vec<String> {
        let rules: Vec<_> =
            blocks.iter().map(|block| format!("  - match: [{block}]\n    redirect: {{uri: /x}}")).collect();
        warnings("VirtualService", &format!("  hosts: [a]\n  http:\n{}", rules.join("\n")))
    }

    #[test]
    fn a_wider_condition_before_a_narrower_one_takes_everything() {
        for (wide, narrow) in [
            ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}"),
            ("{uri: {prefix: /a}}", "{uri: {exact: /ab}}"),
            ("{uri: {exact: /a}}", "{name: other, uri: {exact: /a}}"),
            ("{uri: {regex: '/[a-c]'}}", "{uri: {regex: '/[a-c]'}, method: {exact: GET}}"),
            ("{uri: {prefix: /a}}", "{uri: {prefix: /a}, headers: {x: {exact: b}}}"),
            ("{headers: {x: {prefix: b}}}", "{uri: {prefix: /a}, headers: {X: {exact: bc}}}"),
            ("{headers: {x: {}}}", "{headers: {x: {regex: 'a|b'}}}"),
            ("{headers: {x: {regex: 'a|b'}}}", "{headers: {x: {exact: b}, y: {}}}"),
            ("{method: {exact: GET}}", "{uri: {prefix: /a}, method: {exact: GET}}"),
            ("{withoutHeaders: {x: {}}}", "{uri: {prefix: /a}, withoutHeaders: {x: {}}}"),
            ("{queryParams: {q: {exact: a}}}", "{queryParams: {q: {exact: a}, r: {}}}"),
            ("{uri: {prefix: /}, port: 80}", "{uri: {prefix: /a}, port: 80}"),
        ] {
            assert!(dead(&[wide, narrow]).iter().any(|message| message.contains("never reached")), "{wide} {narrow}");
            if !narrow.contains("name: other") {
                assert_eq!(dead(&[narrow, wide]), Vec::<String>::new(), "{narrow} {wide}");
            }
        }
    }

    #[test]
    fn rules_that_can_be_reached_are_left_alone() {
        for (first, second) in [
            ("{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}"),
            ("{uri: {prefix: /a}, method: {exact: GET}}", "{uri: {prefix: /a}}"),
            ("{uri: {prefix: /a}, port: 80}", "{uri: {prefix: /a}, port: 81}"),
            ("{uri: {prefix: /a}, gateways: [mesh]}", "{uri: {prefix: /a}}"),
            ("{uri: {prefix: /A}}", "{uri: {prefix: /a}, ignoreUriCase: true}"),
            ("{queryParams: {Q: {}}}", "{queryParams: {q: {}}}"),
            ("{withoutHeaders: {x: {}}}", "{withoutHeaders: {y: {}}}"),
            ("{headers: {x: {regex: 'a+'}}}", "{headers: {x: {prefix: a}}}"),
        ] {
            assert_eq!(dead(&[first, second]), Vec::<String>::new(), "{first} {second}");
        }
    }

    #[test]
    fn everything_after_a_rule_without_conditions_is_dead() {
        for all in ["{}", "{uri: {prefix: /}}", "{uri: {regex: '.*'}}"] {
            let found = dead(&[all, "{uri: {prefix: /a}}", "{uri: {prefix: /b}}"]);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(found.iter().all(|message| message.contains("never reached: rule 0 takes everything")));
        }
    }

    #[test]
    fn what_a_delegate_leaves_is_for_the_rules_after_it() {
        for root in ["match: [{uri: {prefix: /a}}]", "match: [{uri: {prefix: /}}]", "name: all"] {
            let rules = format!(
                "  hosts: [a]\n  http:\n  - {root}\n    delegate: {{name: d}}\n  - match: [{{uri: {{prefix: /a}}}}]\n    \
                 redirect: {{uri: /y}}"
            );
            assert_eq!(warnings("VirtualService", &rules), Vec::<String>::new(), "{root}");
        }
    }

    #[test]
    fn rules_are_called_by_their_names() {
        let found = warnings(
            "VirtualService",
            "  hosts: [a]\n  http:\n  - name: all\n    redirect: {uri: /x}\n  - name: some\n    match: [{uri: {prefix: /a}}]\n    \
             redirect: {uri: /y}",
        );
        assert_eq!(found, ["rule `some` is never reached: rule `all` takes everything"]);
    }
}

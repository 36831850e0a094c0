//! How what one version of a plugin did differs from what another did.

use std::fmt;

use http::HeaderMap;

use super::{
    Failure, Verdict,
    exchange::{Exchange, State},
};

/// One difference: what of, for metrics, and how, for the log. Values are not shown: some are secrets.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: &'static str,
    how: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.how)
    }
}

pub fn of_verdicts(old: &Result<Verdict, Failure>, new: &Result<Verdict, Failure>) -> Vec<Difference> {
    let word = |verdict: &Result<Verdict, Failure>| match verdict {
        Ok(Verdict::Next) => "goes on".to_owned(),
        Ok(Verdict::Close) => "closes".to_owned(),
        Ok(Verdict::Respond(answer)) => format!("answers {}", answer.status.as_u16()),
        Err(failure) => failure.to_string(),
    };
    let mut found = Vec::new();
    let (first, second) = (word(old), word(new));
    if first != second {
        found.push(Difference { what: "verdict", how: format!("the old one {first}, the new one {second}") });
    } else if let (Ok(Verdict::Respond(first)), Ok(Verdict::Respond(second))) = (old, new) {
        headers("answer-headers", &first.headers, &second.headers, &mut found);
        if first.body != second.body {
            found.push(Difference { what: "answer-body", how: "not the same bytes".to_owned() });
        }
    }
    found
}

pub fn of_exchanges(old: &Exchange, new: &Exchange) -> Vec<Difference> {
    let (old, new): (&State, &State) = (old, new);
    let mut found = Vec::new();
    let (first, second) = (&old.request, &new.request);
    headers("request-headers", &first.headers, &second.headers, &mut found);
    let told = |state: &State| {
        let mut map = HeaderMap::new();
        state.answer_headers.clone().move_to(&mut map);
        map
    };
    headers("answer-headers", &told(old), &told(new), &mut found);
    let mut unless = |same: bool, what: &'static str| {
        if !same {
            found.push(Difference { what, how: "not the same".to_owned() });
        }
    };
    unless(first.method == second.method, "method");
    unless(first.send_target == second.send_target, "target");
    unless(first.send_authority == second.send_authority, "authority");
    unless(old.upstream == new.upstream, "upstream");
    unless(old.body_mode == new.body_mode, "body-mode");
    unless(old.same_vars(new), "variables");
    if let (Some(first), Some(second)) = (&old.response, &new.response) {
        unless(first.status == second.status, "status");
        headers("response-headers", &first.headers, &second.headers, &mut found);
    }
    found
}

fn headers(what: &'static str, old: &HeaderMap, new: &HeaderMap, found: &mut Vec<Difference>) {
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort_by_key(|name| name.as_str());
    names.dedup();
    for name in names {
        if old.get_all(name) != new.get_all(name) {
            found.push(Difference { what, how: name.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::plugin::LocalResponse;

    #[test]
    fn verdicts() {
        let deny = |status| Ok(Verdict::Respond(Box::new(LocalResponse::error(status, "a", "b"))));
        assert_eq!(of_verdicts(&Ok(Verdict::Next), &Ok(Verdict::Next)), []);
        assert_eq!(of_verdicts(&deny(StatusCode::FORBIDDEN), &deny(StatusCode::FORBIDDEN)), []);
        let found = of_verdicts(&deny(StatusCode::FORBIDDEN), &Err(Failure::Deadline));
        let told = "verdict: the old one answers 403, the new one ran longer than its time limit";
        assert_eq!(found[0].to_string(), told);
    }

    #[test]
    fn headers_by_name() {
        let mut old = HeaderMap::new();
        old.insert("a", HeaderValue::from_static("1"));
        old.insert("b", HeaderValue::from_static("1"));
        let mut new = old.clone();
        new.append("b", HeaderValue::from_static("2"));
        new.insert("c", HeaderValue::from_static("3"));
        let mut found = Vec::new();
        headers("request-headers", &old, &new, &mut found);
        let names: Vec<_> = found.iter().map(|difference| difference.how.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
    }
}

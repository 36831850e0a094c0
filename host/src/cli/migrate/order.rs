//! The order of routes. Envoy takes the first that matches, wasmgate the most specific one: where these differ, the
//! route that Envoy would take gets a higher priority.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use regex::Regex;

use super::{
    output::{Match, Route, ValueTest},
    route::VirtualHost,
    tree::Notes,
};
use crate::config::KeyPath;

pub fn keep(mut hosts: Vec<VirtualHost>, notes: &Notes) -> Vec<Route> {
    hosts.iter_mut().for_each(|host| drop_unreachable(&mut host.routes, notes));
    let declared = declared(&hosts);
    let mut places: Vec<usize> = (0..hosts.len()).collect();
    // Priorities go before hosts: a narrow host's have to be at least those of the wider ones.
    places.sort_by_key(|&place| hosts[place].hosts.iter().map(|host| narrowness(host)).min());
    for (done, &place) in places.iter().enumerate() {
        let wider = places[..done].iter().map(|&wider| &hosts[wider]);
        let wider = wider.filter(|wider| covers(wider, &hosts[place]));
        let base = wider.flat_map(|wider| &wider.routes).map(|route| route.matches.priority).max();
        prioritise(&mut hosts[place].routes, base.unwrap_or(0), &declared, notes);
    }
    for host in &hosts {
        let is_final = host.routes.iter().any(|route| takes_all(&route.matches));
        if let Some(wider) = hosts.iter().find(|wider| !is_final && covers(wider, host)) {
            let other = below(&wider.place);
            let what =
                format!("what none of its routes takes is answered 404 by Envoy; here {other} is asked");
            notes.caution(&host.place, &what);
        }
    }
    hosts.into_iter().flat_map(|host| host.routes).collect()
}

/// Drops routes that match what one before them does.
fn drop_unreachable(routes: &mut Vec<Route>, notes: &Notes) {
    let mut kept = Vec::<Route>::new();
    for route in routes.drain(..) {
        match kept.iter().find(|before| before.matches == route.matches) {
            Some(before) => {
                notes.left(&route.place, &format!("{} takes all that it would take", below(&before.place)));
            }
            None => kept.push(route),
        }
    }
    *routes = kept;
}

/// A place as its neighbours would call it: `routes[1]`.
fn below(place: &KeyPath) -> KeyPath {
    let steps = place.steps();
    steps[steps.len().saturating_sub(2)..].iter().cloned().collect()
}

/// For each regular expression the place of the first route that has it: they are tried in this order.
fn declared(hosts: &[VirtualHost]) -> HashMap<String, usize> {
    let mut declared = HashMap::new();
    for (place, route) in hosts.iter().flat_map(|host| &host.routes).enumerate() {
        declared.entry(route.matches.path.clone().unwrap_or_default()).or_insert(place);
    }
    declared
}

fn prioritise(routes: &mut [Route], base: i32, declared: &HashMap<String, usize>, notes: &Notes) {
    for first in (0..routes.len()).rev() {
        let (mut priority, mut raised_over) = (base, None);
        let (own, later) = (&routes[first].matches, &routes[first + 1..]);
        for other in later.iter().filter(|other| overlap(own, &other.matches)) {
            let other_wins = preference(&other.matches, declared) < preference(own, declared);
            let least = other.matches.priority + i32::from(other_wins);
            priority = priority.max(least);
            if other_wins {
                raised_over.get_or_insert(&other.place);
            }
        }
        if let Some(other) = raised_over {
            let other = below(other);
            let what =
                format!("a priority puts it before {other}, as in Envoy; wasmgate would prefer the other");
            notes.caution(&routes[first].place, &what);
        }
        routes[first].matches.priority = priority;
    }
}

/// Of two routes with the same hosts and priority wasmgate prefers the one with less of this, or the first.
fn preference(matches: &Match, declared: &HashMap<String, usize>) -> impl Ord + use<> {
    let path = matches.path.as_deref().unwrap_or("/*");
    let (form, segments, place) = match (path.starts_with('~'), path.strip_suffix("/*")) {
        (true, _) => (2, 0, declared.get(path).copied()),
        (false, Some(prefix)) => (1, prefix.matches('/').count(), None),
        (false, None) => (0, 0, None),
    };
    let (headers, query) = (Reverse(matches.headers.len()), Reverse(matches.query.len()));
    (form, Reverse(segments), place, headers, query, matches.methods.is_empty())
}

/// Whether a request may match both; in doubt it may.
fn overlap(a: &Match, b: &Match) -> bool {
    let includes = |methods: &[String], method: &String| {
        methods.is_empty()
            || methods.contains(method)
            || (method == "HEAD" && methods.contains(&"GET".to_owned()))
    };
    let methods = a.methods.is_empty()
        || a.methods.iter().any(|method| includes(&b.methods, method))
        || b.methods.iter().any(|method| includes(&a.methods, method));
    let differ = |(name, test): (&String, &ValueTest), others: &BTreeMap<String, ValueTest>| {
        others.get(name).is_some_and(|other| excludes(test, other) || excludes(other, test))
    };
    methods
        && !a.headers.iter().any(|header| differ(header, &b.headers))
        && !a.query.iter().any(|parameter| differ(parameter, &b.query))
        && paths_overlap(a.path.as_deref().unwrap_or("/*"), b.path.as_deref().unwrap_or("/*"))
}

fn excludes(a: &ValueTest, b: &ValueTest) -> bool {
    match (a, b) {
        (ValueTest::Exact(a), ValueTest::Exact(b)) => a != b,
        (ValueTest::Present(false), other) => *other != ValueTest::Present(false),
        _ => false,
    }
}

fn paths_overlap(a: &str, b: &str) -> bool {
    let (prefix_a, prefix_b) = (a.strip_suffix("/*"), b.strip_suffix("/*"));
    let within = |path: &str, prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (a.strip_prefix("~ "), b.strip_prefix("~ ")) {
        (Some(_), Some(_)) => true,
        (Some(expression), None) => expression_overlaps(expression, b),
        (None, Some(expression)) => expression_overlaps(expression, a),
        (None, None) => match (prefix_a, prefix_b) {
            (None, None) => a == b,
            (Some(prefix), None) => within(b, prefix),
            (None, Some(prefix)) => within(a, prefix),
            (Some(a), Some(b)) => within(a, b) || within(b, a),
        },
    }
}

fn expression_overlaps(expression: &str, path: &str) -> bool {
    match path.strip_suffix("/*") {
        Some(prefix) => {
            let start = literal_start(expression);
            start.starts_with(prefix) || prefix.starts_with(&start)
        }
        None => {
            path.starts_with(&literal_start(expression))
                && Regex::new(&format!("^(?:{expression})$")).is_ok_and(|regex| regex.is_match(path))
        }
    }
}

/// What all that matches begins with, as far as that is easy to see.
fn literal_start(expression: &str) -> String {
    let mut start = String::new();
    if expression.contains('|') {
        return start;
    }
    let mut rest = expression.trim_start_matches('^').chars();
    while let Some(c) = rest.next() {
        match c {
            '*' | '?' | '{' => {
                start.pop();
                break;
            }
            '\\' => match rest.next() {
                Some(escaped) if !escaped.is_ascii_alphanumeric() => start.push(escaped),
                _ => break,
            },
            '.' | '+' | '(' | '[' | '$' => break,
            c => start.push(c),
        }
    }
    start
}

fn narrowness(host: &str) -> usize {
    match host.strip_prefix('*') {
        Some(suffix) => suffix.len(),
        None => usize::MAX,
    }
}

/// Whether a host of the wider one takes a host of the other as well, and is not the same.
fn covers(wider: &VirtualHost, narrow: &VirtualHost) -> bool {
    let covers = |wider: &String, narrow: &String| {
        wider != narrow && wider.strip_prefix('*').is_some_and(|suffix| narrow.ends_with(suffix))
    };
    wider.listener == narrow.listener
        && wider.place != narrow.place
        && wider.hosts.iter().any(|wider| narrow.hosts.iter().any(|narrow| covers(wider, narrow)))
}

fn takes_all(matches: &Match) -> bool {
    let Match { path, methods, headers, query, .. } = matches;
    path.is_none() && methods.is_empty() && headers.is_empty() && query.is_empty()
}

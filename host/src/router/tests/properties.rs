//! The table against a linear search that shares no code with it, and against any text.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;

/// A rule as text, for the search below to read in its own way.
#[derive(Debug, Clone)]
struct Spec {
    priority: i32,
    listeners: Vec<u16>,
    hosts: Vec<&'static str>,
    paths: Vec<String>,
    methods: Vec<&'static str>,
    header: Option<&'static str>,
    query: Option<&'static str>,
}

impl Spec {
    fn rule(&self, index: usize) -> Rule {
        let paths: Vec<&str> = self.paths.iter().map(String::as_str).collect();
        Rule {
            priority: self.priority,
            listeners: self.listeners.clone(),
            methods: self.methods.iter().map(|method| method.parse().unwrap()).collect(),
            headers: self.header.iter().map(|value| (HeaderName::from_static("h"), exact(value))).collect(),
            query: self.query.iter().map(|value| ("q".to_owned(), exact(value))).collect(),
            ..rule(&index.to_string(), &self.hosts, &paths)
        }
    }
}

/// A request of the same small alphabet.
#[derive(Debug, Clone)]
struct Asked {
    listener: u16,
    host: &'static str,
    path: String,
    method: &'static str,
    headers: Vec<&'static str>,
    query: Option<&'static str>,
}

fn segment(with: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(with)
}

fn pattern() -> impl Strategy<Value = String> {
    let segments = prop::collection::vec(segment(&["a", "b", "a", "b", "", "{p}"]), 0..4);
    let template = (segments, segment(&["", "/*", "/{t*}"])).prop_map(|(segments, end)| {
        let numbered = segments.iter().enumerate();
        let text: String =
            numbered.map(|(at, segment)| format!("/{}", segment.replace('p', &format!("p{at}")))).collect();
        if text.is_empty() && end.is_empty() { "/".to_owned() } else { text + end }
    });
    prop_oneof![6 => template, 1 => segment(&["~/a.*", "~ /(a|b)/b", "~ .*b"]).prop_map(str::to_owned)]
}

fn spec() -> impl Strategy<Value = Spec> {
    let value = || prop::option::weighted(0.3, segment(&["1", "2"]));
    let hosts = segment(&["a.x", "b.a.x", "x", "*.x", "*.a.x", "*"]);
    (
        prop_oneof![6 => Just(0), 1 => -1..2],
        prop::collection::vec(0_u16..2, 0..2),
        prop::collection::vec(hosts, 0..3),
        prop::collection::vec(pattern(), 0..3),
        prop::collection::vec(segment(&["GET", "HEAD", "POST"]), 0..3),
        (value(), value()),
    )
        .prop_map(|(priority, listeners, hosts, paths, methods, (header, query))| Spec {
            priority,
            listeners,
            hosts,
            paths,
            methods,
            header,
            query,
        })
}

fn asked() -> impl Strategy<Value = Asked> {
    let hosts = segment(&["a.x", "b.a.x", "c.b.a.x", "x", "y", ".x", "c.x"]);
    let paths = prop::collection::vec(segment(&["a", "b", "", "c"]), 0..5);
    (
        0_u16..2,
        hosts,
        paths.prop_map(|segments| segments.iter().map(|segment| format!("/{segment}")).collect()),
        segment(&["GET", "HEAD", "POST"]),
        prop::collection::vec(segment(&["1", "2"]), 0..3),
        prop::option::of(segment(&["q=1", "q=2&q=1", "p=1"])),
    )
        .prop_map(|(listener, host, path, method, headers, query)| Asked {
            listener,
            host,
            path,
            method,
            headers,
            query,
        })
}

/// The winner by comparing every rule with every other. Smaller is better in what is compared.
fn linear(specs: &[Spec], asked: &Asked) -> Option<usize> {
    let candidates =
        specs.iter().enumerate().filter(|(_, spec)| holds(spec, asked)).flat_map(|(index, spec)| {
            let hosts = or(&spec.hosts, "*").into_iter().filter(|host| host_matches(host, asked.host));
            let hosts = hosts.map(|host| (host.starts_with('*'), Reverse(host.len()))).min();
            let paths = or(&spec.paths.iter().map(String::as_str).collect::<Vec<_>>(), "/*");
            let paths = paths.into_iter().filter(|path| path_matches(path, &asked.path));
            let path = paths.map(|path| path_order(specs, path)).min();
            let rest = (
                Reverse(spec.header.iter().count()),
                Reverse(spec.query.iter().count()),
                (spec.listeners.is_empty(), spec.methods.is_empty()),
                index,
            );
            Some((Reverse(spec.priority), hosts?, path?, rest))
        });
    candidates.min().map(|(_, _, _, rest)| rest.3)
}

fn or<'a>(patterns: &[&'a str], default: &'a str) -> Vec<&'a str> {
    if patterns.is_empty() { vec![default] } else { patterns.to_vec() }
}

fn holds(spec: &Spec, asked: &Asked) -> bool {
    let method = |method: &&str| *method == asked.method || (*method == "GET" && asked.method == "HEAD");
    let value = asked.query.and_then(|query| query.strip_prefix("q=")).map(|value| &value[..1]);
    (spec.listeners.is_empty() || spec.listeners.contains(&asked.listener))
        && (spec.methods.is_empty() || spec.methods.iter().any(method))
        && spec.header.is_none_or(|expected| asked.headers.contains(&expected))
        && (spec.query.is_none() || spec.query == value)
}

fn host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix) || suffix.is_empty(),
        None => pattern == host,
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern {
        "~/a.*" => path.starts_with("/a"),
        "~ /(a|b)/b" => path == "/a/b" || path == "/b/b",
        "~ .*b" => path.ends_with('b'),
        _ => segments_match(&pattern.split('/').collect::<Vec<_>>(), &path.split('/').collect::<Vec<_>>()),
    }
}

/// Both begin with the empty text before the first slash.
fn segments_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        (["*"], _) | ([], []) => true,
        (["{t*}"], []) | (["{t*}"], [""]) => false,
        (["{t*}"], _) => true,
        ([first, pattern @ ..], [segment, path @ ..]) => {
            (first == segment || first.starts_with("{p")) && segments_match(pattern, path)
        }
        _ => false,
    }
}

/// Class, then what counts inside it.
fn path_order(specs: &[Spec], pattern: &str) -> (u8, usize, usize, bool) {
    let text = |pattern: &str| pattern.trim_start_matches(['~', ' ']).to_owned();
    let segments: Vec<&str> = pattern.split('/').skip(1).collect();
    let literals = 9 - segments.iter().filter(|segment| !segment.contains(['*', '{'])).count();
    match pattern {
        _ if pattern.starts_with('~') => {
            let same = |spec: &Spec| {
                spec.paths.iter().any(|path| text(path) == text(pattern) && path.starts_with('~'))
            };
            (3, specs.iter().position(same).unwrap(), 0, false)
        }
        _ if pattern.contains('*') => (2, 9 - segments.len(), literals, pattern.ends_with("/*")),
        _ if pattern.contains('{') => (1, literals, 0, false),
        _ => (0, 0, 0, false),
    }
}

/// Without the rules that repeat an earlier one.
fn without_conflicts(mut specs: Vec<Spec>) -> (Vec<Spec>, Table) {
    loop {
        match Table::build(specs.iter().enumerate().map(|(index, spec)| spec.rule(index)).collect()) {
            Ok(table) => return (specs, table),
            Err(conflicts) => specs.remove(conflicts[0].second.parse::<usize>().unwrap()),
        };
    }
}

fn with_query<R>(asked: &Asked, run: impl FnOnce(&Query<'_>) -> R) -> R {
    let header = |value: &&'static str| (HeaderName::from_static("h"), HeaderValue::from_static(value));
    let mut headers = HeaderMap::new();
    asked.headers.iter().map(header).for_each(|(name, value)| _ = headers.append(name, value));
    let method = asked.method.parse().unwrap();
    let Asked { listener, host, ref path, query, .. } = *asked;
    run(&Query { listener, method: &method, host, path, query, headers: &headers })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn finds_what_a_linear_search_finds(
        specs in prop::collection::vec(spec(), 0..12),
        requests in prop::collection::vec(asked(), 1..16),
    ) {
        let (specs, table) = without_conflicts(specs);
        for asked in requests {
            let (winner, explained) = with_query(&asked, |query| {
                let explained = table.explain(query, &[]).into_iter().map(|c| (c.rule, c.standing)).collect::<Vec<_>>();
                (table.find(query).map(|winner| winner.rule), explained)
            });
            prop_assert_eq!(winner, linear(&specs, &asked), "{:?}", asked);
            prop_assert_eq!(explained.len(), specs.len());
            let matching = || explained.iter().filter(|(_, standing)| !matches!(standing, Standing::Fails(_)));
            prop_assert_eq!(matching().next().map(|(rule, _)| *rule), winner);
            prop_assert!(matching().enumerate().all(|(place, (_, standing))| (*standing == Standing::Wins) == (place == 0)));
        }
    }

    #[test]
    fn no_text_makes_it_panic(host in any::<String>(), path in "[/{}*~a-bé%]{0,12}|.*", query in any::<String>(), name in "[&=%a+é]{0,4}") {
        let (hosts, paths) = (host.parse::<HostPattern>(), path.parse::<PathPattern>());
        for error in [hosts.as_ref().err(), paths.as_ref().err()].into_iter().flatten() {
            prop_assert!(error.to_string().contains(error.problem()));
        }
        let headers = HeaderMap::new();
        let rules = vec![
            Rule { query: vec![(name, ValueMatch::Present)], ..rule("query", &["*.x"], &["~.*(?<a>.).*"]) },
            Rule { hosts: hosts.into_iter().collect(), paths: paths.into_iter().collect(), ..rule("made", &[], &[]) },
            rule("fixed", &["x"], &["/{a}/{b*}", "/{a}/*"]),
        ];
        let table = Table::build(rules).unwrap();
        for host in [host.as_str(), "x", "y.x"] {
            let request = Query { query: Some(&query), ..request(host, &path, &headers) };
            table.find(&request).iter().flat_map(|winner| winner.params.iter()).for_each(drop);
            prop_assert_eq!(table.explain(&request, &[]).len(), 3);
        }
    }
}

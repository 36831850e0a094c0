//! Finding and explaining, by examples.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;

mod properties;

fn rule(name: &str, hosts: &[&str], paths: &[&str]) -> Rule {
    Rule {
        name: name.into(),
        priority: 0,
        listeners: Vec::new(),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
    }
}

fn exact(value: &str) -> ValueMatch {
    ValueMatch::Exact(value.into())
}

fn request<'a>(host: &'a str, path: &'a str, headers: &'a HeaderMap) -> Query<'a> {
    Query { listener: 0, method: &Method::GET, host, path, query: None, headers }
}

/// The winner's name and parameters, `-` for none.
fn found(table: &Table, query: &Query<'_>) -> String {
    let Some(winner) = table.find(query) else {
        return "-".into();
    };
    let params = winner.params.iter().map(|(name, value)| format!(" {name}={value}"));
    format!("{}{}", table.rules[winner.rule].name, params.collect::<String>())
}

#[test]
fn an_empty_table_finds_nothing() {
    let table = Table::build(Vec::new()).unwrap();
    assert_eq!(found(&table, &request("a", "/", &HeaderMap::new())), "-");
    assert!(table.explain(&request("a", "/", &HeaderMap::new()), &[]).is_empty());
}

#[test]
fn paths_by_specificity() {
    let table = Table::build(vec![
        rule("regex", &[], &["~ ^/v[0-9]+/(?<id>.*)"]),
        rule("later-regex", &[], &["~/v1/.*|/%[0-9]+"]),
        rule("files", &[], &["/files/{rest*}"]),
        rule("files-under", &[], &["/files/*"]),
        rule("users-under", &[], &["/users/*"]),
        rule("posts-under", &[], &["/users/{id}/posts/*"]),
        rule("any-post", &[], &["/users/{id}/posts/{post}"]),
        rule("user", &[], &["/users/{id}"]),
        rule("me", &[], &["/users/me"]),
        rule("settings", &[], &["/users/me/{section}/edit"]),
        rule("root", &[], &["/"]),
        rule("double", &[], &["//x"]),
    ])
    .unwrap();
    for (path, expected) in [
        ("/", "root"),
        ("/users", "users-under"),
        ("/users/", "user id="),
        ("/users//", "users-under"),
        ("/usersx", "-"),
        ("/Users", "-"),
        ("/users/7", "user id=7"),
        ("/users/me", "me"),
        ("/users/me/", "users-under"),
        ("/users/me/posts/1", "any-post id=me post=1"),
        ("/users/me/posts/edit", "settings section=posts"),
        ("/users/7/posts", "posts-under id=7"),
        ("/users/7/posts/1/2", "posts-under id=7"),
        ("/users/7/x", "users-under"),
        ("/files", "files-under"),
        ("/files/", "files-under"),
        ("/files//", "files rest=/"),
        ("/files/a/b", "files rest=a/b"),
        ("/v1/a", "regex id=a"),
        ("/v1/", "regex id="),
        ("/a/v1/a", "-"),
        ("/%41", "later-regex"),
        ("//x", "double"),
        ("//", "-"),
        ("x", "-"),
        ("*", "-"),
        ("", "-"),
    ] {
        assert_eq!(found(&table, &request("any", path, &HeaderMap::new())), expected, "{path}");
    }
}

#[test]
fn hosts_before_paths_and_priority_before_hosts() {
    let mut urgent = rule("urgent", &["*"], &["/urgent/*"]);
    urgent.priority = 1;
    let mut last = rule("last", &["api.example.com"], &["/"]);
    last.priority = -1;
    let table = Table::build(vec![
        rule("any", &[], &[]),
        rule("com", &["*.com"], &["/exact"]),
        rule("example", &["*.example.com"], &["/*"]),
        rule("api", &["api.example.com", "[::1]"], &["/", "/*"]),
        rule("api-a", &["api.example.com"], &["/a"]),
        urgent,
        last,
    ])
    .unwrap();
    for (host, path, expected) in [
        ("api.example.com", "/", "api"),
        ("API.Example.COM.:443", "/a", "api-a"),
        ("api.example.com", "/urgent/x", "urgent"),
        ("a.b.example.com", "/exact", "example"),
        ("example.com", "/exact", "com"),
        ("example.com", "/x", "any"),
        (".example.com", "/x", "any"),
        ("xexample.com", "/exact", "com"),
        ("com", "/exact", "any"),
        ("[0::1]:8080", "/x", "api"),
        ("", "/", "any"),
        ("", "*", "any"),
    ] {
        assert_eq!(found(&table, &request(host, path, &HeaderMap::new())), expected, "{host} {path}");
    }
}

#[test]
fn priority_before_paths() {
    let mut urgent = rule("urgent", &[], &["/{any}"]);
    urgent.priority = 1;
    let table = Table::build(vec![rule("exact", &[], &["/a"]), urgent]).unwrap();
    let headers = HeaderMap::new();
    assert_eq!(found(&table, &request("x", "/a", &headers)), "urgent any=a");
}

#[test]
fn predicates_decide_between_rules_of_one_path() {
    let path: &[&str] = &["/a"];
    let beta = || (HeaderName::from_static("x-beta"), exact("1"));
    let debug = || ("debug".to_owned(), ValueMatch::Present);
    let table = Table::build(vec![
        rule("plain", &[], path),
        Rule { methods: vec![Method::GET], ..rule("get", &[], path) },
        Rule { methods: vec![Method::POST], listeners: vec![7, 8], ..rule("post-on-7", &[], path) },
        Rule { query: vec![debug()], ..rule("debug", &[], path) },
        Rule { headers: vec![beta()], ..rule("beta", &[], path) },
        Rule { headers: vec![beta()], query: vec![debug()], ..rule("beta-debug", &[], path) },
    ])
    .unwrap();
    let none = HeaderMap::new();
    let mut beta = HeaderMap::new();
    beta.append("x-beta", HeaderValue::from_static("0"));
    beta.append("x-beta", HeaderValue::from_static("1"));
    for (listener, method, query, headers, expected) in [
        (0, Method::GET, None, &none, "get"),
        (0, Method::HEAD, None, &none, "get"),
        (0, Method::POST, None, &none, "plain"),
        (8, Method::POST, None, &none, "post-on-7"),
        (8, Method::POST, Some("x=1&debug"), &none, "debug"),
        (8, Method::POST, None, &beta, "beta"),
        (8, Method::GET, Some("debug=0"), &beta, "beta-debug"),
    ] {
        let query = Query { listener, method: &method, query, ..request("a", "/a", headers) };
        assert_eq!(found(&table, &query), expected, "{query:?}");
    }
}

#[test]
fn equal_rules_are_conflicts() {
    let header = |name| (HeaderName::from_static(name), exact("1"));
    let one = Rule {
        methods: vec![Method::GET, Method::POST],
        headers: vec![header("a"), header("b")],
        ..rule("one", &["x", "A.b"], &["/u/{id}", "~ a"])
    };
    let two = Rule {
        methods: vec![Method::POST, Method::HEAD, Method::GET],
        headers: vec![header("b"), header("a")],
        ..rule("two", &["*.b", "a.b"], &["/u/{name}", "~b"])
    };
    let conflicts = Table::build(vec![one.clone(), two.clone()]).unwrap_err();
    let said: Vec<_> = conflicts.iter().map(Conflict::to_string).collect();
    assert_eq!(
        said,
        ["one and two match the same requests (host a.b, path /u/{name}) with the same priority"]
    );
    for different in [
        Rule { priority: 1, ..two.clone() },
        Rule { listeners: vec![1], ..two.clone() },
        Rule { methods: vec![Method::GET], ..two.clone() },
        Rule { headers: vec![header("a")], ..two.clone() },
        Rule { query: vec![("a".into(), ValueMatch::Absent)], ..two.clone() },
        Rule { paths: vec!["/u/{id*}".parse().unwrap()], ..two.clone() },
        Rule { hosts: vec![], ..two },
    ] {
        assert!(Table::build(vec![one.clone(), different]).is_ok());
    }
}

#[test]
fn one_rule_may_repeat_itself_but_the_default_is_no_difference() {
    assert!(Table::build(vec![rule("one", &["a", "A"], &["/x", "/x"])]).is_ok());
    assert_eq!(Table::build(vec![rule("one", &[], &[]), rule("two", &["*"], &["/*"])]).unwrap_err().len(), 1);
}

#[test]
fn rules_with_one_expression_differ_by_their_predicates() {
    let beta = vec![(HeaderName::from_static("x-beta"), ValueMatch::Present)];
    let table = Table::build(vec![
        rule("plain", &[], &["~ /a.*"]),
        rule("shadowed", &[], &["~ /ab.*"]),
        Rule { headers: beta, ..rule("beta", &[], &["~/a.*"]) },
    ])
    .unwrap();
    let headers = HeaderMap::from_iter([(HeaderName::from_static("x-beta"), HeaderValue::from_static(""))]);
    assert_eq!(found(&table, &request("a", "/ab", &HeaderMap::new())), "plain");
    assert_eq!(found(&table, &request("a", "/ab", &headers)), "beta");
}

#[test]
fn a_rule_for_a_listener_goes_before_one_for_all() {
    let own = Rule { listeners: vec![1], ..rule("own", &[], &[]) };
    let read = Rule { methods: vec![Method::GET], ..rule("read", &[], &[]) };
    let table = Table::build(vec![rule("all", &[], &[]), read, own]).unwrap();
    let headers = HeaderMap::new();
    assert_eq!(found(&table, &request("a", "/", &headers)), "read");
    assert_eq!(found(&table, &Query { listener: 1, ..request("a", "/", &headers) }), "own");
}

#[test]
fn explains_every_rule() {
    let name = HeaderName::from_static("x-a");
    let mut urgent = Rule { listeners: vec![1, 2], ..rule("urgent", &[], &[]) };
    urgent.priority = 1;
    let table = Table::build(vec![
        rule("all", &[], &[]),
        rule("elsewhere", &["b", "*.b"], &["/a"]),
        rule("below", &["a", "b"], &["/x/*", "/{y}/z"]),
        Rule { methods: vec![Method::GET, Method::PUT], ..rule("read", &["a"], &["/a"]) },
        Rule { headers: vec![(name, ValueMatch::Present)], ..rule("header", &["a"], &["/a"]) },
        Rule { query: vec![("v".into(), exact("2"))], ..rule("query", &["a"], &["/a"]) },
        rule("users", &["a"], &["/*"]),
        urgent,
    ])
    .unwrap();
    let headers = HeaderMap::new();
    let query = Query { method: &Method::POST, query: Some("v=1"), ..request("A:80", "/a", &headers) };
    let said: Vec<_> =
        table.explain(&query, &["public", "b.test:80"]).iter().map(Candidate::to_string).collect();
    assert_eq!(
        said,
        [
            "urgent: listener public is not one of b.test:80, 2",
            "header: header x-a is absent",
            "query: query parameter v is not \"2\"",
            "read: method POST is not one of GET, PUT",
            "elsewhere: host a is not one of b, *.b",
            "below: path /a matches none of /x/*, /{y}/z",
            "users: matches, and wins",
            "all: matches, but users has a more specific host",
        ]
    );
}

#[test]
fn explains_what_has_decided() {
    let plain = rule("plain", &["a"], &["/a/*"]);
    let header = vec![(HeaderName::from_static("x-a"), ValueMatch::Absent)];
    let why = |winner: Rule, other: Rule| {
        let headers = HeaderMap::new();
        let table = Table::build(vec![winner, other]).unwrap();
        let said = table.explain(&request("a", "/a/b", &headers), &[])[1].to_string();
        said.split_once(": matches, but ").unwrap().1.to_owned()
    };
    let one = |change: fn(&mut Rule)| {
        let mut rule = rule("one", &["a"], &["/a/*"]);
        change(&mut rule);
        rule
    };
    assert_eq!(why(one(|rule| rule.priority = 1), plain.clone()), "one has a higher priority");
    assert_eq!(why(rule("one", &["a"], &["/a/b/*"]), plain.clone()), "one has a longer path");
    assert_eq!(why(rule("one", &["a"], &["/a/b"]), plain.clone()), "one has a more specific path");
    assert_eq!(why(Rule { headers: header, ..one(|_| ()) }, plain.clone()), "one has more header predicates");
    let query = vec![("q".to_owned(), ValueMatch::Absent)];
    assert_eq!(why(Rule { query, ..one(|_| ()) }, plain.clone()), "one has more query predicates");
    assert_eq!(why(one(|rule| rule.listeners = vec![0]), plain.clone()), "one names a listener");
    assert_eq!(why(one(|rule| rule.methods = vec![Method::GET]), plain), "one names methods");
    let (first, second) = (rule("one", &[], &["~ /a.*"]), rule("two", &[], &["~ /.*"]));
    assert_eq!(why(first, second), "one stands earlier in the file");
}

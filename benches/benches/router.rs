//! What finding a route costs, by the kind of pattern and the number of routes: a thousand should cost
//! what one does.

#![allow(clippy::expect_used, reason = "the routes are made here, and a bench may stop")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use wasmgate::router::{Query, Rule, Table};

/// Name, host pattern and path pattern of the nth route, and the host and path that ask for the one in the middle.
type Case = (&'static str, fn(usize) -> String, fn(usize) -> String, fn(usize) -> (String, String));

const CASES: [Case; 6] = [
    ("exact", one_host, |n| format!("/v1/resource-{n}/items"), |n| ask(format!("/v1/resource-{n}/items"))),
    ("prefix", one_host, |n| format!("/v1/resource-{n}/*"), |n| ask(format!("/v1/resource-{n}/items/7"))),
    (
        "params",
        one_host,
        |n| format!("/v1/resource-{n}/{{id}}/edit"),
        |n| ask(format!("/v1/resource-{n}/7/edit")),
    ),
    ("miss", one_host, |n| format!("/v1/resource-{n}/*"), |_| ask("/v1/resource/items/7".into())),
    (
        "host",
        |n| format!("tenant-{n}.example.com"),
        |_| "/*".into(),
        |n| (format!("tenant-{n}.example.com"), "/v1/items".into()),
    ),
    (
        "wildcard",
        |n| format!("*.tenant-{n}.example.com"),
        |_| "/*".into(),
        |n| (format!("www.tenant-{n}.example.com"), "/v1/items".into()),
    ),
];

fn one_host(_: usize) -> String {
    "api.example.com".into()
}

fn ask(path: String) -> (String, String) {
    ("api.example.com".into(), path)
}

fn find(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    for (name, host, path, ask) in CASES {
        for count in [1, 100, 1_000] {
            let table =
                Table::build((0..count).map(|n| rule(n, &host(n), &path(n))).collect()).expect("all differ");
            let (host, path) = ask(count / 2);
            let query = Query {
                listener: 0,
                method: &Method::GET,
                host: &host,
                path: &path,
                query: None,
                headers: &headers,
            };
            assert_eq!(table.find(&query).is_some(), name != "miss");
            criterion.bench_function(&format!("router/{name}/{count}"), |bencher| {
                bencher.iter(|| black_box(&table).find(black_box(&query)).map(|winner| winner.rule));
            });
        }
    }
}

fn rule(number: usize, host: &str, path: &str) -> Rule {
    Rule {
        name: format!("route-{number}").into(),
        priority: 0,
        listeners: Vec::new(),
        hosts: vec![host.parse().expect("a host pattern")],
        paths: vec![path.parse().expect("a path pattern")],
        methods: vec![Method::GET],
        headers: Vec::new(),
        query: Vec::new(),
    }
}

criterion_group!(benches, find);
criterion_main!(benches);

//! Filters in C, AssemblyScript and Go do the same (`tests/languages/README.md`): each alone, and all of them in one
//! chain.

use std::{collections::BTreeSet, thread};

use wasmgate_tests::{Client, Language, Response, TestGateway, TestUpstream, before, eventually, request};

/// The filters as plugins under their languages' names, and a route with these uses; none without a toolchain.
fn config(languages: &[Language], uses: &str) -> Option<String> {
    let plugins = languages.iter().map(|language| {
        let (name, file) = (language.name(), language.filter()?);
        let file = file.display();
        Some(format!(
            "[plugin.{name}]\nfile = \"{file}\"\nconfig = \"hello\"\nenv = {{ STAGE = \"tests\" }}\n"
        ))
    });
    let plugins = plugins.collect::<Option<String>>()?;
    Some(format!("{plugins}[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [{uses}]\n"))
}

/// One filter on every request, with the limits that plugins have by default.
fn alone(language: Language, upstream: &TestUpstream) -> Option<TestGateway> {
    let config = config(&[language], &format!("\"{}\"", language.name()))?;
    Some(TestGateway::before(upstream, &format!("{config}[server]\nworkers = 2\n")))
}

fn ann(gateway: &TestGateway) -> Response {
    request(gateway.addr(), "GET", "/", "X-Name: Ann\r\n")
}

fn edits_both_heads_and_counts_the_body(language: Language) {
    let upstream = TestUpstream::ok();
    let Some(gateway) = alone(language, &upstream) else { return };
    let name = language.name();
    let line = format!(" INFO wasmgate::wasm::host::log: {name} starts in tests");
    assert!(!gateway.logged(&line).is_empty(), "{}", gateway.log());

    let mut client = Client::connect(gateway.addr());
    // More than a piece, so that the filter has to keep count.
    let body = "x".repeat(300_000);
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nX-Name: Ann\r\nContent-Length: 300000\r\n\r\n";
    let response = client.send(format!("{head}{body}")).response();
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("x-language"), Some(name));
    assert_eq!(response.header("x-body-bytes"), Some("300000"));
    assert_eq!(response.header("x-count"), Some("1"));
    assert_eq!(upstream.request().header("x-greeting"), Some("hello Ann"));
    assert_eq!(upstream.request().body.len(), body.len());
    eventually!(gateway.logged("log: hello Ann").len() == 1, "{}", gateway.log());

    // Streams have nothing of each other.
    let response = client.get("/");
    assert_eq!((response.header("x-body-bytes"), response.header("x-count")), (Some("0"), Some("2")));
    assert_eq!(upstream.requests()[1].header("x-greeting"), None);
}

#[test]
fn c_edits_both_heads_and_counts_the_body() {
    edits_both_heads_and_counts_the_body(Language::C);
}

#[test]
fn assemblyscript_edits_both_heads_and_counts_the_body() {
    edits_both_heads_and_counts_the_body(Language::AssemblyScript);
}

#[test]
fn go_edits_both_heads_and_counts_the_body() {
    edits_both_heads_and_counts_the_body(Language::Go);
}

#[test]
fn each_answers_by_itself() {
    for language in Language::ALL {
        let upstream = TestUpstream::ok();
        let Some(gateway) = alone(language, &upstream) else { continue };
        let name = language.name();
        let local = gateway.get("/local");
        assert_eq!((local.status, local.text()), (418, format!("a teapot in {name}\n")));
        assert_eq!(local.header("x-language"), Some(name), "its own answer comes back through it");
        assert!(upstream.requests().is_empty());
    }
}

#[test]
fn each_refuses_a_config_and_says_why() {
    for language in Language::ALL {
        let uses = format!("{{ name = \"{}\", config = \"\" }}", language.name());
        let Some(config) = config(&[language], &uses) else { continue };
        let refused = TestGateway::refused(&before(&TestUpstream::nobody(), &config));
        let name = language.name();
        assert!(
            refused.contains(&format!("ERROR wasmgate::wasm::host::log: {name} has no greeting")),
            "{refused}"
        );
        let problem = format!("plugin `{name}` refuses its config: proxy_on_configure is false");
        assert!(refused.contains(&problem), "{refused}");
    }
}

#[test]
fn each_crashes_alone_and_says_why_in_a_line() {
    for (language, line) in [
        (Language::C, "Assertion failed: !header_is(\"x-crash\", \"c\")"),
        (Language::AssemblyScript, "abort: assemblyscript is to crash in filter.ts("),
        (Language::Go, "panic: go is to crash"),
    ] {
        let Some(gateway) = alone(language, &TestUpstream::ok()) else { continue };
        let crash = format!("X-Crash: {}\r\n", language.name());
        let crashed = request(gateway.addr(), "GET", "/", &crash);
        assert_eq!((crashed.status, crashed.code().as_str()), (500, "plugin_failed"), "{language:?}");
        let line = format!("ERROR wasmgate::wasm::host::log: {line}");
        eventually!(gateway.logged(&line).len() == 1, "{}", gateway.log());
        assert_eq!(ann(&gateway).status, 200, "{language:?}: the next one comes to a fresh VM");
    }
}

#[test]
fn each_outlives_its_garbage() {
    for language in Language::ALL {
        let Some(gateway) = alone(language, &TestUpstream::ok()) else { continue };
        // All that comes through it is several times the memory it may have.
        let body = "x".repeat(1 << 20);
        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nX-Name: Ann\r\nContent-Length: 1048576\r\n\r\n";
        let mut client = Client::connect(gateway.addr());
        for _ in 0..64 {
            let response = client.send(format!("{head}{body}")).response();
            assert_eq!((response.status, response.header("x-body-bytes")), (200, Some("1048576")));
        }
    }
}

#[test]
fn all_of_them_share_a_chain_with_a_native_plugin_and_one_value() {
    let uses = |name: &str| {
        format!("{{ name = \"headers\", config = {{ request = {{ set = {{ x-name = \"{name}\" }} }} }} }}")
    };
    let uses = format!("\"c\", {}, \"assemblyscript\", {}, \"go\"", uses("Bob"), uses("Cyd"));
    let Some(config) = config(&Language::ALL, &uses) else { return };
    let upstream = TestUpstream::ok();
    let config = format!("{config}[server]\nworkers = 2\n[plugins]\ndirectory = \"{{plugins}}\"\n");
    let gateway = TestGateway::before(&upstream, &config);

    let response = ann(&gateway);
    let fields = &response.head.fields;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(upstream.request().head.fields.all("x-greeting"), ["hello Ann", "hello Bob", "hello Cyd"]);
    assert_eq!(fields.all("x-language"), ["go", "assemblyscript", "c"]);
    assert_eq!(fields.all("x-body-bytes"), ["0", "0", "0"]);
    assert_eq!(fields.all("x-count"), ["1", "2", "3"]);

    // Each request is a connection of its own, which the kernel gives to any worker.
    let counts = thread::scope(|scope| {
        let ask = || (0..50).flat_map(|_| counts(&ann(&gateway))).collect::<Vec<_>>();
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let expected: BTreeSet<u32> = (4..=603).collect();
    assert_eq!(counts.len(), expected.len());
    assert_eq!(BTreeSet::from_iter(counts), expected, "no response is lost or counted twice");

    for language in Language::ALL {
        let crash = format!("X-Crash: {}\r\n", language.name());
        assert_eq!(request(gateway.addr(), "GET", "/", &crash).status, 500, "{language:?}");
        assert_eq!(ann(&gateway).status, 200, "{language:?}");
    }
}

fn counts(response: &Response) -> Vec<u32> {
    response.head.fields.all("x-count").iter().map(|count| count.parse().unwrap()).collect()
}

//! proxy-wasm filters as plugins of this gateway: what a crash costs, what is refused, what runs without a
//! request, and that they stand in one chain with native plugins. What they can do is `envoy`'s to show.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use wasmgate_tests::{Client, Gate, Signal, TestGateway, TestUpstream, eventually, get, request, run};

/// Traps where the request has `x-trap`, and adds a header to the response.
const TRAPS: &str = r#"
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (if (i32.eqz (call $value (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 64) (i32.const 68)))
        (then unreachable))
      (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
      (drop (call $add (i32.const 2) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 3)))
      (i32.const 0))
    (data (i32.const 0) "x-trap") (data (i32.const 16) "x-by") (data (i32.const 32) "one")"#;

/// Counts its ticks, of 5 ms.
const TICKS: &str = r#"
    (global $metric (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $define (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 64)))
      (global.set $metric (i32.load (i32.const 64)))
      (drop (call $period (i32.const 5)))
      (i32.const 1))
    (func (export "proxy_on_tick") (param i32)
      (drop (call $increment (global.get $metric) (i64.const 1))))
    (data (i32.const 0) "ticks")"#;

/// A filter of ABI 0.2.1 with these callbacks.
fn filter(callbacks: &str) -> Vec<u8> {
    module("proxy_abi_version_0_2_1", callbacks)
}

fn module(marker: &str, rest: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_get_header_map_value" (func $value (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
          (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "malloc") (param i32) (result i32) (i32.const 1024))
          (func (export "{marker}"))
          {rest})"#
    );
    wat::parse_str(text).expect("the module is well-formed")
}

/// A gateway whose plugin `filter` is this module. `plugin` goes into its table, `rest` behind it.
fn gateway(upstream: &TestUpstream, module: &[u8], plugin: &str, rest: &str) -> TestGateway {
    let config = config(upstream, plugin, rest);
    TestGateway::start_in(&config, &[], |folder| place(folder, module))
}

fn config(upstream: &TestUpstream, plugin: &str, rest: &str) -> String {
    let rest = format!("[server]\nworkers = 1\n[plugin.filter]\nfile = \"filter.wasm\"\n{plugin}\n{rest}");
    wasmgate_tests::before(&upstream.address(), &rest)
}

const ROUTE: &str = "[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [\"filter\"]\n";

fn place(folder: &Path, module: &[u8]) {
    fs::write(folder.join("filter.wasm"), module).expect("the filter is written");
}

#[test]
fn a_crash_costs_one_request_of_those_that_come_one_by_one() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, &filter(TRAPS), "", ROUTE);
    let mut client = Client::connect(gateway.addr());
    let mut ask = |number: usize| {
        let traps = if number % 100 == 99 { "x-trap: 1\r\n" } else { "" };
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{traps}\r\n")).response()
    };
    let warm = 1000;
    for number in 0..warm {
        ask(number);
    }
    let before = gateway.rss();
    for number in 0..10_000 {
        let answer = ask(number);
        let expected = if number % 100 == 99 { (500, None) } else { (200, Some("one")) };
        assert_eq!((answer.status, answer.header("x-by")), expected, "{number}");
    }
    let after = gateway.rss();
    assert!(after <= before + before / 10, "{before} bytes before, {after} after");
    let metrics = "wasmgate_plugin_instances{plugin=\"filter\"}";
    assert_eq!(gateway.metric(metrics), 1.0);
}

/// Sixty-four requests wait for their upstream, each in one of the VMs; one more traps in one of them.
fn ended_with_one(vms: usize) -> usize {
    let (gate, arrived) = (Gate::new(), Gate::new());
    let upstream = TestUpstream::start({
        let gate = gate.clone();
        move |call| {
            arrived.open();
            gate.wait();
            call.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        }
    });
    let gateway = gateway(&upstream, &filter(TRAPS), &format!("vms_per_worker = {vms}"), ROUTE);
    let address = gateway.addr();
    let clients: Vec<_> = (0..64)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    eventually!(upstream.requests().len() == 64);
    assert_eq!(request(address, "GET", "/", "x-trap: 1\r\n").status, 500);
    gate.open();
    let statuses: Vec<_> = clients.into_iter().map(|mut client| client.response().status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 500)), "{statuses:?}");
    assert_eq!(get(address, "/").status, 200, "the next one finds a VM");
    statuses.iter().filter(|status| **status == 500).count()
}

#[test]
fn a_crash_ends_the_requests_in_its_vm_and_no_others() {
    assert_eq!(ended_with_one(1), 64);
    assert_eq!(ended_with_one(4), 16);
}

#[test]
fn a_filter_that_keeps_crashing_is_taken_out_and_tried_again() {
    let upstream = TestUpstream::ok();
    let breaker = "breaker = { failures = 3, backoff = \"50ms\" }\nfailure_policy = \"open\"";
    let gateway = gateway(&upstream, &filter(TRAPS), breaker, ROUTE);
    for _ in 0..3 {
        assert_eq!(
            request(gateway.addr(), "GET", "/", "x-trap: 1\r\n").status,
            200,
            "open: as if it were not there"
        );
    }
    assert_eq!(gateway.logged("the breaker takes the plugin out").len(), 1);
    assert_eq!(get(gateway.addr(), "/").header("x-by"), None);
    eventually!(get(gateway.addr(), "/").header("x-by") == Some("one"));
}

#[test]
fn what_cannot_run_is_refused_and_says_why() {
    let upstream = TestUpstream::ok();
    let l4 = "(func (export \"proxy_on_new_connection\") (param i32) (result i32) (i32.const 0))";
    let unknown = "(func (export \"proxy_on_tick\") (param i32))";
    let unknown = wat::parse_str(format!(
        "(module (import \"env\" \"proxy_redis_call\" (func)) (import \"lib\" \"f\" (func)) (memory (export \"memory\") 1) \
         (func (export \"malloc\") (param i32) (result i32) (i32.const 8)) (func (export \"proxy_abi_version_0_2_0\")) {unknown})"
    ));
    let typed = "(func (export \"proxy_on_request_headers\") (param i64 i32 i32) (result i32) (i32.const 0))";
    let refuses = "(func (export \"proxy_on_configure\") (param i32 i32) (result i32) (i32.const 0))";
    let traps = "(func (export \"_initialize\") unreachable) (func (export \"proxy_on_tick\") (param i32))";
    let ends = "(func (export \"_initialize\") (loop (br 0))) (func (export \"proxy_on_tick\") (param i32))";
    for (module, expected) in [
        (filter(l4), "is a proxy-wasm network filter; only HTTP filters can be run"),
        (
            unknown.expect("it is well-formed"),
            "imports what this gateway does not have: env.proxy_redis_call, lib.f",
        ),
        (module("proxy_abi_version_0_3_0", ""), "is a proxy-wasm filter with `proxy_abi_version_0_3_0`"),
        (module("other", ""), "is a core module, neither a component"),
        (filter(typed), "its export `proxy_on_request_headers`"),
        (filter(refuses), "refuses its config: proxy_on_configure is false"),
        (filter(traps), "trapped"),
        (filter(ends), "ran longer than its time limit"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        place(folder.path(), &module);
        let file = folder.path().join("gateway.toml");
        fs::write(&file, config(&upstream, "", ROUTE)).expect("the config is written");
        let told = run(&["check", file.to_str().expect("a path in UTF-8")]);
        assert_eq!(told.code, Some(1), "{expected}: {told:?}");
        assert!(told.err.contains(expected) || told.out.contains(expected), "{expected}: {told:?}");
    }
    let told = run(&["inspect", "/dev/null"]);
    assert!(told.err.contains("is not WebAssembly"), "{told:?}");
}

#[test]
fn a_service_runs_without_a_route() {
    let upstream = TestUpstream::ok();
    let route = "[[route]]\nname = \"all\"\nupstream = \"app\"\n";
    let gateway = gateway(&upstream, &filter(TICKS), "service = \"singleton\"", route);
    let ticks = || gateway.metric("wasmgate_plugin_filter_ticks_total");
    eventually!(ticks() >= 3.0);
    // A new version takes over, and the old one's timer ends.
    gateway.reloads_after(|| place(&gateway.directory(), &filter(&TICKS.replace("\"ticks\"", "\"tacks\""))));
    eventually!(gateway.metric("wasmgate_plugin_filter_tacks_total") >= 3.0);
    let reached = ticks();
    eventually!(gateway.metric("wasmgate_plugin_filter_tacks_total") >= 20.0);
    assert!(ticks() <= reached + 1.0, "the old one ticks on");
}

#[test]
fn a_new_version_comes_while_requests_flow() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, &filter(TRAPS), "", ROUTE);
    let address = gateway.addr();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let ask = || {
            let mut client = Client::connect(address);
            let mut seen = BTreeSet::new();
            while !stop.load(Relaxed) {
                let answer = client.get("/");
                assert_eq!(answer.status, 200);
                seen.insert(answer.header("x-by").map(str::to_owned));
            }
            seen
        };
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        gateway.reloads_after(|| place(&gateway.directory(), &filter(&TRAPS.replace("\"one\"", "\"two\""))));
        eventually!(get(address, "/").header("x-by") == Some("two"));
        stop.store(true, Relaxed);
        let versions = [Some("one".to_owned()), Some("two".to_owned())];
        for seen in asking {
            let seen = seen.join().expect("no request failed");
            assert!(seen.iter().all(|version| versions.contains(version)), "{seen:?}");
        }
    });
}

#[test]
fn both_kinds_of_plugins_stand_in_one_chain() {
    let upstream = TestUpstream::echo_headers();
    let sets = "{ name = \"headers\", config = { request = { set = { x-native = \"1\" } }, response = { set = { x-seen = \"${header.host}\" } } } }";
    let route = format!(
        "[plugins]\ndirectory = \"{{plugins}}\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [{sets}, \"filter\", \"request-id\"]\n"
    );
    let gateway = gateway(&upstream, &filter(TRAPS), "", &route);
    let answer = get(gateway.addr(), "/");
    assert_eq!((answer.status, answer.header("x-by")), (200, Some("one")), "{}", answer.text());
    let text = answer.text().to_ascii_lowercase();
    assert!(text.contains("x-native: 1") && text.contains("x-request-id: "), "{text}");
    assert_eq!(request(gateway.addr(), "GET", "/", "x-trap: 1\r\n").code(), "plugin_failed");
    gateway.signal(Signal::Hangup);
}

#[test]
fn keys_of_filters_are_told_from_those_of_native_plugins() {
    let upstream = TestUpstream::ok();
    let native = "[plugins]\ndirectory = \"{plugins}\"\n[plugin.request-id]\nroot_id = \"x\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [\"request-id\"]\n";
    let told = TestGateway::refused(&wasmgate_tests::before(&upstream.address(), native));
    assert!(told.contains("is a native plugin: `root_id`"), "{told}");
    let text = native.replace("root_id = \"x\"", "config = \"text\"");
    let told = TestGateway::refused(&wasmgate_tests::before(&upstream.address(), &text));
    assert!(told.contains("the config of a native plugin is a table"), "{told}");
    let redis = "[redis.r]\nendpoints = [\"127.0.0.1:1\"]\n";
    for (key, plugin, rest) in [
        ("isolation", "isolation = \"request\"", ""),
        ("consumers", "consumers = true", ""),
        ("networks", "networks = [\"n\"]", "[networks.n]\nentries = [\"192.0.2.1\"]\n"),
        ("secrets", "secrets = [\"s\"]", "[secrets]\ns = \"t\"\n"),
        ("store", "store = \"r\"", redis),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        place(folder.path(), &filter(TRAPS));
        let file = folder.path().join("gateway.toml");
        fs::write(&file, config(&upstream, plugin, &format!("{rest}{ROUTE}")))
            .expect("the config is written");
        let told = run(&["check", file.to_str().expect("a path in UTF-8")]);
        let expected = format!("is a proxy-wasm filter: `{key}` is for native plugins");
        assert!(told.err.contains(&expected) || told.out.contains(&expected), "{key}: {told:?}");
    }
}

//! A plugin that misbehaves harms its own request at most: the next one on the same worker is fine.

use std::fs;

use wasmgate_tests::{Client, TestGateway, TestUpstream, eventually, garbled, guest, run_in};

const LIMITS: &str = "limits = { time = \"100ms\", memory = \"32MiB\" }\n";

/// One worker, a route per behaviour of the guest, and `/` without plugins.
fn gateway(upstream: &TestUpstream, plugin: &str, routes: &[(&str, &str)]) -> TestGateway {
    let mut text =
        format!("[server]\nworkers = 1\n[plugin.rogue]\nfile = \"{{guests}}/rogue.wasm\"\n{plugin}");
    for (name, uses) in routes {
        text.push_str(&format!(
            "[[route]]\nname = \"{name}\"\nmatch = {{ path = \"/{name}\" }}\nupstream = \"app\"\nplugins = [{uses}]\n"
        ));
    }
    text.push_str("[[route]]\nname = \"plain\"\nupstream = \"app\"\n");
    TestGateway::before(upstream, &text)
}

fn rogue(config: &str, policy: &str) -> String {
    format!("{{ name = \"rogue\", config = {{ {config} }}, failure_policy = \"{policy}\" }}")
}

/// What the guest does in the request phase, the code of the answer and the reason in the metrics.
const KINDS: &[(&str, &str, &str)] = &[
    ("loop", "plugin_deadline", "deadline"),
    ("fill", "plugin_deadline", "deadline"),
    ("bomb", "plugin_failed", "memory"),
    ("recurse", "plugin_failed", "trap"),
    ("trap", "plugin_failed", "trap"),
    ("flood", "plugin_failed", "trap"),
];

#[test]
fn a_failure_is_an_answer_under_the_closed_policy() {
    for (kind, code, reason) in KINDS {
        let upstream = TestUpstream::ok();
        let uses = rogue(&format!("request = [{{ do = \"{kind}\" }}]"), "closed");
        let gateway = gateway(&upstream, LIMITS, &[("bad", &uses)]);
        let mut client = Client::connect(gateway.addr());
        let response = client.get("/bad");
        assert_eq!((response.status, response.code().as_str()), (500, *code), "{kind}");
        let inside = response.text().replace("urn:wasmgate:", "");
        assert!(
            !inside.contains("wasm") && !inside.contains("rogue"),
            "the client learns nothing of the inside: {inside}"
        );
        assert_eq!(client.get("/").status, 200, "{kind}: the same connection goes on");
        let series = format!("wasmgate_plugin_failures_total{{plugin=\"rogue\",reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&series), 1.0, "{kind}: {}", gateway.metrics());
        assert_eq!(upstream.requests().len(), 1);
    }
}

#[test]
fn a_failure_is_skipped_under_the_open_policy() {
    for (kind, ..) in KINDS {
        let upstream = TestUpstream::ok();
        let uses = rogue(&format!("request = [{{ do = \"{kind}\" }}]"), "open");
        let gateway = gateway(&upstream, LIMITS, &[("bad", &uses)]);
        assert_eq!(gateway.get("/bad").text(), "ok", "{kind}");
        assert_eq!(gateway.get("/").text(), "ok", "{kind}");
        eventually!(!gateway.logged("rogue").is_empty(), "{kind}: the failure is in the log");
    }
}

/// A phase, and what the guest needs to get there.
const PHASES: &[(&str, &str)] = &[
    ("request", "request = [{ do = \"trap\" }]"),
    ("request-body", "request = [{ body = { buffer = 100 } }], request_body = [{ do = \"trap\" }]"),
    ("response", "response = [{ do = \"trap\" }]"),
    ("response-body", "response = [{ body = { buffer = 100 } }], response_body = [{ do = \"trap\" }]"),
];

#[test]
fn a_trap_in_any_phase_is_settled_by_the_policy() {
    for (phase, config) in PHASES {
        let upstream = TestUpstream::ok();
        let (closed, open) = (rogue(config, "closed"), rogue(config, "open"));
        let gateway = gateway(&upstream, LIMITS, &[("closed", &closed), ("open", &open)]);
        let mut client = Client::connect(gateway.addr());
        let mut post = |target: &str| {
            client
                .send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"))
                .response()
        };
        let response = post("/closed");
        assert_eq!((response.status, response.code().as_str()), (500, "plugin_failed"), "{phase}");
        assert_eq!(post("/open").text(), "ok", "{phase}");
        assert_eq!(post("/").text(), "ok", "{phase}");
    }
}

#[test]
fn a_trap_in_a_streamed_body_cuts_it_off() {
    let upstream = TestUpstream::start(|call| {
        call.body()?;
        call.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let config = "response = [{ body = \"stream\" }], response_body = [{ do = \"trap\" }]";
    let gateway = gateway(&upstream, LIMITS, &[("bad", &rogue(config, "closed"))]);
    let mut client = Client::connect(gateway.addr());
    client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.reader.response("GET").is_err(), "the answer cannot be whole");
    assert_eq!(gateway.get("/").text(), "ok");
    assert_eq!(gateway.access_lines(1)[0]["code"], "plugin_cut");
}

#[test]
fn a_trap_in_the_log_phase_reaches_nobody() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, LIMITS, &[("bad", &rogue("log = [{ do = \"trap\" }]", "closed"))]);
    let series = "wasmgate_plugin_failures_total{plugin=\"rogue\",reason=\"trap\"}";
    for count in 1..=3 {
        assert_eq!(gateway.get("/bad").text(), "ok");
        eventually!(gateway.metric(series) == f64::from(count));
    }
}

#[test]
fn an_error_is_a_failure_but_keeps_the_instance() {
    let upstream = TestUpstream::ok();
    let config = "init = [\"tell\"], request = [{ fail = \"out of luck\" }]";
    let gateway = gateway(&upstream, LIMITS, &[("bad", &rogue(config, "closed"))]);
    for _ in 0..8 {
        let response = gateway.get("/bad");
        assert_eq!(
            (response.status, response.code().as_str()),
            (500, "plugin_failed"),
            "no breaker for errors"
        );
    }
    assert!(!gateway.get("/bad").text().contains("luck"), "the text is for the log");
    eventually!(!gateway.logged("out of luck").is_empty());
    assert_eq!(gateway.logged("< init>").len(), 2, "one at load, one for all requests");
}

#[test]
fn garbage_from_a_guest_is_a_failure() {
    let upstream = TestUpstream::ok();
    let answers = [
        "status = 99",
        "status = 600",
        "status = 101",
        "headers = [[\"a b\", \"c\"]]",
        "headers = [[\"x\", \"a\\r\\nb: c\"]]",
        "headers = [[\"content-length\", \"5\"]]",
        "headers = [[\"transfer-encoding\", \"chunked\"]]",
    ];
    let uses: Vec<_> = answers
        .iter()
        .map(|answer| rogue(&format!("request = [{{ respond = {{ {answer} }} }}]"), "closed"))
        .collect();
    let names: Vec<_> = (0..answers.len()).map(|number| format!("bad{number}")).collect();
    let routes: Vec<_> = names.iter().map(String::as_str).zip(uses.iter().map(String::as_str)).collect();
    let gateway = gateway(&upstream, LIMITS, &routes);
    for (name, answer) in names.iter().zip(answers) {
        let response = gateway.get(&format!("/{name}"));
        assert_eq!((response.status, response.code().as_str()), (500, "plugin_failed"), "{answer}");
    }
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn strings_that_are_not_text_are_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("garbled.wasm");
    fs::write(&file, garbled()).unwrap();
    let gateway = TestGateway::before(
        &TestUpstream::ok(),
        &format!(
            "[plugin.garbled]\nfile = \"{}\"\n[[route]]\nname = \"bad\"\nupstream = \"app\"\n\
             plugins = [{{ name = \"garbled\", config = {{ request = [{{ when = \"x-go\" }}, {{ do = \"garble\" }}] }} }}]\n",
            file.display()
        ),
    );
    let response = wasmgate_tests::request(gateway.addr(), "GET", "/", "X-Go: 1\r\n");
    assert_eq!((response.status, response.code().as_str()), (500, "plugin_failed"));
    assert_eq!(gateway.get("/").text(), "ok");
}

#[test]
fn a_large_answer_within_the_limits_passes() {
    let config = "request = [{ respond = { bytes = 4000000 } }]";
    let gateway = gateway(&TestUpstream::ok(), LIMITS, &[("large", &rogue(config, "closed"))]);
    assert_eq!(gateway.get("/large").body.len(), 4_000_000);
}

#[test]
fn the_breaker_takes_a_failing_plugin_out_and_lets_it_back() {
    let breaker = format!("{LIMITS}breaker = {{ failures = 5, backoff = \"300ms\" }}\n");
    let uses = rogue("request = [{ first = 5 }, { do = \"trap\" }]", "closed");
    let gateway = gateway(&TestUpstream::ok(), &breaker, &[("bad", &uses)]);
    let mut client = Client::connect(gateway.addr());
    for _ in 0..5 {
        let response = client.get("/bad");
        assert_eq!((response.status, response.code().as_str()), (500, "plugin_failed"));
    }
    let response = client.get("/bad");
    assert_eq!((response.status, response.code().as_str()), (503, "plugin_broken"));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(gateway.logged("the breaker takes the plugin out").len(), 1);
    eventually!(gateway.get("/bad").status == 200);
    assert_eq!(client.get("/bad").status, 200);
}

#[test]
fn the_breaker_under_the_open_policy_skips() {
    let breaker = format!("{LIMITS}breaker = {{ failures = 2, backoff = \"60s\" }}\n");
    let gateway =
        gateway(&TestUpstream::ok(), &breaker, &[("bad", &rogue("request = [{ do = \"loop\" }]", "open"))]);
    for _ in 0..6 {
        assert_eq!(gateway.get("/bad").text(), "ok");
    }
    let count = |reason| {
        gateway.metric(&format!("wasmgate_plugin_failures_total{{plugin=\"rogue\",reason=\"{reason}\"}}"))
    };
    assert_eq!((count("deadline"), count("broken")), (2.0, 4.0));
}

#[test]
fn a_trial_that_fails_backs_off_longer() {
    let breaker =
        format!("{LIMITS}breaker = {{ failures = 1, backoff = \"100ms\", max_backoff = \"100ms\" }}\n");
    let gateway =
        gateway(&TestUpstream::ok(), &breaker, &[("bad", &rogue("request = [{ do = \"trap\" }]", "closed"))]);
    let trap = "wasmgate_plugin_failures_total{plugin=\"rogue\",reason=\"trap\"}";
    eventually!({
        gateway.get("/bad");
        gateway.metric(trap) >= 3.0
    });
    assert!(gateway.metric("wasmgate_plugin_failures_total{plugin=\"rogue\",reason=\"broken\"}") > 3.0);
}

#[test]
fn an_instance_that_cannot_start_later_is_a_failure_too() {
    for (kind, code) in [("trap", "plugin_failed"), ("loop", "plugin_deadline"), ("bomb", "plugin_failed")] {
        let config = format!("init = [{{ after = 1 }}, {{ do = \"{kind}\" }}]");
        let (closed, open) = (rogue(&config, "closed"), rogue(&config, "open"));
        let gateway = gateway(&TestUpstream::ok(), LIMITS, &[("closed", &closed), ("open", &open)]);
        let response = gateway.get("/closed");
        assert_eq!((response.status, response.code().as_str()), (500, code), "{kind}");
        assert_eq!(gateway.get("/open").text(), "ok", "{kind}");
    }
}

#[test]
fn a_fresh_instance_per_request_is_fresh() {
    let config = "init = [\"tell\"]";
    for (isolation, instances) in [("pool", 2), ("request", 4)] {
        let plugin = format!("{LIMITS}isolation = \"{isolation}\"\n");
        let only_request = "init = [\"tell\"], request = [\"trace\"]";
        let gateway = gateway(
            &TestUpstream::ok(),
            &plugin,
            &[("a", &rogue(only_request, "closed")), ("b", &rogue(config, "closed"))],
        );
        let before = gateway.logged("< init>").len();
        assert_eq!(before, 2, "each use is started once at load");
        for _ in 0..3 {
            gateway.get("/a");
        }
        gateway.access_lines(3);
        let started = || gateway.logged("< init>").len() - before;
        match isolation {
            "pool" => assert!(started() < instances, "{}", started()),
            // The log is read by another thread.
            _ => eventually!(started() >= instances - 1, "{}", started()),
        }
    }
}

#[test]
fn a_plugin_that_does_not_start_is_refused_with_its_place() {
    for (config, text) in [
        ("init = [{ fail = \"no such key\" }]", "no such key"),
        ("init = [{ do = \"trap\" }]", "trapped"),
        ("init = [{ do = \"loop\" }]", "time limit"),
        ("init = [{ do = \"bomb\" }]", "memory"),
    ] {
        let printed = TestGateway::refused(&format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n\
             [plugin]\nrogue = {{ file = \"{{guests}}/rogue.wasm\", limits = {{ time = \"2s\" }} }}\n\
             [[route]]\nname = \"all\"\nplugins = [{}]\n",
            rogue(config, "open")
        ));
        assert!(printed.contains(text) && printed.contains("gateway.toml:7:"), "{config}: {printed}");
    }
}

#[test]
fn what_is_no_plugin_is_refused() {
    let good = fs::read(guest("rogue")).unwrap();
    let files: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "is not WebAssembly"),
        ("random", b"\x7fELF and more bytes that mean nothing", "is not WebAssembly"),
        ("module", b"\0asm\x01\0\0\0", "is a core module"),
        ("component", b"\0asm\x0d\0\x01\0", "is not a plugin"),
        ("truncated", &good[..good.len() / 2], "cannot be compiled"),
        ("header", &good[..7], "is not WebAssembly"),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes, text) in files {
        fs::write(directory.path().join(name).with_extension("wasm"), bytes).unwrap();
        let config = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[plugins]\ndirectory = \".\"\n[[route]]\nname = \"all\"\nplugins = [\"{name}\"]\n"
        );
        fs::write(directory.path().join("gateway.toml"), config).unwrap();
        for command in ["check", "run"] {
            let output = run_in(directory.path(), &[command, "gateway.toml"]);
            assert_eq!(output.code, Some(1), "{name}: {output:?}");
            assert!(
                output.err.contains(text) && output.err.contains("gateway.toml:7:"),
                "{name}: {output:?}"
            );
        }
        let output = run_in(directory.path(), &["inspect", &format!("{name}.wasm")]);
        assert_eq!(output.code, Some(1), "{name}: {output:?}");
        assert!(output.err.contains(text), "{name}: {output:?}");
    }
}

#[test]
fn a_plugin_logs_no_more_than_its_rate_and_what_is_lost_is_counted() {
    let upstream = TestUpstream::ok();
    let uses = rogue("name = \"chatty\", request = [\"tell\"]", "closed");
    let gateway = gateway(&upstream, "limits = { log_rate = 1 }\n", &[("told", &uses)]);
    let mut client = Client::connect(gateway.addr());
    for _ in 0..30 {
        assert_eq!(client.get("/told").status, 200);
    }
    // A second may begin in between.
    assert!(gateway.metric("wasmgate_plugin_log_dropped_total{plugin=\"rogue\"}") >= 20.0);
    let lines = gateway.logged("chatty").len();
    assert!((1..10).contains(&lines), "{lines}");
}

#[test]
fn instances_are_bounded_over_all_workers() {
    let upstream = TestUpstream::ok();
    let gateway = TestGateway::before(
        &upstream,
        "[server]\nworkers = 4\n[plugins]\ndirectory = \"{plugins}\"\n[plugin.request-id]\nlimits.total_instances = 1\n\
         [[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [\"request-id\"]\n",
    );
    let address = gateway.addr();
    let clients = (0..8).map(|_| {
        std::thread::spawn(move || {
            let mut client = Client::connect(address);
            for _ in 0..10 {
                let response = client.get("/");
                assert_eq!((response.status, response.header("x-request-id").is_some()), (200, true));
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    // Without the bound every worker that served keeps one.
    let live = || gateway.metric("wasmgate_plugin_instances{plugin=\"request-id\"}");
    eventually!(live() <= 1.0, "{}", live());
}

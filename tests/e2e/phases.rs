//! What plugins see, when, and what they may change.

use wasmgate_tests::{Client, Gate, TestGateway, TestUpstream, eventually, fill, request};

/// Routes with chains of the guest, one worker.
fn gateway(upstream: &TestUpstream, routes: &str) -> TestGateway {
    let front = "[server]\nworkers = 1\n[plugin.rogue]\nfile = \"{guests}/rogue.wasm\"\nlimits = { log_rate = 100000 }\n";
    TestGateway::before(upstream, &format!("{front}{routes}"))
}

/// A route `all` with these uses of the guest.
fn chain(configs: &[&str]) -> String {
    let uses: Vec<_> =
        configs.iter().map(|c| format!("{{ name = \"rogue\", config = {{ {c} }} }}")).collect();
    format!("[[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [{}]\n", uses.join(", "))
}

/// What the guests told, in order, without the brackets.
fn told(gateway: &TestGateway) -> Vec<String> {
    let log = gateway.log();
    let lines = log.lines().filter_map(|line| line.split_once('<')?.1.rsplit_once('>').map(|(told, _)| told));
    lines.filter(|told| !told.starts_with("unnamed")).map(|told| told.replace("\\\"", "\"")).collect()
}

fn told_at_least(gateway: &TestGateway, count: usize) -> Vec<String> {
    eventually!(told(gateway).len() >= count, "told so far: {:#?}", told(gateway));
    told(gateway)
}

const TRACING: &str = "request = [\"trace\"], response = [\"trace\"]";

#[test]
fn requests_pass_forward_and_responses_in_reverse() {
    let upstream = TestUpstream::ok();
    let names = ["a", "b", "c"].map(|name| format!("name = \"{name}\", {TRACING}"));
    let gateway = gateway(&upstream, &chain(&names.each_ref().map(String::as_str)));
    let response = gateway.get("/");
    assert_eq!(upstream.request().head.fields.all("x-trace"), ["a request", "b request", "c request"]);
    assert_eq!(response.head.fields.all("x-trace"), ["c response", "b response", "a response"]);
}

#[test]
fn an_answer_unwinds_from_the_plugin_that_gave_it() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(
        &upstream,
        &chain(&[
            &format!("name = \"a\", {TRACING}"),
            "name = \"b\", request = [\"trace\", { respond = { status = 403, code = \"no\", detail = \"Not you.\" } }], response = [\"trace\", \"tell\"]",
            &format!("name = \"c\", {TRACING}"),
        ]),
    );
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (403, "no"));
    assert!(response.text().contains("Not you."));
    assert_eq!(response.head.fields.all("x-trace"), ["b response", "a response"]);
    assert_eq!(told_at_least(&gateway, 1), ["b response 403 gateway"]);
    assert!(upstream.requests().is_empty());
    assert_eq!(gateway.access_lines(1)[0]["code"], "no");
}

#[test]
fn an_answer_in_the_response_phase_replaces_the_upstreams() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(
        &upstream,
        &chain(&[
            "name = \"a\", response = [\"trace\", \"tell\"]",
            "name = \"b\", response = [{ respond = { status = 418, body = \"tea\", headers = [[\"x-kind\", \"pot\"]] } }]",
            "name = \"c\", response = [\"trace\"]",
        ]),
    );
    let response = gateway.get("/");
    assert_eq!((response.status, response.text().as_str()), (418, "tea"));
    assert_eq!(response.header("x-kind"), Some("pot"));
    assert_eq!(response.head.fields.all("x-trace"), ["a response"]);
    assert_eq!(told_at_least(&gateway, 1), ["a response 418 gateway"]);
    assert_eq!(gateway.get("/").status, 418, "the upstream's connection is fine");
}

#[test]
fn variables_live_across_plugins_and_phases() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(
        &upstream,
        &chain(&[
            "name = \"a\", request = [{ set_var = [\"v\", \"from a\"] }], response = [{ show_var = \"w\" }]",
            "name = \"b\", request = [{ show_var = \"v\" }, { show_var = \"none\" }], response = [{ set_var = [\"w\", \"from b\"] }]",
        ]),
    );
    let response = gateway.get("/");
    assert_eq!(upstream.request().head.fields.all("x-var"), ["b from a", "b none"]);
    assert_eq!(response.header("x-var"), Some("a from b"));
}

#[test]
fn a_plugin_rewrites_the_request() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(
        &upstream,
        &chain(&[
            "request = [{ set_method = \"PUT\" }, { set_target = \"/new?x=1\" }, { set_authority = \"b.test\" }], \
             response = [{ set_status = 202 }]",
        ]),
    );
    assert_eq!(gateway.get("/old").status, 202);
    let request = upstream.request();
    assert_eq!(
        (request.head.start.as_str(), request.header("host")),
        ("PUT /new?x=1 HTTP/1.1", Some("b.test"))
    );
}

#[test]
fn a_plugin_chooses_the_upstream_among_those_it_is_granted() {
    let (first, second) = (TestUpstream::ok(), TestUpstream::ok());
    let config = fill(
        "[upstream.other]\nendpoints = [\"{other}\"]\n[plugin.bound]\nfile = \"{guests}/rogue.wasm\"\nupstreams = [\"app\"]\n",
        &[("other", &second.address())],
    );
    let set = "config = { request = [{ set_upstream = \"other\" }] }";
    let routes = format!(
        "[[route]]\nname = \"free\"\nupstream = \"app\"\nmatch = {{ path = \"/free\" }}\nplugins = [{{ name = \"rogue\", {set} }}]\n\
         [[route]]\nname = \"bound\"\nupstream = \"app\"\nmatch = {{ path = \"/bound\" }}\nplugins = [{{ name = \"bound\", {set} }}]\n"
    );
    let gateway = gateway(&first, &format!("{config}{routes}"));
    assert_eq!(gateway.get("/free").status, 200);
    assert_eq!((first.requests().len(), second.requests().len()), (0, 1));
    assert_eq!(gateway.get("/bound").status, 500, "the guest returns the host's refusal as its error");
    assert_eq!(gateway.access_lines(1)[0]["upstream"], "other");
}

#[test]
fn the_log_phase_comes_exactly_once() {
    let asked = Gate::new();
    let gate = asked.clone();
    let upstream = TestUpstream::start(move |call| match call.head.start.contains("/slow") {
        true => {
            gate.open();
            call.wait_for_end()
        }
        false => {
            call.body()?;
            call.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
    });
    let gateway = gateway(
        &upstream,
        &chain(&[
            "name = \"a\", log = [\"tell\"]",
            "name = \"b\", request = [{ when = \"x-trap\" }, { do = \"trap\" }]",
        ]),
    );
    request(gateway.addr(), "GET", "/good", "");
    assert_eq!(told_at_least(&gateway, 1)[0], "a log /good 200 none app in=0 out=2");
    let response = request(gateway.addr(), "GET", "/trap", "X-Trap: 1\r\n");
    assert_eq!(response.status, 500);
    let length = response.body.len();
    assert_eq!(
        told_at_least(&gateway, 2)[1],
        format!("a log /trap 500 plugin_failed none in=0 out={length}")
    );
    let mut client = Client::connect(gateway.addr());
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    asked.wait();
    drop(client);
    assert_eq!(told_at_least(&gateway, 3)[2], "a log /slow 499 client_closed app in=0 out=0");
    let mut client = Client::connect(gateway.addr());
    client.send("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").response();
    assert_eq!(told_at_least(&gateway, 4)[3], "a log /post 200 none app in=4 out=2");
    assert_eq!(told(&gateway).len(), 4, "none of them twice: {:#?}", told(&gateway));
}

#[test]
fn a_request_without_route_sees_no_plugin() {
    let upstream = TestUpstream::ok();
    let routes = chain(&["name = \"a\", request = [\"tell\"], log = [\"tell\"]"]);
    let gateway =
        gateway(&upstream, &routes.replace("upstream =", "match = { path = \"/one\" }\nupstream ="));
    assert_eq!(gateway.get("/none").status, 404);
    gateway.get("/one");
    assert_eq!(told_at_least(&gateway, 2)[1], "a log /one 200 none app in=0 out=2");
    assert_eq!(told(&gateway).len(), 2);
    assert_eq!(gateway.access_lines(2)[0]["code"], "route_not_found");
}

fn post(gateway: &TestGateway, body: &str) -> wasmgate_tests::Response {
    let mut client = Client::connect(gateway.addr());
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    client.response()
}

#[test]
fn without_a_mode_no_body_is_seen() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(
        &upstream,
        &chain(&["name = \"a\", request_body = [\"tell\"], response_body = [\"tell\"], log = [\"tell\"]"]),
    );
    assert_eq!(post(&gateway, "hello").text(), "hello");
    assert_eq!(told_at_least(&gateway, 1), ["a log / 200 none app in=5 out=5"]);
}

/// The same on both sides: config of the request's body, or of the response's.
fn sides(mode: &str, action: &str) -> [(&'static str, String); 2] {
    ["request", "response"].map(|side| {
        (side, format!("name = \"a\", {side} = [{{ body = {mode} }}], {side}_body = [\"tell\", {action}]"))
    })
}

#[test]
fn a_buffered_body_comes_whole_and_can_be_replaced() {
    for (side, config) in sides("{ buffer = 100 }", "\"upper\"") {
        let upstream = TestUpstream::echo();
        let gateway = gateway(&upstream, &chain(&[&config]));
        let mut client = Client::connect(gateway.addr());
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n");
        let response = client.response();
        assert_eq!(
            (response.text().as_str(), response.header("content-length")),
            ("HELLO", Some("5")),
            "{side}"
        );
        assert_eq!(told_at_least(&gateway, 1), [format!("a {side}-body 5 \"hello\" end=true")]);
    }
}

#[test]
fn a_replaced_body_has_its_own_length() {
    for (side, config) in sides("{ buffer = 100 }", "{ replace = \"a longer body than before\" }") {
        let upstream = TestUpstream::echo();
        let gateway = gateway(&upstream, &chain(&[&config]));
        assert_eq!(post(&gateway, "short").text(), "a longer body than before", "{side}");
        if side == "request" {
            assert_eq!(upstream.request().header("content-length"), Some("25"));
        }
    }
    for (side, config) in sides("{ buffer = 100 }", "{ replace = \"\" }") {
        let gateway = gateway(&TestUpstream::echo(), &chain(&[&config]));
        assert_eq!(post(&gateway, "short").text(), "", "{side}: an empty list drops it");
    }
}

#[test]
fn an_emptied_body_is_announced_only_where_one_is_expected() {
    let config = "request = [{ body = { buffer = 100 } }], request_body = [{ replace = \"\" }]";
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, &chain(&[config]));
    // RFC 9110, section 8.6.
    for (method, length) in [("POST", Some("0")), ("DELETE", None), ("GET", None), ("PURGE", None)] {
        let mut client = Client::connect(gateway.addr());
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"));
        assert_eq!(client.response().status, 200, "{method}");
        let requests = upstream.requests();
        let request = requests.last().expect("it arrived");
        assert_eq!(request.header("content-length"), length, "{method}");
        assert_eq!(request.header("transfer-encoding"), None, "{method}");
    }
}

#[test]
fn bodies_of_every_framing_pass_plugins() {
    let answers = [
        "200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "206 Partial Content\r\nContent-Range: bytes 0-4/9\r\nContent-Length: 5\r\n\r\nhello",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        // To the end of the connection.
        "200 OK\r\n\r\nhello",
    ];
    for mode in ["\"stream\"", "{ buffer = 100 }", "{ peek = 100 }"] {
        let upstream = TestUpstream::start(move |call| {
            let number: usize = call.head.target()[1..].parse().unwrap();
            call.body()?;
            call.write(format!("HTTP/1.1 {}", answers[number]))?;
            if number == 3 { call.close() } else { Ok(()) }
        });
        let config = format!(
            "request = [{{ body = {mode} }}], request_body = [\"upper\"], \
             response = [{{ body = {mode} }}], response_body = [\"upper\"]"
        );
        let gateway = gateway(&upstream, &chain(&[&config]));
        let mut client = Client::connect(gateway.addr());
        for number in 0..answers.len() {
            for framing in [
                "Content-Length: 5\r\n\r\nhello",
                "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ] {
                let (fields, body) = framing.split_once("\r\n\r\n").unwrap();
                client.send(format!(
                    "POST /{number} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{fields}\r\n\r\n"
                ));
                assert_eq!(client.response().status, 100);
                let response = client.send(body).response();
                assert_eq!(response.text(), "HELLO", "{mode} {number} {fields}");
                let request = upstream.take_requests().pop().expect("the request");
                assert_eq!(request.body, b"HELLO", "{mode} {number} {fields}");
            }
        }
    }
}

#[test]
fn trailers_pass_plugins_in_any_mode() {
    let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
    let asked = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\nX-Check: 5\r\n\r\n";
    for (mode, check, sum) in [
        ("\"none\"", "5", "7"),
        ("\"stream\"", "5!", "7!"),
        ("{ buffer = 100 }", "5!", "7!"),
        ("{ peek = 100 }", "5!", "7!"),
        // It is not asked about the end.
        ("{ peek = 1 }", "5", "7"),
    ] {
        let upstream = TestUpstream::answering(answer);
        let config = format!(
            "request = [{{ body = {mode} }}], request_body = [\"trailers\"], \
             response = [{{ body = {mode} }}], response_body = [\"trailers\"]"
        );
        let gateway = gateway(&upstream, &chain(&[&config]));
        let mut client = Client::connect(gateway.addr());
        client.send(asked);
        let response = client.response();
        assert_eq!((response.text().as_str(), response.trailers.get("x-sum")), ("ok", Some(sum)), "{mode}");
        let request = upstream.request();
        assert_eq!((&request.body[..], request.trailers.get("x-check")), (&b"hi"[..], Some(check)), "{mode}");
    }
}

#[test]
fn a_body_beyond_the_buffer_is_refused() {
    for (side, config) in sides("{ buffer = 4 }", "\"upper\"") {
        let gateway = gateway(&TestUpstream::echo(), &chain(&[&config]));
        let response = post(&gateway, "hello");
        let expected =
            if side == "request" { (413, "payload_too_large") } else { (502, "response_too_large") };
        assert_eq!((response.status, response.code().as_str()), expected);
        assert_eq!(post(&gateway, "hell").text(), "HELL", "{side}: just within the limit");
    }
}

#[test]
fn the_hosts_own_bound_holds_besides() {
    for (side, config) in sides("{ buffer = 1000000 }", "\"upper\"") {
        let text = chain(&[&config]).replace("\"rogue\"", "\"small\"");
        let plugin = "[plugin.small]\nfile = \"{guests}/rogue.wasm\"\nlimits = { body = \"4B\" }\n";
        let gateway = gateway(&TestUpstream::echo(), &format!("{plugin}{text}"));
        let status = post(&gateway, "hello").status;
        assert_eq!(status, if side == "request" { 413 } else { 502 }, "{side}");
    }
}

#[test]
fn a_peek_sees_the_beginning_and_the_rest_flows_by() {
    for (side, config) in sides("{ peek = 4 }", "\"upper\"") {
        let gateway = gateway(&TestUpstream::echo(), &chain(&[&config]));
        assert_eq!(post(&gateway, "hello world").text(), "HELLo world", "{side}");
        assert_eq!(post(&gateway, "hi").text(), "HI", "{side}");
        let expected =
            [format!("a {side}-body 4 \"hell\" end=false"), format!("a {side}-body 2 \"hi\" end=true")];
        assert_eq!(told_at_least(&gateway, 2), expected);
    }
}

#[test]
fn a_streamed_body_comes_piece_by_piece_with_an_empty_end() {
    for (side, config) in sides("\"stream\"", "\"upper\"") {
        let upstream = TestUpstream::echo();
        let gateway = gateway(&upstream, &chain(&[&config]));
        let response = post(&gateway, "hello");
        assert_eq!(response.text(), "HELLO", "{side}");
        let told = told_at_least(&gateway, 2);
        assert_eq!(told.last().unwrap(), &format!("a {side}-body 0 \"\" end=true"));
        assert_eq!(told.iter().filter(|line| line.ends_with("end=true")).count(), 1);
        assert!(told[0].starts_with(&format!("a {side}-body 5 \"hello\" end=false")), "{told:?}");
    }
}

#[test]
fn a_streamed_body_is_not_held_back() {
    let upstream = TestUpstream::start(|call| {
        call.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")?;
        // Goes on only when the client has told that it got the first piece.
        call.body()?;
        call.write("3\r\ndef\r\n0\r\n\r\n")
    });
    let config = "response = [{ body = \"stream\" }], response_body = [\"upper\"]";
    let gateway = gateway(&upstream, &chain(&[config]));
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    client.reader.head().unwrap();
    assert_eq!(client.reader.exactly(8).unwrap(), b"3\r\nABC\r\n");
    client.send("go");
    assert_eq!(client.reader.exactly(13).unwrap(), b"3\r\nDEF\r\n0\r\n\r\n");
}

#[test]
fn a_body_phase_answers() {
    for mode in ["{ buffer = 100 }", "{ peek = 2 }"] {
        for (side, config) in sides(mode, "{ respond = { status = 422, code = \"bad_body\" } }") {
            let upstream = TestUpstream::echo();
            let gateway = gateway(&upstream, &chain(&[&config]));
            let response = post(&gateway, "hello");
            assert_eq!((response.status, response.code().as_str()), (422, "bad_body"), "{side} {mode}");
            assert_eq!(upstream.requests().len(), usize::from(side == "response"), "{side} {mode}");
        }
    }
}

#[test]
fn an_answer_in_a_streamed_request_body_reaches_the_client() {
    let (_, config) = &sides("\"stream\"", "{ respond = { status = 422, code = \"bad_body\" } }")[0];
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream, &chain(&[config]));
    let response = post(&gateway, "hello");
    assert_eq!((response.status, response.code().as_str()), (422, "bad_body"));
    assert!(upstream.requests().is_empty(), "it saw no whole request");
}

#[test]
fn an_answer_in_a_streamed_response_body_cuts_it_off() {
    let (_, config) = &sides("\"stream\"", "{ respond = { status = 422 } }")[1];
    let gateway = gateway(&TestUpstream::echo(), &chain(&[config]));
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert!(client.reader.response("POST").is_err());
    assert_eq!(gateway.access_lines(1)[0]["code"], "plugin_cut");
}

#[test]
fn bodies_pass_all_plugins_that_asked() {
    let on = |name: &str, action: &str| {
        format!(
            "name = \"{name}\", request = [{{ body = {{ buffer = 100 }} }}], request_body = [\"tell\", {action}]"
        )
    };
    let gateway =
        gateway(&TestUpstream::echo(), &chain(&[&on("a", "{ replace = \"one\" }"), &on("b", "\"upper\"")]));
    assert_eq!(post(&gateway, "zero").text(), "ONE");
    assert_eq!(
        told_at_least(&gateway, 2),
        ["a request-body 4 \"zero\" end=true", "b request-body 3 \"one\" end=true"]
    );
}

#[test]
fn responses_without_body_pass_no_body_phase() {
    let upstream = TestUpstream::answering("HTTP/1.1 304 Not Modified\r\n\r\n");
    let config = "response = [{ body = { buffer = 100 } }], response_body = [{ do = \"trap\" }]";
    let gateway = gateway(&upstream, &chain(&[config]));
    assert_eq!(gateway.get("/").status, 304);
}

/// What the host says to each bad call; `ok` where the phase may change the thing.
fn expected(
    phase: &str,
    request_open: bool,
    response_open: Option<bool>,
    modes: bool,
    log: bool,
) -> Vec<String> {
    let open = |open: bool, word: &'static str| if open { word } else { "Immutable" };
    let mut rows = vec![
        ("request set-header name", open(request_open, "InvalidName")),
        ("request set-header value", open(request_open, "InvalidValue")),
        ("request set-header large", open(request_open, "TooLarge")),
        ("request set-header forbidden", open(request_open, "Forbidden")),
        ("request append-header forbidden", open(request_open, "Forbidden")),
        ("request remove-header name", open(request_open, "InvalidName")),
        ("request set-method", "InvalidValue"),
        ("request set-method connect", "Forbidden"),
        ("request set-authority", "InvalidValue"),
        ("request set-target", "InvalidValue"),
        ("request set-upstream", "Unknown"),
        ("request set-header good", open(request_open, "ok")),
        ("request set-body-mode", open(modes && response_open.is_none(), "ok")),
        ("request set-trailer", open(phase == "request-body" && request_open, "ok")),
        ("request set-var large", open(!log, "TooLarge")),
        ("request set-var good", open(!log, "ok")),
    ];
    if let Some(response_open) = response_open {
        rows.extend([
            ("response set-header name", open(response_open, "InvalidName")),
            ("response set-header value", open(response_open, "InvalidValue")),
            ("response set-header large", open(response_open, "TooLarge")),
            ("response set-header forbidden", open(response_open, "Forbidden")),
            ("response set-trailer", open(phase == "response-body" && response_open, "ok")),
            ("response remove-trailer", open(phase == "response-body" && response_open, "ok")),
            ("response set-status", "InvalidValue"),
            ("response set-status interim", "InvalidValue"),
            ("response set-header good", open(response_open, "ok")),
            ("response set-body-mode", open(modes, "ok")),
        ]);
    }
    rows.iter().map(|(call, word)| format!("a {phase} {call}: {word}")).collect()
}

#[test]
fn bad_calls_are_refused_with_their_reason_and_never_trap() {
    let modes = "{ body = { buffer = 100 } }";
    let cases = [
        (
            "request",
            format!("request = [\"bad_calls\", {modes}]"),
            expected("request", true, None, true, false),
        ),
        (
            "request-body",
            format!("request = [{modes}], request_body = [\"bad_calls\"]"),
            expected("request-body", true, None, false, false),
        ),
        (
            "response",
            format!("response = [\"bad_calls\", {modes}]"),
            expected("response", false, Some(true), true, false),
        ),
        (
            "response-body",
            format!("response = [{modes}], response_body = [\"bad_calls\"]"),
            expected("response-body", false, Some(true), false, false),
        ),
        ("log", "log = [\"bad_calls\"]".to_owned(), expected("log", false, Some(false), false, true)),
    ];
    for (phase, config, expected) in cases {
        let gateway = gateway(&TestUpstream::echo(), &chain(&[&format!("name = \"a\", {config}")]));
        assert_eq!(post(&gateway, "hello").text(), "hello", "{phase}");
        assert_eq!(told_at_least(&gateway, expected.len()), expected, "{phase}");
        assert!(gateway.logged("trapped").is_empty(), "{phase}");
    }
}

#[test]
fn heads_are_immutable_once_a_streamed_body_flows() {
    let config =
        "name = \"a\", request = [{ body = \"stream\" }], request_body = [{ first = 1 }, \"bad_calls\"]";
    let gateway = gateway(&TestUpstream::echo(), &chain(&[config]));
    assert_eq!(post(&gateway, "hello").text(), "hello");
    let expected = expected("request-body", false, None, false, false);
    assert_eq!(told_at_least(&gateway, expected.len()), expected);
}

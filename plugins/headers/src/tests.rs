use wasmgate_sdk::serde_json::{Value, json};
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request, Response};

use super::*;

fn load(config: &Value) -> Loaded<Headers> {
    Host::new().load(&config.to_string()).unwrap()
}

fn refused(config: Value) -> String {
    Host::new().load::<Headers>(&config.to_string()).err().unwrap().to_string()
}

fn send(rules: Value, request: Request) -> Outcome {
    load(&json!({ "request": rules })).send(request)
}

fn answer(rules: Value, request: Request, response: Response) -> Outcome {
    load(&json!({ "response": rules })).exchange(request, response)
}

/// What `x` is set to.
fn value(template: &str, request: Request) -> Option<String> {
    send(json!({"set": {"x": template}}), request).request().header_str("x")
}

fn lines(values: Vec<Vec<u8>>) -> Vec<String> {
    values.into_iter().map(|value| String::from_utf8(value).unwrap()).collect()
}

#[test]
fn remove_takes_all_values() {
    let request = Request::get("/").header("x-a", "1").header("X-A", "2").header("x-b", "3");
    let outcome = send(json!({"remove": ["X-a", "x-absent"]}), request);
    assert!(outcome.sent);
    assert_eq!(outcome.request().header("x-a"), None);
    assert_eq!(outcome.request().header_str("x-b").as_deref(), Some("3"));
}

#[test]
fn rename_moves_all_values_and_overwrites() {
    let request = Request::get("/").header("x-a", "1").header("x-b", "lost").header("x-a", "2");
    let outcome = send(json!({"rename": {"X-A": "X-B"}}), request);
    assert_eq!(lines(outcome.request().header_all("x-b")), ["1", "2"]);
    assert_eq!(outcome.request().header("x-a"), None);
}

#[test]
fn rename_of_an_absent_header_leaves_the_new_name_alone() {
    let outcome = send(json!({"rename": {"x-a": "x-b"}}), Request::get("/").header("x-b", "kept"));
    assert_eq!(outcome.request().header_str("x-b").as_deref(), Some("kept"));
}

#[test]
fn replace_needs_the_header_and_add_its_absence() {
    let request = || Request::get("/").header("x-a", "old").header("x-a", "older");
    let replaced = send(json!({"replace": {"x-a": "new", "x-b": "new"}}), request());
    assert_eq!(lines(replaced.request().header_all("x-a")), ["new"]);
    assert_eq!(replaced.request().header("x-b"), None);
    let added = send(json!({"add": {"x-a": "new", "x-b": "new"}}), request());
    assert_eq!(lines(added.request().header_all("x-a")), ["old", "older"]);
    assert_eq!(lines(added.request().header_all("x-b")), ["new"]);
}

#[test]
fn append_keeps_the_others_and_set_does_not() {
    let request = || Request::get("/").header("x-a", "old");
    let appended = send(json!({"append": {"x-a": "new", "x-b": "new"}}), request());
    assert_eq!(lines(appended.request().header_all("x-a")), ["old", "new"]);
    assert_eq!(lines(appended.request().header_all("x-b")), ["new"]);
    let set = send(json!({"set": {"x-a": "new", "x-b": "new"}}), request());
    assert_eq!(lines(set.request().header_all("x-a")), ["new"]);
    assert_eq!(lines(set.request().header_all("x-b")), ["new"]);
}

#[test]
fn operations_go_in_their_order() {
    let rules = json!({
        "set": {"x-last": "${header.x-b}"},
        "append": {"x-b": "appended"},
        "add": {"x-a": "added", "x-b": "not added"},
        "replace": {"x-a": "not replaced", "x-b": "replaced"},
        "rename": {"x-a": "x-b"},
        "remove": ["x-b"],
    });
    let outcome = send(rules, Request::get("/").header("x-a", "a").header("x-b", "b"));
    let request = outcome.request();
    assert_eq!(lines(request.header_all("x-b")), ["replaced", "appended"]);
    assert_eq!(request.header_str("x-a").as_deref(), Some("added"));
    assert_eq!(request.header_str("x-last").as_deref(), Some("replaced"));
}

#[test]
fn templates_read_the_request() {
    let request = || {
        Request::new("PUT", "/users/7?q=a%20b")
            .authority("api.test:8080")
            .client_ip("203.0.113.9")
            .route("users")
            .path_param("id", "7")
            .var("consumer", "alice")
            .header("x-in", "in")
    };
    for (template, expected) in [
        ("fixed", "fixed"),
        ("", ""),
        ("${header.X-In}", "in"),
        ("${request.header.x-in}", "in"),
        ("${header.host}", "api.test:8080"),
        ("${query.q}", "a b"),
        ("${path.id}", "7"),
        ("${var.consumer}", "alice"),
        ("${client.ip}", "203.0.113.9"),
        ("${request.method}", "PUT"),
        ("${request.path}", "/users/7"),
        ("${request.host}", "api.test:8080"),
        ("${request.scheme}", "http"),
        ("${route}", "users"),
        ("${now}", "1767225600"),
        ("<${var.consumer}-${path.id}>", "<alice-7>"),
        ("$${header.x-in}", "${header.x-in}"),
        ("$$${now}", "$${now}"),
        ("a$b $ {c}", "a$b $ {c}"),
        ("${ var.consumer | upper }", "ALICE"),
    ] {
        assert_eq!(value(template, request()).as_deref(), Some(expected), "{template}");
    }
}

#[test]
fn filters_apply_from_left_to_right() {
    let request = || Request::get("/").header("x-in", "A b/\u{e9}~");
    for (template, expected) in [
        ("${header.x-in|lower}", "a b/\u{e9}~"),
        ("${header.x-in|upper}", "A B/\u{e9}~"),
        ("${header.x-in|urlencode}", "A%20b%2F%C3%A9~"),
        ("${header.x-in|urlencode|lower}", "a%20b%2f%c3%a9~"),
        ("${header.x-in|default('no')}", "A b/\u{e9}~"),
        ("${header.no|default('D|}e')|lower}", "d|}e"),
        ("${header.no|lower|default('D')}", "D"),
        ("${header.no|default('')}", ""),
    ] {
        assert_eq!(value(template, request()).as_deref(), Some(expected), "{template}");
    }
}

#[test]
fn bytes_pass_as_they_are() {
    let outcome = send(json!({"set": {"x": "${header.y|upper}"}}), Request::get("/").header("y", b"a\xff"));
    assert_eq!(outcome.request().header("x").as_deref(), Some(&b"A\xff"[..]));
}

#[test]
fn a_missing_value_skips_the_operation() {
    for template in
        ["${header.no}", "${query.no}", "${path.no}", "${var.no}", "a-${header.no}", "${var.no|lower}"]
    {
        for operation in ["replace", "append", "set"] {
            let outcome = send(json!({operation: {"x": template}}), Request::get("/").header("x", "kept"));
            assert!(outcome.sent);
            assert_eq!(lines(outcome.request().header_all("x")), ["kept"], "{operation} {template}");
        }
        let outcome = send(json!({"add": {"x": template}}), Request::get("/"));
        assert_eq!(outcome.request().header("x"), None, "{template}");
    }
}

#[test]
fn an_empty_value_is_not_a_missing_one() {
    let request = Request::get("/?q=").header("x", "old");
    assert_eq!(value("${query.q|default('d')}", request).as_deref(), Some(""));
}

#[test]
fn a_value_that_no_header_can_hold_is_a_bad_request() {
    for query in ["a%0d%0ax-admin:1", "%00", "%0a", "%7f"] {
        for operation in ["add", "append", "set"] {
            let outcome =
                send(json!({operation: {"x": "${query.q}"}}), Request::get(&format!("/?q={query}")));
            assert!(!outcome.sent, "{operation} {query}");
            assert_eq!(outcome.response().status(), 400);
            assert_eq!(outcome.code.as_deref(), Some("invalid_transform"));
            assert_eq!(outcome.answer.unwrap().body, None);
        }
    }
    assert_eq!(value("${query.q|urlencode}", Request::get("/?q=%0d%0a")).as_deref(), Some("%0D%0A"));
}

#[test]
fn a_value_beyond_the_hosts_limit_is_a_bad_request() {
    let request = Request::get("/").header("x-long", "a".repeat(12 * 1024));
    let outcome = send(json!({"set": {"x": "${header.x-long}${header.x-long}"}}), request);
    assert_eq!((outcome.sent, outcome.response().status()), (false, 400));
    assert_eq!(outcome.code.as_deref(), Some("invalid_transform"));
}

#[test]
fn response_rules_change_the_response() {
    let rules = json!({
        "remove": ["server"],
        "rename": {"x-a": "x-b"},
        "replace": {"cache-control": "no-store"},
        "add": {"x-frame-options": "DENY"},
        "append": {"vary": "origin"},
        "set": {
            "x-status": "${status}",
            "x-of-response": "${header.x-tag}",
            "x-of-request": "${request.header.x-tag}",
        },
    });
    let response = Response::new(404)
        .header("server", "nginx")
        .header("x-a", "1")
        .header("x-a", "2")
        .header("cache-control", "public")
        .header("vary", "accept")
        .header("x-tag", "response");
    let outcome = answer(rules, Request::get("/").header("x-tag", "request"), response);
    let response = outcome.response();
    assert_eq!((response.status(), response.header("server"), response.header("x-a")), (404, None, None));
    assert_eq!(lines(response.header_all("x-b")), ["1", "2"]);
    assert_eq!(lines(response.header_all("vary")), ["accept", "origin"]);
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
        ("x-status", "404"),
        ("x-of-response", "response"),
        ("x-of-request", "request"),
    ] {
        assert_eq!(response.header_str(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(outcome.request().header("x-status"), None);
}

#[test]
fn what_no_response_can_hold_is_left_out() {
    let rules = json!({"set": {"x-bad": "${query.q}", "x-good": "1"}, "append": {"x-old": "${query.q}"}});
    let response = Response::new(200).header("x-old", "kept");
    let outcome = answer(rules, Request::get("/?q=a%0d%0ab"), response);
    let response = outcome.response();
    assert_eq!((response.status(), response.header("x-bad")), (200, None));
    assert_eq!(lines(response.header_all("x-old")), ["kept"]);
    assert_eq!(response.header_str("x-good").as_deref(), Some("1"));
}

#[test]
fn only_the_phases_with_rules_are_needed() {
    let phases = |config| load(&config).plugin().phases();
    let rules = json!({"remove": ["x"]});
    assert_eq!(phases(json!({})), Phases::empty());
    assert_eq!(phases(json!({ "request": rules })), Phases::REQUEST);
    assert_eq!(phases(json!({"response": {"set": {"x": "1"}}})), Phases::RESPONSE);
    assert_eq!(phases(json!({ "request": rules, "response": rules })), Phases::REQUEST | Phases::RESPONSE);
}

#[test]
fn bad_templates_are_refused() {
    for (template, error) in [
        ("${", "`` is never closed by `}`"),
        ("a ${header.x", "`header.x` is never closed by `}`"),
        ("${header.x|lower", "`lower` is never closed by `}`"),
        ("${header.}", "`${header.}`: \"\" is not a name"),
        ("${header.x y}", "`${header.x y}`: \"x y\" is not a name"),
        ("${header.x|shout}", "the filter `shout` is not known, expected default('TEXT')"),
        ("${header.x|default}", "the filter `default` is not known, expected default('TEXT')"),
        ("${header.x|default(d)}", "expected default('TEXT') at `default(d)}`"),
        ("${header.x|default('d'}", "expected default('TEXT') at `default('d'}`"),
        ("${header.x|default('d')lower}", "`|` or `}` is missing before `lower}`"),
        ("a\nb", "holds a control character"),
        ("${header.x|default('\u{0}')}", "holds a control character"),
    ] {
        let message = refused(json!({"request": {"set": {"x-a": template}}}));
        assert!(message.starts_with(&format!("request.set.x-a: {error}")), "{template}: {message}");
    }
    let message = refused(json!({"response": {"add": {"x": "${heder.x}"}}}));
    assert!(
        message.starts_with("response.add.x: `${heder.x}` is not known, expected header.NAME"),
        "{message}"
    );
}

#[test]
fn bad_rules_are_refused() {
    assert_eq!(
        refused(json!({"request": {"append": {"x": "a ${status}"}}})),
        "request.append.x: `${status}` is known in `response` only"
    );
    assert_eq!(
        refused(json!({"request": {"rename": {"X-A": "x-a"}}})),
        "request.rename.x-a: is its own new name"
    );
    for (rules, error) in [
        (json!({"remove": ["x-a", "x y"]}), "remove[1]: `x y` is not a header name"),
        (json!({"remove": [""]}), "remove[0]: `` is not a header name"),
        (json!({"remove": ["Content-Length"]}), "remove[0]: `content-length` is the gateway's to set"),
        (json!({"set": {"host": "a"}}), "set.host: `host` is the gateway's to set"),
        (json!({"rename": {"x": "connection"}}), "rename.x: `connection` is the gateway's to set"),
        (json!({"set": {"x": 1}}), "set.x: invalid type: integer `1`, expected a string"),
        (json!({"set": {"a": "1", "A": "2"}}), "set: `a` is given twice"),
        (json!({"rename": {"X-a": "b", "x-A": "c"}}), "rename: `x-a` is given twice"),
        (json!({"delete": ["x"]}), "delete: unknown field `delete`"),
    ] {
        let message = refused(json!({ "response": rules }));
        assert!(message.starts_with(&format!("response.{error}")), "{message}");
    }
}

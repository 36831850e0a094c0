use wasmgate_sdk::serde_json::{self, Value, json};
use wasmgate_sdk::testing::{Host, Outcome, Request};

use super::*;

fn send(config: Value, request: Request) -> Outcome {
    Host::new().load::<Respond>(&config.to_string()).unwrap().send(request)
}

fn refused(config: Value) -> String {
    Host::new().load::<Respond>(&config.to_string()).err().unwrap().to_string()
}

fn body(outcome: &Outcome) -> &str {
    std::str::from_utf8(&outcome.response_body).unwrap()
}

fn content_type(outcome: &Outcome) -> Option<String> {
    outcome.response().header_str("content-type")
}

fn echo(config: Value, request: Request) -> Value {
    let mut config = config;
    config["echo"] = true.into();
    let outcome = send(config, request);
    assert!(!outcome.sent);
    assert_eq!(content_type(&outcome).as_deref(), Some("application/json"));
    serde_json::from_slice(&outcome.response_body).unwrap()
}

#[test]
fn the_default_is_an_empty_200() {
    let outcome = send(json!(null), Request::get("/"));
    assert_eq!((outcome.sent, outcome.response().status(), body(&outcome)), (false, 200, ""));
    assert_eq!((content_type(&outcome), outcome.code), (None, None));
}

#[test]
fn a_body_is_plain_text_unless_said_otherwise() {
    let outcome = send(json!({"body": "hello"}), Request::post("/", "ignored"));
    assert_eq!((outcome.response().status(), body(&outcome)), (200, "hello"));
    assert_eq!(content_type(&outcome).as_deref(), Some("text/plain; charset=utf-8"));
    let outcome = send(json!({"body": "<p>", "content_type": "text/html"}), Request::get("/"));
    assert_eq!(content_type(&outcome).as_deref(), Some("text/html"));
}

#[test]
fn json_is_written_as_json() {
    let config = json!({"status": 201, "json": {"ok": true, "ids": [1, 2]}});
    let outcome = send(config, Request::get("/"));
    assert_eq!((outcome.response().status(), body(&outcome)), (201, r#"{"ids":[1,2],"ok":true}"#));
    assert_eq!(content_type(&outcome).as_deref(), Some("application/json"));
    let config = json!({"json": [], "content_type": "application/vnd.api+json"});
    assert_eq!(content_type(&send(config, Request::get("/"))).as_deref(), Some("application/vnd.api+json"));
}

#[test]
fn headers_are_set() {
    let config = json!({"status": 302, "headers": {"Location": "/new", "x-b": "b"}});
    let outcome = send(config, Request::get("/"));
    assert_eq!(outcome.response().status(), 302);
    assert_eq!(outcome.response().header_str("location").as_deref(), Some("/new"));
    assert_eq!(outcome.response().header_str("x-b").as_deref(), Some("b"));
}

#[test]
fn an_error_without_a_body_is_left_to_the_gateway() {
    let config = json!({"status": 503, "message": "Back at noon", "headers": {"retry-after": "120"}});
    let outcome = send(config, Request::get("/"));
    let answer = outcome.answer.unwrap();
    assert_eq!((answer.status, answer.body), (503, None));
    assert_eq!(answer.code.as_deref(), Some("terminated"));
    assert_eq!(answer.detail.as_deref(), Some("Back at noon"));
    assert_eq!(answer.headers, [("retry-after".to_string(), b"120".to_vec())]);
    let answer = send(json!({"status": 404, "body": "no"}), Request::get("/")).answer.unwrap();
    assert_eq!((answer.code.as_deref(), answer.detail), (Some("terminated"), None));
}

#[test]
fn a_trigger_lets_all_others_through() {
    let by_header = || json!({"status": 418, "trigger": {"header": "X-Tea"}});
    assert!(send(by_header(), Request::get("/?x-tea")).sent);
    assert!(!send(by_header(), Request::get("/").header("x-tea", "")).sent);
    let by_query = || json!({"trigger": {"query": "tea"}, "echo": true});
    let others = send(by_query(), Request::post("/?coffee", "milk").header("tea", "1"));
    assert_eq!((others.sent, others.request_body), (true, b"milk".to_vec()));
    assert!(!send(by_query(), Request::get("/?a=1&tea")).sent);
}

#[test]
fn echo_tells_all_of_the_request() {
    let request = Request::get("/users/7?q=a%20b")
        .authority("api.test:8080")
        .client_ip("203.0.113.9")
        .route("users")
        .path_param("id", "7")
        .var("consumer", "alice")
        .var("other", "not told")
        .header("x-b", "1")
        .header("x-a", b"\xff")
        .header("x-b", "2");
    let expected = json!({
        "method": "GET",
        "scheme": "http",
        "host": "api.test:8080",
        "path": "/users/7",
        "query": "q=a%20b",
        "route": "users",
        "path_params": {"id": "7"},
        "headers": [["host", "api.test:8080"], ["x-b", "1"], ["x-a", "\u{fffd}"], ["x-b", "2"]],
        "client_ip": "203.0.113.9",
        "vars": {"consumer": "alice"},
    });
    assert_eq!(echo(json!({}), request), expected);
}

#[test]
fn echo_takes_status_and_headers() {
    let config = json!({"echo": true, "status": 404, "headers": {"x-a": "1"}});
    let outcome = send(config, Request::get("/"));
    assert_eq!((outcome.response().status(), outcome.code.as_deref()), (404, Some("terminated")));
    assert_eq!(outcome.response().header_str("x-a").as_deref(), Some("1"));
    assert!(body(&outcome).starts_with(r#"{"method":"GET","#), "{}", body(&outcome));
}

#[test]
fn secrets_are_redacted_unless_asked_for() {
    let request = || {
        Request::get("/")
            .header("Authorization", "Bearer a")
            .header("cookie", "b=c")
            .header("proxy-authorization", "Basic d")
    };
    let headers = |config| echo(config, request())["headers"].as_array().unwrap()[1..].to_vec();
    assert_eq!(
        headers(json!({})),
        [
            json!(["authorization", "[redacted]"]),
            json!(["cookie", "[redacted]"]),
            json!(["proxy-authorization", "[redacted]"]),
        ]
    );
    assert_eq!(headers(json!({"redact": false}))[0], json!(["authorization", "Bearer a"]));
}

#[test]
fn echo_holds_the_body() {
    let dump = echo(json!({}), Request::new("PUT", "/").body_pieces(["caf", "\u{e9}"]));
    assert_eq!((&dump["body_bytes"], &dump["body"]), (&json!(5), &json!("caf\u{e9}")));
    let dump = echo(json!({}), Request::post("/", b"\xff\x00"));
    assert_eq!((&dump["body_bytes"], dump.get("body")), (&json!(2), None));
    let dump = echo(json!({}), Request::new("DELETE", "/"));
    assert_eq!((&dump["body_bytes"], &dump["body"]), (&json!(0), &json!("")));
}

#[test]
fn echo_waits_only_for_a_body_that_may_come() {
    let with_length = |method, length| {
        echo(json!({}), Request::new(method, "/").header("content-length", length).body("hello"))
    };
    assert_eq!(with_length("GET", "5")["body"], "hello");
    for (method, length) in [("GET", "0"), ("POST", "0")] {
        assert_eq!(with_length(method, length).get("body_bytes"), None, "{method}");
    }
    for method in ["GET", "HEAD"] {
        assert_eq!(echo(json!({}), Request::new(method, "/")).get("body_bytes"), None, "{method}");
    }
}

#[test]
fn sizes_have_their_unit() {
    for (size, bytes) in
        [("7B", 7), ("2KiB", 2048), ("2KB", 2000), ("1MiB", 1 << 20), ("3MB", 3_000_000), ("3GiB", 3 << 30)]
    {
        let config = json!({"echo": true, "max_body": size});
        let loaded = Host::new().load::<Respond>(&config.to_string()).unwrap();
        assert_eq!(loaded.plugin().echo.as_ref().unwrap().max_body, bytes, "{size}");
    }
}

#[test]
fn a_body_beyond_the_bound_is_refused() {
    let config = || json!({"echo": true, "max_body": "4B"});
    assert_eq!(send(config(), Request::post("/", "1234")).response().status(), 200);
    assert_eq!(send(config(), Request::post("/", "12345")).response().status(), 413);
}

#[test]
fn only_echo_needs_the_body_phase() {
    let phases = |config: Value| Host::new().load::<Respond>(&config.to_string()).unwrap().plugin().phases();
    assert_eq!(phases(json!({})), Phases::REQUEST);
    assert_eq!(phases(json!({"echo": true})), Phases::REQUEST | Phases::REQUEST_BODY);
}

#[test]
fn mistakes_name_the_key() {
    for (config, error) in [
        (json!({"status": 199}), "status: must be 200 to 599"),
        (json!({"status": 600}), "status: must be 200 to 599"),
        (json!({"body": "", "json": 1}), "json: cannot stand beside `body`"),
        (json!({"body": "", "echo": true}), "echo: cannot stand beside `body` or `json`"),
        (json!({"json": 1, "echo": true}), "echo: cannot stand beside `body` or `json`"),
        (json!({"body": "", "status": 204}), "status: an answer with it has no body"),
        (json!({"echo": true, "status": 304}), "status: an answer with it has no body"),
        (json!({"status": 500, "message": "m", "body": ""}), "message: cannot stand beside a body or `echo`"),
        (json!({"message": "m"}), "message: needs a `status` of 400 or more"),
        (json!({"content_type": "text/html"}), "content_type: needs `body` or `json`"),
        (json!({"body": "", "content_type": "a\r\nb"}), "content_type: holds a control character"),
        (
            json!({"body": "", "headers": {"Content-Type": "a"}}),
            "headers.content-type: the body has one, see `content_type`",
        ),
        (json!({"headers": {"x-a": "1\n2"}}), "headers.x-a: holds a control character"),
    ] {
        assert_eq!(refused(config), error);
    }
    for (config, key) in [
        (
            json!({"headers": {"Content-Length": "1"}}),
            "headers.Content-Length: `content-length` is the gateway's to set",
        ),
        (json!({"headers": {"": "1"}}), "headers"),
        (json!({"trigger": {"header": "x y"}}), "trigger"),
        (json!({"trigger": {"header": "a", "query": "b"}}), "trigger"),
        (json!({"trigger": {"cookie": "a"}}), "trigger"),
        (json!({"max_body": 5}), "max_body: invalid type: integer `5`"),
        (json!({"max_body": "5"}), "max_body: \"5\" is not a size"),
        (json!({"max_body": "20000000000GiB"}), "max_body: \"20000000000GiB\" is not a size"),
        (json!({"max_body": "5GiB"}), "max_body: must be below 4GiB"),
        (json!({"bodies": "b"}), "bodies: unknown field"),
    ] {
        let error = refused(config);
        assert!(error.starts_with(key), "{error}");
    }
}

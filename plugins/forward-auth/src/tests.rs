use std::cell::RefCell;
use std::rc::Rc;

use wasmgate_sdk::audit::Why;
use wasmgate_sdk::http::{Answer, Call, Failure};
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request, Response};

use super::ForwardAuth;

/// A service that says the same to all, and what it was asked.
struct Service {
    host: Host,
    asked: Rc<RefCell<Vec<Call>>>,
}

fn service(says: Result<Answer, Failure>) -> Service {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let calls = asked.clone();
    let host = Host::new().answer(move |call| {
        calls.borrow_mut().push(call.clone());
        says.clone()
    });
    Service { host, asked }
}

impl Service {
    fn plugin(&self, more: &str) -> Loaded<ForwardAuth> {
        self.host.load(&format!(r#"{{"upstream": "auth"{more}}}"#)).expect("a good config")
    }

    fn send(&self, more: &str, request: Request) -> Outcome {
        self.plugin(more).send(request)
    }

    fn question(&self) -> Call {
        self.asked.borrow().last().cloned().expect("it was asked")
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Answer, Failure> {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    Ok(Answer { status, headers, body: body.into() })
}

fn header<'a>(call: &'a Call, wanted: &str) -> Vec<&'a str> {
    let values = call.headers.iter().filter(|(name, _)| name == wanted);
    values.map(|(_, value)| std::str::from_utf8(value).expect("text")).collect()
}

fn asking() -> Request {
    Request::new("PUT", "/a/b?c=d")
        .authority("api.test:8443")
        .client_ip("203.0.113.9")
        .header("authorization", "Bearer x")
        .header("cookie", "a=1")
        .header("x-other", "2")
        .header("x-forwarded-for", "198.51.100.7")
        .header("x-forwarded-uri", "/elsewhere")
        .header("content-type", "text/plain")
        .header("content-length", "5")
        .body("hello")
}

#[test]
fn the_question_tells_of_the_request() {
    let service = service(answer(200, &[], ""));
    let outcome = service.send(r#", "path": "/verify""#, asking());
    assert!(outcome.sent && outcome.error.is_none());
    assert_eq!(outcome.reason, Some(Why::SERVICE_ALLOWED.into()));
    assert_eq!(outcome.request_body, b"hello");
    let call = service.question();
    assert_eq!((&*call.method, &*call.upstream, &*call.path_with_query), ("GET", "auth", "/verify"));
    assert!(call.body.is_empty() && call.authority.is_none() && call.timeout.as_secs() == 1);
    for (name, expected) in [
        ("authorization", &["Bearer x"][..]),
        ("cookie", &["a=1"]),
        ("x-other", &[]),
        ("content-type", &[]),
        ("content-length", &[]),
        ("host", &[]),
        ("x-forwarded-method", &["PUT"]),
        ("x-forwarded-proto", &["http"]),
        ("x-forwarded-host", &["api.test:8443"]),
        ("x-forwarded-uri", &["/a/b?c=d"]),
        ("x-forwarded-for", &["198.51.100.7, 127.0.0.1"]),
    ] {
        assert_eq!(header(&call, name), expected, "{name}");
    }
}

#[test]
fn it_may_be_asked_with_the_request_s_own_method_path_and_headers() {
    let service = service(answer(200, &[], ""));
    let config = r#", "path": "/check/", "append_path": true, "method": null, "request_headers": ["*"], "authority": "auth.test""#;
    assert!(service.send(config, asking().header("x_forwarded_uri", "/elsewhere")).sent);
    let call = service.question();
    assert_eq!((&*call.method, &*call.path_with_query), ("PUT", "/check/a/b?c=d"));
    assert_eq!(call.authority.as_deref(), Some("auth.test"));
    assert_eq!(header(&call, "x-other"), ["2"]);
    assert_eq!(header(&call, "x-forwarded-uri"), ["/a/b?c=d"], "not what the client says");
    assert!(header(&call, "x_forwarded_uri").is_empty(), "nor what servers take for it");
    assert!(header(&call, "content-length").is_empty() && header(&call, "host").is_empty());
}

#[test]
fn an_answer_that_lets_pass_says_who_it_is() {
    let says = [
        ("x-user", "alice"),
        ("x-groups", "a"),
        ("x-groups", "b"),
        ("set-cookie", "s=1"),
        ("set-cookie", "t=2"),
    ];
    let service = service(answer(204, &says, ""));
    let config =
        r#", "upstream_headers": ["x-user", "x-groups", "x-absent"], "success_headers": ["set-cookie"]"#;
    let request = asking().header("x-user", "root").header("x_user", "root").header("x-absent", "root");
    let outcome = service.plugin(config).exchange(request, Response::new(200).header("set-cookie", "own=1"));
    let request = outcome.request();
    assert_eq!(request.header_all("x-user"), [b"alice"]);
    assert_eq!(request.header_all("x-groups"), [b"a", b"b"]);
    for name in ["x-absent", "x_user"] {
        assert_eq!(request.header(name), None, "only the service says who it is: {name}");
    }
    let cookies = outcome.response().header_all("set-cookie");
    assert_eq!(cookies, [&b"own=1"[..], b"s=1", b"t=2"]);
}

#[test]
fn any_other_answer_is_the_client_s() {
    let says =
        [("location", "https://login.test/"), ("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-inner", "1")];
    for status in [302, 401, 403, 404, 304] {
        let service = service(answer(status, &says, "log in"));
        let outcome = service.send("", asking());
        assert!(!outcome.sent);
        assert_eq!(outcome.reason, Some(Why::SERVICE_DENIED.into()));
        let response = outcome.response();
        assert_eq!((response.status(), outcome.code.as_deref()), (status, Some("forward_auth_denied")));
        assert_eq!(response.header_str("location").as_deref(), Some("https://login.test/"));
        assert_eq!(response.header_all("set-cookie").len(), 2);
        assert_eq!(response.header("x-inner"), None);
        assert_eq!(outcome.response_body, b"log in");
    }
}

#[test]
fn a_service_that_fails_lets_nobody_pass_unless_told_to() {
    for says in
        [Err(Failure::TimedOut), Err(Failure::Unreachable), answer(500, &[], "oops"), answer(503, &[], "")]
    {
        let service = service(says);
        let refused = service.send("", asking());
        assert!(!refused.sent);
        assert_eq!(
            (refused.response().status(), refused.code.as_deref()),
            (503, Some("forward_auth_failed"))
        );
        assert!(refused.response_body.is_empty(), "nothing of the service's error");
        assert_eq!(service.send(r#", "status_on_error": 403"#, asking()).response().status(), 403);
        let passed = service.send(
            r#", "on_error": "allow", "upstream_headers": ["x-user"]"#,
            asking().header("x-user", "root").header("x_user", "root"),
        );
        assert!(passed.sent);
        for name in ["x-user", "x_user"] {
            assert_eq!(passed.request().header(name), None, "nobody has checked it: {name}");
        }
        let unavailable = Some(Why::UNAVAILABLE.into());
        assert_eq!((&refused.reason, &passed.reason), (&unavailable, &unavailable));
        assert_eq!(service.host.metric("failures", &[]), Some(3.0));
        assert_eq!(service.host.log().len(), 3);
    }
}

#[test]
fn one_of_several_refuses_nobody_by_itself() {
    let more = r#", "any": true, "upstream_headers": ["x-user", "x-consumer-id"]"#;
    for says in [answer(401, &[("www-authenticate", "Basic")], ""), Err(Failure::TimedOut)] {
        let outcome =
            service(says).send(more, asking().header("x-user", "root").header("x-consumer-id", "root"));
        assert!(outcome.sent);
        let request = outcome.request();
        assert_eq!((request.header("x-user"), request.header("x-consumer-id")), (None, None));
    }
    let outcome =
        service(answer(200, &[("x-user", "alice"), ("x-consumer-id", "7")], "")).send(more, asking());
    assert_eq!(outcome.request().header_all("x-user"), [b"alice"]);
    assert_eq!(outcome.request().header_all("x-consumer-id"), [b"7"]);
    // Somebody before has let it pass: nobody is asked, and what that one told stays.
    let state = r#"{"passed": true, "told": ["x-user"]}"#;
    let service = service(answer(200, &[], ""));
    let told = asking().header("x-user", "bob").header("x-consumer-id", "bob").var("auth/any", state);
    let outcome = service.send(more, told);
    assert_eq!(outcome.request().header_str("x-user").as_deref(), Some("bob"));
    assert_eq!(outcome.request().header_str("x-consumer-id").as_deref(), Some("bob"));
    assert!(service.asked.borrow().is_empty());
}

#[test]
fn bodies_go_along_where_they_are_wanted() {
    let service = service(answer(200, &[], ""));
    let whole = r#", "body": {"max": "5B"}"#;
    let outcome = service.send(whole, asking());
    assert!(outcome.sent && outcome.request_body == b"hello");
    let call = service.question();
    assert_eq!((&call.body[..], header(&call, "content-type")), (&b"hello"[..], vec!["text/plain"]));
    let long = service.send(r#", "body": {"max": "4B"}"#, asking());
    assert_eq!(long.response().status(), 413);
    let part = service.send(r#", "body": {"max": "4B", "partial": true}"#, asking());
    assert!(part.sent && part.request_body == b"hello");
    assert_eq!(service.question().body, b"hell");
}

#[test]
fn answers_are_kept_for_those_who_are_the_same() {
    let service = service(answer(200, &[("x-user", "alice")], ""));
    let plugin = service
        .plugin(r#", "upstream_headers": ["x-user"], "cache": {"ttl": "10s", "key": ["authorization"]}"#);
    let asked = |request: Request| {
        assert!(plugin.send(request).sent);
        service.asked.borrow().len()
    };
    assert_eq!([asked(asking()), asked(asking())], [1, 1]);
    assert_eq!(asked(asking().header("authorization", "Bearer x")), 2, "another line is another key");
    assert_eq!(asked(Request::get("/a/b?c=d").header("authorization", "Bearer x")), 3);
    service.host.advance(std::time::Duration::from_secs(11));
    assert_eq!(asked(asking()), 4);
    // Neither text nor short: nobody must get another one's answer.
    for value in [&b"\xff"[..], &[b'x'; 2000]] {
        let before = service.asked.borrow().len();
        let request = || Request::get("/").header("authorization", value);
        assert_eq!([asked(request()), asked(request())], [before + 1, before + 2]);
    }
}

#[test]
fn errors_are_not_kept() {
    let service = service(answer(503, &[], ""));
    let plugin = service.plugin(r#", "cache": {"ttl": "10s", "key": []}"#);
    for _ in 0..2 {
        assert_eq!(plugin.send(asking()).response().status(), 503);
    }
    assert!(service.asked.borrow().len() >= 3);
}

#[test]
fn configs_that_cannot_be_meant_are_refused() {
    for (config, fault) in [
        (r#"{"upstream": "a", "path": "x"}"#, "path: has to begin with /"),
        (r#"{"upstream": "a", "status_on_error": 200}"#, "status_on_error: expected 400 to 599"),
        (
            r#"{"upstream": "a", "body": {"max": "1KiB"}, "cache": {"ttl": "1s", "key": []}}"#,
            "cache: answers that depend on bodies cannot be kept",
        ),
        (r#"{"path": "/"}"#, "missing field `upstream`"),
        (
            r#"{"upstream": "a", "body": {"max": "1KiB"}, "any": true}"#,
            "any: bodies come only after the other plugins have decided",
        ),
    ] {
        let host = Host::new().answer(|_| Err(Failure::TimedOut));
        let refused = host.load::<ForwardAuth>(config).err().expect("refused");
        assert_eq!(refused.to_string(), fault);
    }
    let refused = Host::new().load::<ForwardAuth>(r#"{"upstream": "a"}"#).err().expect("refused").to_string();
    assert!(refused.starts_with("upstream: the plugin may not call \"a\": "), "{refused}");
}

#[test]
fn what_a_client_says_of_itself_goes() {
    let service = service(answer(200, &[], ""));
    let plugin = service.plugin("");
    let forged = || Request::get("/").header("x-consumer-id", "root").header("x_consumer_groups", "admins");
    let outcome = plugin.send(forged());
    assert_eq!((outcome.sent, outcome.request().header("x-consumer-id")), (true, None));
    assert_eq!(outcome.request().header("x_consumer_groups"), None);
    let known = plugin.send(Request::get("/").var("consumer", "alice").header("x-consumer-id", "alice"));
    assert_eq!(
        known.request().header_str("x-consumer-id").as_deref(),
        Some("alice"),
        "told by a plugin before"
    );
}

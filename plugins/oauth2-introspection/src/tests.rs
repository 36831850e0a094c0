use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use wasmgate_sdk::Tls;
use wasmgate_sdk::http::{Answer, Call, Failure};
use wasmgate_sdk::serde_json::json;
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request};

use super::*;

/// The fake host's time: 2026-01-01.
const NOW: u64 = 1_767_225_600;

/// A server whose answers change, and what it was asked.
struct Server {
    host: Host,
    says: Rc<RefCell<Result<Answer, Failure>>>,
    asked: Rc<RefCell<Vec<Call>>>,
}

impl Server {
    fn saying(body: impl Into<Vec<u8>>) -> Server {
        let says = Rc::new(RefCell::new(answer(body)));
        let asked = Rc::new(RefCell::new(Vec::new()));
        let (said, calls) = (says.clone(), asked.clone());
        let host = Host::new().answer(move |call| {
            calls.borrow_mut().push(call.clone());
            said.borrow().clone()
        });
        Server { host, says, asked }
    }

    fn plugin(&self, more: &str) -> Loaded<Introspection> {
        self.host.load(&config(more)).expect("a good config")
    }

    fn says(&self, says: Result<Answer, Failure>) {
        *self.says.borrow_mut() = says;
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }
}

fn config(more: &str) -> String {
    format!(
        r#"{{"upstream": "idp", "path": "/introspect", "client_id": "gate way", "client_secret": "s:e%c" {more}}}"#
    )
}

fn answer(body: impl Into<Vec<u8>>) -> Result<Answer, Failure> {
    Ok(Answer { body: body.into(), ..Answer::new(200) })
}

/// That of an active token of Alice's, with these members in addition.
fn active(more: Value) -> String {
    let mut all = json!({"active": true, "sub": "alice", "exp": NOW + 600});
    for (name, value) in more.as_object().expect("members") {
        all[name] = value.clone();
    }
    all.to_string()
}

fn bearing(token: impl AsRef<[u8]>) -> Request {
    Request::get("/").header("authorization", [b"Bearer ", token.as_ref()].concat())
}

/// What comes of a token of which the server says this.
fn told(more: &str, says: impl Into<Vec<u8>>) -> Outcome {
    Server::saying(says).plugin(more).send(bearing("t"))
}

fn refusal(outcome: &Outcome) -> (u16, &str, String) {
    assert!(!outcome.sent && outcome.reason.is_some());
    assert!(outcome.response_body.is_empty(), "the gateway writes the body");
    let challenge = outcome.response().header_str("www-authenticate").unwrap_or_default();
    (outcome.response().status(), outcome.code.as_deref().unwrap_or_default(), challenge)
}

#[test]
fn an_active_token_passes_and_says_whose_it_is() {
    let says =
        active(json!({"jti": "t1", "plan": "pro", "realm": {"roles": ["a", "b"]}, "username": "Alice"}));
    let server = Server::saying(says);
    let more = r#", "groups_claim": "realm.roles", "plan_claim": "plan",
        "headers": {"x-name": "username", "x-absent": "absent"}"#;
    let request = bearing("t").header("x-absent", "forged").header("x-consumer-id", "root");
    let outcome = server.plugin(more).send(request);
    assert!(outcome.sent, "{:?}", outcome.answer);
    let request = outcome.request();
    for (name, value) in [
        ("x-consumer-id", Some("alice")),
        ("x-consumer-groups", Some("a, b")),
        ("x-credential-identifier", Some("t1")),
        ("x-name", Some("Alice")),
        ("x-absent", None),
        ("authorization", None),
    ] {
        assert_eq!(request.header_str(name).as_deref(), value, "{name}");
    }
    for (name, value) in [("consumer", "alice"), ("plan", "pro"), ("groups", "a,b")] {
        assert_eq!(request.var_str(name).as_deref(), Some(value), "{name}");
    }
    let claims = request.var_str("claims").expect("the claims");
    assert!(claims.contains(r#""username":"Alice""#), "{claims}");
    let kept = server.plugin(r#", "hide_credentials": false"#).send(bearing("t"));
    assert!(kept.request().header("authorization").is_some());
}

#[test]
fn the_question_is_that_of_rfc_7662() {
    let server = Server::saying(active(json!({})));
    let more = r#", "authority": "idp.test", "timeout": "1s", "token_type_hint": "access_token""#;
    assert!(server.plugin(more).send(bearing("a&b=c+/~")).sent);
    let call = server.asked.borrow()[0].clone();
    assert_eq!((&*call.upstream, &*call.method, &*call.path_with_query), ("idp", "POST", "/introspect"));
    assert_eq!((call.authority.as_deref(), call.timeout), (Some("idp.test"), Duration::from_secs(1)));
    let field = |name| {
        let found = call.headers.iter().find(|(n, _)| n == name).expect("a header");
        String::from_utf8(found.1.clone()).expect("text")
    };
    assert_eq!(field("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(field("accept"), "application/json");
    // "gate+way:s%3Ae%25c"
    assert_eq!(field("authorization"), "Basic Z2F0ZSt3YXk6cyUzQWUlMjVj");
    assert_eq!(call.body, b"token=a%26b%3Dc%2B%2F%7E&token_type_hint=access_token");

    let server = Server::saying(active(json!({})));
    assert!(server.plugin(r#", "auth": "post""#).send(bearing("t")).sent);
    let call = server.asked.borrow()[0].clone();
    assert_eq!(call.body, b"token=t&client_id=gate+way&client_secret=s%3Ae%25c");
    assert!(call.headers.iter().all(|(name, _)| name != "authorization"));
}

#[test]
fn refusals_are_those_of_rfc_6750() {
    let server = Server::saying(active(json!({"scope": "read"})));
    let plain = "Bearer realm=\"gateway\"";
    let missing = server.plugin("").send(Request::get("/"));
    assert_eq!(
        refusal(&missing),
        (401, "unauthenticated", plain.to_string()),
        "no error where nothing was sent"
    );
    let two = bearing("t").header("authorization", "Bearer u");
    let said = format!(
        "{plain}, error=\"invalid_request\", error_description=\"The request has more than one token.\""
    );
    assert_eq!(refusal(&server.plugin("").send(two)), (401, "unauthenticated", said));
    assert_eq!(server.asked(), 0);
    let said = format!("{plain}, error=\"insufficient_scope\", scope=\"read write\"");
    let more = r#", "scopes": ["read", "write"]"#;
    assert_eq!(refusal(&server.plugin(more).send(bearing("t"))), (403, "insufficient_scope", said));
    let said = format!("{plain}, error=\"invalid_token\", error_description=\"The token is not valid.\"");
    assert_eq!(refusal(&told("", r#"{"active": false}"#)), (401, "unauthenticated", said));
}

#[test]
fn claims_have_to_be_what_is_asked_for() {
    for (rule, members, expected) in [
        (r#""audiences": ["api", "web"]"#, json!({"aud": "web"}), 200),
        (r#""audiences": ["api", "web"]"#, json!({"aud": ["x", "api"]}), 200),
        (r#""audiences": ["api", "web"]"#, json!({"aud": "other"}), 401),
        (r#""audiences": ["api", "web"]"#, json!({"aud": {"api": 1}}), 401),
        (r#""audiences": ["api", "web"]"#, json!({}), 401),
        (r#""issuer": "https://idp.test""#, json!({"iss": "https://idp.test"}), 200),
        (r#""issuer": "https://idp.test""#, json!({"iss": "https://idp.test/"}), 401),
        (r#""issuer": "https://idp.test""#, json!({"iss": ["https://idp.test"]}), 401),
        (r#""issuer": "https://idp.test""#, json!({}), 401),
        (r#""scopes": ["a", "b"]"#, json!({"scope": "c b a"}), 200),
        (r#""scopes": ["a", "b"]"#, json!({"scope": "ab"}), 403),
        (r#""any_scope": ["a", "b"]"#, json!({"scope": "b"}), 200),
        (r#""any_scope": ["a", "b"]"#, json!({"scope": "c"}), 403),
        (r#""required_claims": {"a.b": 7}"#, json!({"a": {"b": 7}}), 200),
        (r#""required_claims": {"a.b": 7}"#, json!({}), 403),
        (r#""consumer_claims": ["username", "client_id"]"#, json!({"client_id": "c"}), 200),
        (r#""consumer_claims": ["username", "client_id"]"#, json!({}), 401),
        (r#""leeway": "0s""#, json!({"nbf": NOW}), 200),
        (r#""leeway": "0s""#, json!({"nbf": NOW + 1}), 401),
        (r#""leeway": "5s""#, json!({"nbf": NOW + 1, "exp": NOW - 4}), 200),
        (r#""leeway": "5s""#, json!({"exp": NOW - 5}), 401),
        (r#""leeway": "5s""#, json!({"exp": null}), 401),
    ] {
        let outcome = told(&format!(", {rule}"), active(members.clone()));
        assert_eq!(outcome.response().status(), expected, "{rule} {members}");
    }
    assert!(told("", r#"{"active": true, "sub": "alice"}"#).sent, "there need be no end");
}

/// What must never pass, whatever is said.
#[test]
fn attacks_fail() {
    let deep = format!(r#"{{"active":true,"sub":"a","x":{}1{}}}"#, "[".repeat(16), "]".repeat(16));
    let abyss = format!(r#"{{"active":true,"sub":"a","x":{}1{}}}"#, "[".repeat(9000), "]".repeat(9000));
    for (what, says, expected) in [
        ("active as text", r#"{"active":"true","sub":"a"}"#.into(), 401),
        ("active as a number", r#"{"active":1,"sub":"a"}"#.into(), 401),
        ("active in a list", r#"{"active":[true],"sub":"a"}"#.into(), 401),
        ("active in other letters", r#"{"Active":true,"sub":"a"}"#.into(), 401),
        ("nothing of active", r#"{"sub":"a"}"#.into(), 401),
        ("active twice", r#"{"active":false,"active":true,"sub":"a"}"#.into(), 503),
        ("a subject twice", r#"{"active":true,"sub":"root","sub":"a"}"#.into(), 503),
        ("a member twice, below", r#"{"active":true,"sub":"a","x":{"b":1,"b":2}}"#.into(), 503),
        ("a list", r#"[{"active":true,"sub":"a"}]"#.into(), 503),
        ("no JSON", "active=true&sub=a".to_string(), 503),
        ("something behind it", r#"{"active":true,"sub":"a"} {}"#.into(), 503),
        ("nothing", String::new(), 503),
        ("megabytes", active(json!({"x": "y".repeat(4 << 20)})), 503),
        ("too deep", deep, 503),
        ("thousands deep", abyss, 503),
        ("expired", active(json!({"exp": NOW - 60})), 401),
        ("an end that is no number", active(json!({"exp": "2099"})), 401),
        ("an empty subject", active(json!({"sub": ""})), 401),
        ("a subject of two lines", active(json!({"sub": "a\r\nx-admin: 1"})), 401),
        ("bound to a certificate", active(json!({"cnf": {"x5t#S256": "x"}})), 401),
        ("bound to a key", active(json!({"cnf": {"jkt": "x"}})), 401),
        ("bound to nothing", active(json!({"cnf": {}})), 401),
    ] {
        let outcome = told("", says);
        assert!(outcome.error.is_none(), "{what}: {:?}", outcome.error);
        assert_eq!(outcome.response().status(), expected, "{what}");
        assert!(!outcome.sent && outcome.request().var("consumer").is_none(), "{what}");
    }
    let server = Server::saying(active(json!({})));
    for (what, token) in [
        ("a huge one", "x".repeat(MAX_TOKEN + 1).into_bytes()),
        ("a line break", b"a\nb".to_vec()),
        ("a space", b"a b".to_vec()),
        ("a zero", b"a\0".to_vec()),
        ("no ASCII", "tök".as_bytes().to_vec()),
        ("no UTF-8", b"\xff".to_vec()),
    ] {
        let outcome = server.plugin("").send(bearing(token));
        assert_eq!((outcome.response().status(), server.asked()), (401, 0), "{what}");
    }
    assert!(server.plugin("").send(bearing("t")).sent, "and this is what they were made of");
}

#[test]
fn answers_are_kept_for_each_token() {
    let server = Server::saying(active(json!({"scope": "read"})));
    let plugin = server.plugin("");
    let status = |token: &str| plugin.send(bearing(token)).response().status();
    assert_eq!([status("a"), status("a"), status("b")], [200, 200, 200]);
    assert_eq!(server.asked(), 2);
    // Another instance takes them over; another client asks for itself.
    assert!(server.plugin(r#", "scopes": ["read"]"#).send(bearing("a")).sent);
    assert_eq!(server.asked(), 2);
    let other = config("").replace("gate way", "other");
    assert!(server.host.load::<Introspection>(&other).expect("a good config").send(bearing("a")).sent);
    assert_eq!(server.asked(), 3);
    server.says(answer(r#"{"active": false}"#));
    server.host.advance(Duration::from_secs(59));
    assert_eq!(status("a"), 200);
    server.host.advance(Duration::from_secs(2));
    assert_eq!(status("a"), 401);
}

#[test]
fn no_answer_is_kept_beyond_the_token_s_end() {
    let server = Server::saying(active(json!({"exp": NOW + 10})));
    let plugin = server.plugin(r#", "leeway": "1s""#);
    let status = || plugin.send(bearing("t")).response().status();
    assert_eq!(status(), 200);
    server.host.advance(Duration::from_secs(9));
    assert_eq!((status(), server.asked()), (200, 1));
    server.says(answer(r#"{"active": false}"#));
    server.host.advance(Duration::from_secs(1));
    assert_eq!((status(), server.asked()), (401, 2), "the server is asked before the leeway counts");
    // Its time is over, whatever is said.
    server.says(answer(active(json!({"exp": NOW + 10}))));
    server.host.advance(Duration::from_secs(6));
    assert_eq!((status(), server.asked()), (401, 3));
}

#[test]
fn a_no_is_kept_for_a_shorter_time() {
    let server = Server::saying(r#"{"active": false}"#);
    let plugin = server.plugin("");
    let status = || plugin.send(bearing("t")).response().status();
    assert_eq!([status(), status()], [401, 401]);
    assert_eq!(server.asked(), 1);
    server.says(answer(active(json!({}))));
    server.host.advance(Duration::from_secs(5));
    assert_eq!(status(), 401);
    server.host.advance(Duration::from_millis(1));
    assert_eq!((status(), server.asked()), (200, 2));
}

#[test]
fn without_the_server_nobody_passes() {
    for says in [
        Err(Failure::Unreachable),
        Err(Failure::TimedOut),
        Ok(Answer::new(500)),
        Ok(Answer::new(401)),
        Ok(Answer::new(204)),
    ] {
        let server = Server::saying(active(json!({})));
        let plugin = server.plugin("");
        let status = |token: &str| plugin.send(bearing(token)).response().status();
        assert_eq!(status("known"), 200);
        server.says(says);
        assert_eq!([status("known"), status("new")], [200, 503]);
        assert_eq!(refusal(&plugin.send(bearing("new"))), (503, "introspection_unavailable", String::new()));
        server.host.advance(Duration::from_secs(61));
        assert_eq!(status("known"), 503, "nothing is kept beyond its time");
        assert!(
            server.host.log().iter().all(|line| !line.message.contains("new")),
            "tokens are no log lines"
        );
        server.says(answer(active(json!({}))));
        server.host.advance(Duration::from_secs(6));
        assert_eq!([status("known"), status("new")], [200, 200]);
    }
    let server = Server::saying("");
    server.says(Err(Failure::Unreachable));
    let outcome = server.plugin(r#", "on_error": "allow", "anonymous": "guest""#).send(bearing("t"));
    assert_eq!(outcome.request().var_str("consumer").as_deref(), Some("guest"));
    assert!(outcome.sent && outcome.request().header("authorization").is_none());
}

#[test]
fn nobody_and_preflights_pass_where_they_may() {
    let server = Server::saying(r#"{"active": false}"#);
    let plugin = server.plugin(r#", "anonymous": "guest""#);
    let outcome = plugin.send(Request::get("/"));
    assert_eq!(outcome.request().header_str("x-anonymous-consumer").as_deref(), Some("true"));
    assert_eq!(outcome.request().var_str("consumer").as_deref(), Some("guest"));
    assert!(!plugin.send(bearing("t")).sent, "a wrong token is none the less wrong");
    let asks = || {
        let request = Request::new("OPTIONS", "/").header("origin", "https://a.test");
        request.header("access-control-request-method", "PUT")
    };
    assert!(server.plugin("").send(asks()).sent);
    assert!(!server.plugin(r#", "run_on_preflight": true"#).send(asks()).sent);
}

#[test]
fn one_of_several_refuses_nobody_by_itself() {
    let inactive = told(r#", "any": true"#, r#"{"active": false}"#);
    assert!(inactive.sent && inactive.request().var("consumer").is_none());
    let active = told(r#", "any": true"#, active(json!({"sub": "alice"})));
    assert_eq!(active.request().var_str("consumer").as_deref(), Some("alice"));
}

#[test]
fn a_token_bound_to_a_certificate_passes_with_it() {
    let thumbprint = |certificate: &[u8]| {
        let digest = Host::new().enter(|| crypto::digest(Hash::Sha256, certificate));
        URL_SAFE_NO_PAD.encode(digest)
    };
    let says = active(json!({"cnf": {"x5t#S256": thumbprint(b"hers")}}));
    let with = |certificate: &[u8]| {
        let tls = Tls {
            version: "TLSv1.3".to_string(),
            cipher: "TLS_AES_128_GCM_SHA256".to_string(),
            sni: None,
            alpn: None,
            client_certificate: Some(certificate.to_vec()),
        };
        Server::saying(&*says).plugin("").send(bearing("t").tls(tls)).response().status()
    };
    assert_eq!([with(b"hers"), with(b"his")], [200, 401]);
}

#[test]
fn configs_that_cannot_be_meant_are_refused() {
    for (config, fault) in [
        (config("").replace("/introspect", "introspect"), "path: has to begin with /"),
        (config("").replace("gate way", ""), "client_id: is empty"),
        (config("").replace("s:e%c", ""), "client_secret: is empty"),
        (
            config(r#", "on_error": "allow""#),
            "on_error: `allow` lets requests pass as `anonymous`, which is not given",
        ),
        (config(r#", "scopes": ["a b"]"#), "scopes: hold what no scope can (RFC 6749, section 3.3)"),
        (config(r#", "header": []"#), "header: is empty, and neither query nor cookie is given"),
    ] {
        let host = Host::new().answer(|_| Err(Failure::TimedOut));
        let refused = host.load::<Introspection>(&config).err().expect("refused");
        assert_eq!(refused.to_string(), fault, "{config}");
    }
    let refused = Host::new().load::<Introspection>(&config("")).err().expect("refused").to_string();
    assert!(refused.starts_with("upstream: the plugin may not call \"idp\": "), "{refused}");
}

#[test]
fn the_audit_is_told_why() {
    for (more, says, why, consumer) in [
        ("", r#"{"active": false}"#.to_string(), Why::INACTIVE, None),
        ("", "nothing".to_string(), Why::UNAVAILABLE, None),
        (r#", "issuer": "me""#, active(json!({})), Why::ISSUER, Some("alice")),
        (r#", "audiences": ["api"]"#, active(json!({})), Why::AUDIENCE, Some("alice")),
        (r#", "scopes": ["read"]"#, active(json!({})), Why::SCOPE, Some("alice")),
        ("", active(json!({"cnf": {}})), Why::BINDING, Some("alice")),
        ("", active(json!({"sub": ""})), Why::NO_CONSUMER, None),
    ] {
        let reason = told(more, says).reason.expect("a reason");
        assert_eq!((reason.why, reason.consumer.as_deref()), (why, consumer), "{more}");
    }
    let server = Server::saying(active(json!({})));
    for (request, why) in [(Request::get("/"), Why::MISSING), (bearing("a b"), Why::MALFORMED)] {
        assert_eq!(server.plugin("").send(request).reason, Some(why.into()));
    }
}

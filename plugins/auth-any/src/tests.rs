use wasmgate_sdk::auth::{Gate, OneOrMore, Places};
use wasmgate_sdk::testing::{Exchange, Host, Request};

use super::*;

/// A plugin that knows a word in a header, `hidden` from the upstream or not. "?" is a word that it cannot check now.
struct Door(&'static str, &'static str, bool);

const KEY: Door = Door("x-key", "key", true);
const TOKEN: Door = Door("authorization", "token", false);

impl Door {
    fn step(&self, request: &wasmgate_sdk::Request) {
        let Door(header, word, hide) = self;
        let places =
            Places::new(OneOrMore::One(header.to_string()), String::new(), Some(format!("{word}s")), None);
        let gate = Gate::new(true, None).unwrap().credentials(places.unwrap(), *hide);
        if !gate.enter(request).unwrap() {
            return;
        }
        let refusal = |status| {
            LocalResponse::new(status).header("www-authenticate", format!("{word} realm=\"gateway\""))
        };
        match &gate.presented(request)[..] {
            [] => gate.missing(request, refusal(401)),
            [given] if given == word.as_bytes() => gate.pass(request, &Identity::of(word)),
            [given] if given == b"?" => gate.refuse(request, LocalResponse::new(503).why(Why::UNAVAILABLE)),
            _ => gate.refuse(request, refusal(401).why(Why::INVALID_KEY)),
        }
        .unwrap();
    }
}

/// What the plugin says behind these doors.
fn behind(doors: &[Door], config: &str, exchange: &Exchange) -> Verdict {
    let host = Host::new();
    let plugin = host.load::<AuthAny>(config).unwrap();
    let request = exchange.request();
    doors.iter().for_each(|door| door.step(&request));
    host.enter(|| plugin.plugin().on_request(&request)).unwrap()
}

fn refused(verdict: Verdict) -> (u16, String, Vec<String>) {
    let Verdict::Respond(answer) = verdict else { panic!("it passes") };
    let challenges = answer.headers.iter().map(|(name, value)| {
        assert_eq!(name, "www-authenticate");
        String::from_utf8(value.clone()).unwrap()
    });
    (answer.status, answer.code.unwrap_or_default(), challenges.collect())
}

fn consumer(exchange: &Exchange) -> Option<String> {
    let request = exchange.request();
    assert_eq!(request.var_str("consumer"), request.header_str("x-consumer-id"));
    request.var_str("consumer")
}

#[test]
fn one_of_several_is_enough() {
    for (name, value, expected) in
        [("x-key", "key", "key"), ("authorization", "token", "token"), ("AUTHORIZATION", "token", "token")]
    {
        let exchange = Request::get("/").header(name, value).build();
        assert_eq!(behind(&[TOKEN, KEY], "null", &exchange), Verdict::Next);
        assert_eq!(consumer(&exchange).as_deref(), Some(expected));
    }
    let both = Request::get("/").header("x-key", "key").header("authorization", "token").build();
    assert_eq!(behind(&[KEY, TOKEN], "null", &both), Verdict::Next);
    assert_eq!(consumer(&both).as_deref(), Some("key"), "the first one");
}

#[test]
fn nobody_is_asked_for_all_that_would_do() {
    let asked = ["token realm=\"gateway\"", "key realm=\"gateway\""].map(str::to_string);
    for request in [Request::get("/"), Request::get("/").header("x-key", "wrong")] {
        let verdict = behind(&[TOKEN, KEY, TOKEN], "null", &request.build());
        assert_eq!(refused(verdict), (401, "unauthenticated".to_string(), asked.to_vec()));
    }
    let details = [Request::get("/"), Request::get("/").header("x-key", "wrong")].map(|request| {
        let Verdict::Respond(answer) = behind(&[KEY], "null", &request.build()) else { panic!("it passes") };
        answer.detail.unwrap()
    });
    assert_eq!(
        details,
        ["The request has no credentials.", "None of the credentials of the request is valid."]
    );
    let nothing = behind(&[], "null", &Request::get("/").build());
    assert_eq!(refused(nothing), (403, "forbidden".to_string(), Vec::new()));
}

#[test]
fn who_cannot_be_checked_is_nobody_yet() {
    let request = || Request::get("/").header("x-key", "?");
    for config in ["null", r#"{"anonymous": "guest", "anonymous_if": "refused"}"#] {
        let verdict = behind(&[KEY, TOKEN], config, &request().build());
        assert_eq!(refused(verdict), (503, "authentication_unavailable".to_string(), Vec::new()));
    }
    let exchange = request().header("authorization", "token").build();
    assert_eq!(behind(&[KEY, TOKEN], "null", &exchange), Verdict::Next);
}

#[test]
fn nobody_may_be_anonymous() {
    for (config, given, expected) in [
        (r#"{"anonymous": "guest"}"#, None, Some("guest")),
        (r#"{"anonymous": "guest"}"#, Some("wrong"), None),
        (r#"{"anonymous": "guest"}"#, Some("key"), Some("key")),
        (r#"{"anonymous": "guest", "anonymous_if": "refused"}"#, None, Some("guest")),
        (r#"{"anonymous": "guest", "anonymous_if": "refused"}"#, Some("wrong"), Some("guest")),
        (r#"{"anonymous": "guest", "anonymous_if": "refused"}"#, Some("key"), Some("key")),
    ] {
        let request = Request::get("/").header("x-anonymous-consumer", "no").header("x-consumer-groups", "a");
        let request = given.into_iter().fold(request, |request, given| request.header("x-key", given));
        let exchange = request.build();
        let verdict = behind(&[TOKEN, KEY], config, &exchange);
        assert_eq!(verdict == Verdict::Next, expected.is_some(), "{config} {given:?}");
        assert_eq!(consumer(&exchange).as_deref(), expected);
        let is_guest = (expected == Some("guest")).then_some("true");
        assert_eq!(exchange.request().header_str("x-anonymous-consumer").as_deref(), is_guest);
        assert_eq!(exchange.request().header("x-key"), None, "neither accepted nor not");
        assert_eq!(exchange.request().header("x-consumer-groups"), None);
    }
}

#[test]
fn a_group_has_to_let_pass_whatever_another_one_says() {
    let exchange = Request::get("/").header("x-key", "key").header("authorization", "token").build();
    assert_eq!(behind(&[KEY], "null", &exchange), Verdict::Next);
    assert_eq!(behind(&[TOKEN], "null", &exchange), Verdict::Next);
    assert_eq!(consumer(&exchange).as_deref(), Some("token"), "the last one has the last word");
    let exchange = Request::get("/").header("x-key", "key").build();
    assert_eq!(behind(&[KEY], "null", &exchange), Verdict::Next);
    assert_eq!(refused(behind(&[TOKEN], "null", &exchange)).0, 401);
    // The same where nothing stands between.
    assert_eq!(refused(behind(&[], "null", &exchange)).0, 403);
}

#[test]
fn preflights_pass_unless_told_otherwise() {
    let preflight = || {
        let request = Request::new("OPTIONS", "/").header("origin", "https://a.test");
        request.header("access-control-request-method", "PUT").header("x-consumer-id", "root").build()
    };
    let exchange = preflight();
    assert_eq!(behind(&[KEY], "null", &exchange), Verdict::Next);
    assert_eq!(consumer(&exchange), None);
    assert_eq!(refused(behind(&[KEY], r#"{"run_on_preflight": true}"#, &preflight())).0, 401);
}

/// What must never pass, or get to the upstream.
#[test]
fn attacks_fail() {
    let state = r#"{"passed":true}"#;
    for (what, request) in [
        ("a name of its own", Request::get("/").header("x-consumer-id", "root")),
        ("the same with _", Request::get("/").header("x_consumer_id", "root")),
        ("a state of its own in a header", Request::get("/").header("auth-any", state)),
        ("in the query", Request::get("/?auth/any=%7B%22passed%22%3Atrue%7D")),
        ("in a cookie", Request::get("/").header("cookie", format!("auth/any={state}"))),
        ("two keys", Request::get("/?keys=wrong").header("x-key", "key")),
        ("a key twice, once wrong", Request::get("/").header("x-key", "key").header("X-Key", "wrong")),
        ("a key where the token belongs", Request::get("/").header("authorization", "key")),
        ("a token where the key belongs", Request::get("/").header("x-key", "token")),
        ("half of a preflight", Request::new("OPTIONS", "/").header("origin", "a")),
        ("a preflight with another method", Request::get("/").header("access-control-request-method", "PUT")),
        ("a huge key", Request::get("/").header("x-key", "k".repeat(60_000))),
    ] {
        let exchange = request.build();
        assert_eq!(refused(behind(&[TOKEN, KEY], "null", &exchange)).0, 401, "{what}");
        assert_eq!(consumer(&exchange), None, "{what}");
        for name in ["x-consumer-id", "x_consumer_id"] {
            assert_eq!(exchange.request().header(name), None, "{what}");
        }
    }
    // Whoever is let in by one credential must not have another one believed that nobody has checked.
    for (what, doors) in [("refused before", [TOKEN, KEY]), ("not looked at behind", [KEY, TOKEN])] {
        let request = Request::get("/?tokens=forged&a=b").header("x-key", "key");
        let exchange = request.header("authorization", "forged").build();
        assert_eq!(behind(&doors, "null", &exchange), Verdict::Next, "{what}");
        assert_eq!(exchange.request().header("authorization"), None, "{what}");
        assert_eq!(exchange.request().path_with_query(), "/?a=b", "{what}");
    }
    // What was accepted and is to be seen by the upstream stays, whoever else has refused it.
    let exchange = Request::get("/").header("authorization", "token").build();
    let other = Door("authorization", "another", true);
    assert_eq!(behind(&[other, TOKEN], "null", &exchange), Verdict::Next);
    assert_eq!(exchange.request().header_str("authorization").as_deref(), Some("token"));
}

#[test]
fn mistakes_are_named() {
    for (config, fault) in [
        (r#"{"anonymous": ""}"#, "anonymous: is empty, longer than 1024 bytes or holds a control character"),
        (
            r#"{"anonymous_if": "never"}"#,
            "anonymous_if: unknown variant `never`, expected `missing` or `refused`",
        ),
    ] {
        let refused = Host::new().load::<AuthAny>(config).err().expect("refused");
        assert_eq!(refused.to_string(), fault);
    }
}

#[test]
fn the_audit_is_told_the_reasons_of_all() {
    let nobody = || Request::get("/");
    for (doors, request, why, detail) in [
        (&[KEY, TOKEN][..], nobody(), Why::MISSING, Some("missing, missing")),
        (&[KEY, TOKEN], nobody().header("x-key", "wrong"), Why::NONE_VALID, Some("invalid_key, missing")),
        (&[KEY], nobody().header("x-key", "?"), Why::UNAVAILABLE, Some("unavailable")),
        (&[], nobody(), Why::MISSING, None),
    ] {
        let Verdict::Respond(answer) = behind(doors, "null", &request.build()) else { panic!("it passes") };
        let reason = answer.reason.expect("a reason");
        assert_eq!((reason.why, reason.detail.as_deref()), (why, detail));
    }
}

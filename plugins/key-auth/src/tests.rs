use std::time::Duration;

use wasmgate_sdk::consumers::Consumer;
use wasmgate_sdk::testing::{Host, Outcome, Request};

use super::*;

/// SHA-256 of "demo-key" and of "second".
const DEMO: &str = "c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c";
const SECOND: &str = "16367AACB67A4A017C8DA8AB95682CCB390863780F7114DDA0A0E0C55644C7C4";

fn config(more: &str) -> String {
    format!(
        r#"{{"keys": [
            {{"sha256": "{DEMO}", "consumer": "alice", "plan": "pro", "id": "k1", "groups": ["a", "b"]}},
            {{"sha256": "{SECOND}", "consumer": "bob"}}
        ] {more}}}"#
    )
}

fn send(more: &str, request: Request) -> Outcome {
    Host::new().load::<KeyAuth>(&config(more)).unwrap().send(request)
}

fn with_key(key: &str) -> Request {
    Request::get("/").header("x-api-key", key)
}

fn consumer(outcome: &Outcome) -> Option<String> {
    assert_eq!(outcome.request().var_str("consumer"), outcome.request().header_str("x-consumer-id"));
    outcome.sent.then(|| outcome.request().header_str("x-consumer-id")).flatten()
}

fn detail(outcome: &Outcome) -> Option<&str> {
    outcome.answer.as_ref()?.detail.as_deref()
}

#[test]
fn a_known_key_passes_and_names_its_consumer() {
    let outcome = send("", with_key("demo-key"));
    assert!(outcome.sent);
    let request = outcome.request();
    for (name, value) in [
        ("x-consumer-id", "alice"),
        ("x-consumer-username", "alice"),
        ("x-consumer-groups", "a, b"),
        ("x-credential-identifier", "k1"),
    ] {
        assert_eq!(request.header_str(name).as_deref(), Some(value));
    }
    assert_eq!(request.var_str("consumer").as_deref(), Some("alice"));
    assert_eq!(request.var_str("plan").as_deref(), Some("pro"));
    assert_eq!(request.header("x-api-key"), None, "hidden");
    assert_eq!(request.header("x-anonymous-consumer"), None);
}

#[test]
fn what_the_config_does_not_say_is_not_said() {
    let outcome = send("", with_key("second"));
    assert_eq!(consumer(&outcome).as_deref(), Some("bob"), "digits of either case");
    assert_eq!(outcome.request().header("x-consumer-groups"), None);
    assert_eq!(outcome.request().header("x-credential-identifier"), None);
    assert_eq!(outcome.request().var("plan"), None);
}

#[test]
fn without_a_known_key_it_is_401_with_a_challenge() {
    for (request, expected) in [
        (Request::get("/"), "No API key found in request"),
        (with_key(""), "No API key found in request"),
        (with_key("wrong"), "Unauthorized"),
        (with_key("demo-key "), "Unauthorized"),
        (with_key(DEMO), "Unauthorized"),
        (Request::get("/").header("x-api-key", b"\xff"), "Unauthorized"),
        (with_key("demo-key").header("x-api-key", "second"), "Duplicate API key found"),
    ] {
        let outcome = send("", request);
        assert!(!outcome.sent);
        assert_eq!((outcome.response().status(), detail(&outcome)), (401, Some(expected)));
        assert_eq!(outcome.code.as_deref(), Some("unauthenticated"));
        assert!(outcome.response_body.is_empty(), "the gateway writes the body");
        let challenge = outcome.response().header_str("www-authenticate");
        assert_eq!(challenge.as_deref(), Some("Key realm=\"gateway\""));
        assert_eq!(outcome.request().var("consumer"), None);
    }
}

#[test]
fn the_realm_is_the_configs() {
    let outcome = send(r#", "realm": "my api""#, Request::get("/"));
    let challenge = outcome.response().header_str("www-authenticate");
    assert_eq!(challenge.as_deref(), Some("Key realm=\"my api\""));
}

#[test]
fn an_identity_from_outside_is_removed() {
    let forged = || {
        let request = Request::get("/").header("X-Consumer-Id", "root").header("x_consumer_id", "root");
        let request = request.header("x-consumer-custom-id", "1").header("x-consumer-groups", "admins");
        request.header("x-anonymous-consumer", "no").header("x-credential-identifier", "k9")
    };
    let outcome = send("", forged().header("x-api-key", "second"));
    assert_eq!(outcome.request().header_all("x-consumer-id"), [b"bob"]);
    for name in ["x_consumer_id", "x-consumer-custom-id", "x-consumer-groups", "x-anonymous-consumer"] {
        assert_eq!(outcome.request().header(name), None, "{name}");
    }
    assert_eq!(outcome.request().header("x-credential-identifier"), None);
    let preflight =
        Request::new("OPTIONS", "/").header("origin", "o").header("access-control-request-method", "PUT");
    let outcome = send("", preflight.header("x-consumer-id", "root"));
    assert_eq!((outcome.sent, outcome.request().header("x-consumer-id")), (true, None));
}

#[test]
fn without_a_key_a_request_may_be_anonymous() {
    let more = r#", "anonymous": "guest""#;
    let outcome = send(more, Request::get("/").header("x-consumer-id", "root"));
    assert_eq!(consumer(&outcome).as_deref(), Some("guest"));
    assert_eq!(outcome.request().header_str("x-consumer-username").as_deref(), Some("guest"));
    assert_eq!(outcome.request().header_str("x-anonymous-consumer").as_deref(), Some("true"));
    assert_eq!(detail(&send(more, with_key("wrong"))), Some("Unauthorized"));
    assert_eq!(consumer(&send(more, with_key("demo-key"))).as_deref(), Some("alice"));
    let nobody = Host::new().load::<KeyAuth>(r#"{"anonymous": "guest"}"#).unwrap();
    assert_eq!(consumer(&nobody.send(Request::get("/"))).as_deref(), Some("guest"));
}

#[test]
fn several_headers_may_carry_the_key() {
    let more = r#", "header": ["X-Api-Key", "apikey"]"#;
    let both = |key| with_key("demo-key").header("apikey", key);
    assert_eq!(consumer(&send(more, Request::get("/").header("apikey", "second"))).as_deref(), Some("bob"));
    assert_eq!(detail(&send(more, both("second"))), Some("Duplicate API key found"));
    let outcome = send(more, both("demo-key"));
    assert_eq!(consumer(&outcome).as_deref(), Some("alice"), "twice the same is no doubt");
    assert_eq!((outcome.request().header("x-api-key"), outcome.request().header("apikey")), (None, None));
}

#[test]
fn a_header_without_the_prefix_carries_no_key() {
    let more = r#", "header": "authorization", "prefix": "Bearer ", "query": "key""#;
    let get = |target, value| Request::get(target).header("authorization", value);
    for value in ["Bearer demo-key", "bearer demo-key"] {
        let outcome = send(more, get("/", value));
        assert_eq!(consumer(&outcome).as_deref(), Some("alice"));
        assert_eq!(outcome.request().header("authorization"), None);
    }
    for value in ["Basic demo-key", "demo-key", "Bearer ", "B"] {
        assert_eq!(detail(&send(more, get("/", value))), Some("No API key found in request"), "{value}");
    }
    let outcome = send(more, get("/?key=demo-key", "Basic dTpw"));
    assert_eq!(outcome.request().header_str("authorization").as_deref(), Some("Basic dTpw"), "not the key");
}

#[test]
fn a_query_parameter_may_carry_the_key() {
    let more = r#", "query": "key""#;
    for (target, hidden) in [
        ("/x?key=demo-key", "/x"),
        ("/x?a=1&key=demo-key&b=%20&&c", "/x?a=1&b=%20&&c"),
        ("/x?k%65y=demo%2Dkey", "/x"),
        ("/x?key=demo-key&key=demo-key&a", "/x?a"),
    ] {
        let outcome = send(more, Request::get(target));
        assert_eq!(consumer(&outcome).as_deref(), Some("alice"), "{target}");
        assert_eq!(outcome.request().path_with_query(), hidden);
    }
    for (target, expected) in [
        ("/", "No API key found in request"),
        ("/?key", "No API key found in request"),
        ("/?keys=demo-key", "No API key found in request"),
        ("/?key=demo-key&key=second", "Duplicate API key found"),
    ] {
        assert_eq!(detail(&send(more, Request::get(target))), Some(expected), "{target}");
    }
    assert_eq!(detail(&send("", Request::get("/?key=demo-key"))), Some("No API key found in request"));
}

#[test]
fn a_cookie_may_carry_the_key() {
    let more = r#", "header": [], "cookie": "key""#;
    let get = |cookie| Request::get("/").header("cookie", cookie);
    for (cookie, hidden) in [
        ("key=demo-key", None),
        ("a=b; key=demo-key; c=\"d\"", Some("a=b; c=\"d\"")),
        ("keys=x;key=demo-key", Some("keys=x")),
    ] {
        let outcome = send(more, get(cookie));
        assert_eq!(consumer(&outcome).as_deref(), Some("alice"), "{cookie}");
        assert_eq!(outcome.request().header_str("cookie").as_deref(), hidden);
    }
    let outcome = send(more, get("a=b").header("cookie", "key=demo-key"));
    assert_eq!(outcome.request().header_all("cookie"), [b"a=b"]);
    assert_eq!(detail(&send(more, get("Key=demo-key"))), Some("No API key found in request"));
    assert_eq!(detail(&send(more, get("key=a; key=b"))), Some("Duplicate API key found"));
    assert_eq!(detail(&send(more, with_key("demo-key"))), Some("No API key found in request"));
}

#[test]
fn the_key_may_go_on_to_the_upstream() {
    let more = r#", "query": "key", "cookie": "key", "hide_credentials": false"#;
    let request = Request::get("/?key=demo-key").header("cookie", "key=demo-key");
    let outcome = send(more, request.header("x-api-key", "demo-key"));
    let request = outcome.request();
    assert_eq!(consumer(&outcome).as_deref(), Some("alice"));
    assert_eq!(request.header_str("x-api-key").as_deref(), Some("demo-key"));
    assert_eq!(request.header_str("cookie").as_deref(), Some("key=demo-key"));
    assert_eq!(request.path_with_query(), "/?key=demo-key");
}

#[test]
fn preflights_pass_unless_told_otherwise() {
    let options = || Request::new("OPTIONS", "/").header("origin", "https://a.test");
    let preflight = || options().header("access-control-request-method", "PUT");
    let outcome = send("", preflight().header("x-api-key", "demo-key"));
    assert!(outcome.sent && outcome.request().header("x-api-key").is_none());
    assert!(!send("", options()).sent);
    assert!(!send("", Request::get("/").header("access-control-request-method", "PUT")).sent);
    assert!(!send(r#", "run_on_preflight": true"#, preflight()).sent);
}

/// A key of the gateway's form.
const OWN: &str = "wg_bobsdemokey1_ThisKeyIsOnlyForTheReadmeOfIt0002B2kgt";

fn carol() -> Host {
    let carol = Consumer {
        custom_id: Some("u-3".to_string()),
        groups: vec!["staff".to_string()],
        plan: Some("pro".to_string()),
        ..Consumer::new("carol")
    };
    Host::new().consumer(carol).key("bobsdemokey1", OWN, "carol").key("k2", "second-of-carol", "carol")
}

#[test]
fn keys_of_the_gateways_consumers_pass() {
    let host = carol();
    let plugin = host.load::<KeyAuth>(&config(r#", "consumers": true"#)).unwrap();
    let outcome = plugin.send(with_key(OWN));
    assert_eq!(consumer(&outcome).as_deref(), Some("carol"));
    let request = outcome.request();
    for (name, value) in [
        ("x-consumer-custom-id", "u-3"),
        ("x-consumer-groups", "staff"),
        ("x-credential-identifier", "bobsdemokey1"),
    ] {
        assert_eq!(request.header_str(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(request.var_str("plan").as_deref(), Some("pro"));
    assert_eq!(consumer(&plugin.send(with_key("second-of-carol"))).as_deref(), Some("carol"));
    assert_eq!(consumer(&plugin.send(with_key("demo-key"))).as_deref(), Some("alice"), "the config's");
    host.revoke(OWN);
    assert_eq!(detail(&plugin.send(with_key(OWN))), Some("Unauthorized"));
    assert!(plugin.send(with_key("second-of-carol")).sent);
    host.revoke("carol");
    assert_eq!(detail(&plugin.send(with_key("second-of-carol"))), Some("Unauthorized"));
    let none = carol().load::<KeyAuth>(&config("")).unwrap();
    assert_eq!(detail(&none.send(with_key(OWN))), Some("Unauthorized"), "not asked for");
}

#[test]
fn without_an_answer_nobody_is_refused_or_let_in() {
    let host = carol();
    let plugin = host.load::<KeyAuth>(&config(r#", "consumers": true"#)).unwrap();
    let host = host.consumers_fail(Failure::Unavailable);
    let outcome = plugin.send(with_key(OWN));
    assert_eq!((outcome.sent, outcome.response().status()), (false, 503));
    assert_eq!(outcome.code.as_deref(), Some("consumers_unavailable"));
    assert!(plugin.send(with_key("demo-key")).sent, "known without asking");
    assert_eq!(plugin.send(Request::get("/")).response().status(), 401);
    host.consumers_fail(Failure::NotGranted);
    let outcome = plugin.send(with_key(OWN));
    assert_eq!((outcome.sent, outcome.response().status()), (false, 503));
    let refused = Host::new().load::<KeyAuth>(r#"{"consumers": true}"#).err().unwrap().to_string();
    assert!(refused.starts_with("consumers: the plugin may not ask for consumers"), "{refused}");
}

#[test]
fn attacks_fail() {
    let plugin = carol().load::<KeyAuth>(&config(r#", "consumers": true"#)).unwrap();
    let changed = |from: &str, to: &str| with_key(&OWN.replace(from, to));
    let huge = "x".repeat(1 << 20);
    for (attack, request, expected) in [
        ("the key twice, once wrong", with_key(OWN).header("x-api-key", "a"), "Duplicate API key found"),
        ("two good keys", with_key(OWN).header("X-API-KEY", "demo-key"), "Duplicate API key found"),
        ("several in one field", with_key(&format!("{OWN}, demo-key")), "Unauthorized"),
        ("another case", with_key(&OWN.to_ascii_uppercase()), "Unauthorized"),
        ("another case of the prefix", changed("wg_", "WG_"), "Unauthorized"),
        ("the id alone", with_key("bobsdemokey1"), "Unauthorized"),
        ("the id and no secret", with_key(&OWN[..16]), "Unauthorized"),
        ("without its checksum", with_key(&OWN[..48]), "Unauthorized"),
        ("with a byte behind it", with_key(&format!("{OWN}\t")), "Unauthorized"),
        ("another secret", changed("ThisKey", "ThatKey"), "Unauthorized"),
        ("the digest of a key", with_key(DEMO), "Unauthorized"),
        ("its digest as the config has it", with_key(&format!("sha256:{DEMO}")), "Unauthorized"),
        ("a name", with_key("carol"), "Unauthorized"),
        ("no text", with_key("").header("x-api-key", b"\xff\xfe"), "Unauthorized"),
        ("a huge one", with_key(&huge), "Unauthorized"),
        (
            "elsewhere",
            Request::get(&format!("/?key={OWN}")).header("cookie", OWN),
            "No API key found in request",
        ),
        (
            "an identity without a key",
            Request::get("/").header("x-consumer-id", "carol"),
            "No API key found in request",
        ),
    ] {
        let outcome = plugin.send(request);
        assert!(!outcome.sent, "{attack}");
        assert_eq!((outcome.response().status(), detail(&outcome)), (401, Some(expected)), "{attack}");
        assert_eq!(outcome.request().var("consumer"), None, "{attack}");
    }
}

#[test]
fn keys_of_the_config_have_a_beginning_and_an_end() {
    let host = Host::new();
    let keys = format!(
        r#"{{"keys": [
            {{"sha256": "{DEMO}", "consumer": "alice", "expires": "2026-01-01T01:00:00Z"}},
            {{"sha256": "{SECOND}", "consumer": "alice", "not_before": "2026-01-01T00:30:00Z"}}
        ]}}"#
    );
    let plugin = host.load::<KeyAuth>(&keys).unwrap();
    let good = || ["demo-key", "second"].map(|key| plugin.send(with_key(key)).sent);
    assert_eq!(good(), [true, false]);
    host.advance(Duration::from_secs(1800));
    assert_eq!(good(), [true, true], "both, to change from one to the other");
    host.advance(Duration::from_secs(1800));
    assert_eq!(good(), [false, true]);
    assert_eq!(detail(&plugin.send(with_key("demo-key"))), Some("Unauthorized"));
}

#[test]
fn one_of_several_refuses_nobody_by_itself() {
    let more = r#", "any": true"#;
    for request in [Request::get("/"), with_key("wrong")] {
        let outcome = send(more, request.header("x-consumer-id", "root"));
        assert_eq!((outcome.sent, consumer(&outcome)), (true, None));
    }
    assert_eq!(consumer(&send(more, with_key("demo-key"))).as_deref(), Some("alice"));
}

#[test]
fn mistakes_are_named() {
    let refusal = |config: &str| Host::new().load::<KeyAuth>(config).err().unwrap().to_string();
    let key = |key: &str| refusal(&format!(r#"{{"keys": [{key}]}}"#));
    let with = |more: &str| refusal(&config(more));
    let no_digest = "keys[0].sha256: is not 64 hex digits";
    for digest in ["", "abc", &DEMO[1..], &"zz".repeat(32), &"ä".repeat(32), &"0".repeat(66)] {
        assert_eq!(key(&format!(r#"{{"sha256": "{digest}", "consumer": "a"}}"#)), no_digest);
    }
    let name = "is empty, longer than 1024 bytes or holds a control character";
    for (more, expected) in [
        (r#""consumer": """#, format!("keys[0].consumer: {name}")),
        (r#""consumer": "a\nb""#, format!("keys[0].consumer: {name}")),
        (r#""consumer": "a", "plan": """#, format!("keys[0].plan: {name}")),
        (r#""consumer": "a", "id": """#, format!("keys[0].id: {name}")),
        (r#""consumer": "a", "groups": ["a", ""]"#, format!("keys[0].groups[1]: {name}")),
        (r#""consumer": "a", "groups": ["a,b"]"#, "keys[0].groups[0]: holds a comma".to_string()),
        (
            r#""consumer": "a", "not_before": "2026-01-02T00:00:00Z", "expires": "2026-01-01T00:00:00Z""#,
            "keys[0].expires: is not after not_before".to_string(),
        ),
        (
            r#""consumer": "a", "expires": "soon""#,
            "keys[0].expires: \"soon\" is not a time such as \"2027-01-01T00:00:00Z\"".to_string(),
        ),
    ] {
        assert_eq!(key(&format!(r#"{{"sha256": "{DEMO}", {more}}}"#)), expected);
    }
    let twice = format!(r#"{{"sha256": "{DEMO}", "consumer": "a"}}"#);
    assert_eq!(key(&format!("{twice}, {twice}")), "keys[1].sha256: is there already");
    for (config, expected) in [
        (r#", "header": "a b""#, "header: `a b` is not a header name"),
        (r#", "header": ["a", "te"]"#, "header[1]: `te` is the gateway's to set"),
        (r#", "header": 5"#, "header: expected the name of a header or a list of names"),
        (r#", "header": []"#, "header: is empty, and neither query nor cookie is given"),
        (r#", "query": """#, "query: is empty"),
        (r#", "cookie": """#, "cookie: is empty"),
        (r#", "cookie": "a=b; c""#, "cookie: is not the name of a cookie"),
        (r#", "realm": "\"""#, "realm: holds a quote, a backslash or a control character"),
    ] {
        assert_eq!(with(config), expected);
    }
    assert_eq!(with(r#", "anonymous": """#), format!("anonymous: {name}"));
    assert_eq!(refusal("null"), "keys: none is given, so nobody could pass");
}

#[test]
fn the_audit_is_told_why() {
    let of = |consumer: &str, credential: Option<&str>| Identity {
        credential: credential.map(str::to_string),
        ..Identity::of(consumer)
    };
    let host = Host::new().consumer(Consumer::new("carol"));
    let config = config(r#", "consumers": true"#)
        .replace(r#""id": "k1""#, r#""id": "k1", "expires": "2025-12-31T23:00:00Z""#)
        .replace(r#""consumer": "bob""#, r#""consumer": "bob", "not_before": "2026-01-02T00:00:00Z""#);
    let plugin = host.load::<KeyAuth>(&config).unwrap();
    for (request, reason) in [
        (Request::get("/"), Why::MISSING.into()),
        (with_key("wrong"), Why::INVALID_KEY.into()),
        (with_key("demo-key"), Reason::new(Why::EXPIRED).whose(&of("alice", Some("k1")))),
        (with_key("second"), Reason::new(Why::NOT_YET).whose(&of("bob", None))),
        (with_key("demo-key").header("x-api-key", "second"), Why::SEVERAL.into()),
    ] {
        assert_eq!(plugin.send(request).reason, Some(reason));
    }
    let _host = host.consumers_fail(Failure::Unavailable);
    assert_eq!(plugin.send(with_key("wrong")).reason, Some(Why::UNAVAILABLE.into()));
    assert_eq!(send("", with_key("demo-key")).reason, None, "whoever passes costs no call");
    assert_eq!(send(r#", "any": true"#, with_key("wrong")).reason, None, "nobody is refused yet");
}

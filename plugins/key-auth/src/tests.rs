use wasmgate_sdk::testing::{Host, Outcome, Request};

use super::*;

/// SHA-256 of "demo-key".
const DEMO: &str = "c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c";

fn config(more: &str) -> String {
    format!(
        r#"{{"keys": [{{"sha256": "{DEMO}", "consumer": "alice", "plan": "pro", "id": "k1", "groups": ["a", "b"]}}] {more}}}"#
    )
}

fn send(more: &str, request: Request) -> Outcome {
    Host::new().load::<KeyAuth>(&config(more)).unwrap().send(request)
}

fn refusal(config: &str) -> String {
    let error = Host::new().load::<KeyAuth>(config).err().unwrap();
    error.to_string()
}

fn detail(outcome: &Outcome) -> Option<&str> {
    outcome.answer.as_ref()?.detail.as_deref()
}

#[test]
fn a_known_key_passes_and_names_its_consumer() {
    let outcome = send("", Request::get("/").header("x-api-key", "demo-key"));
    assert!(outcome.sent);
    let request = outcome.request();
    assert_eq!(request.header_str("x-consumer-id").as_deref(), Some("alice"));
    assert_eq!(request.header_str("x-consumer-groups").as_deref(), Some("a, b"));
    assert_eq!(request.header_str("x-credential-identifier").as_deref(), Some("k1"));
    assert_eq!(request.var_str("consumer").as_deref(), Some("alice"));
    assert_eq!(request.var_str("plan").as_deref(), Some("pro"));
    assert_eq!(request.header("x-api-key"), None, "hidden");
}

#[test]
fn without_a_known_key_it_is_401_with_a_challenge() {
    for (request, expected) in [
        (Request::get("/"), "No API key found in request"),
        (Request::get("/").header("x-api-key", ""), "No API key found in request"),
        (Request::get("/").header("x-api-key", "wrong"), "Unauthorized"),
        (
            Request::get("/").header("x-api-key", "demo-key").header("x-api-key", "b"),
            "Duplicate API key found",
        ),
    ] {
        let outcome = send("", request);
        assert!(!outcome.sent);
        assert_eq!(detail(&outcome), Some(expected));
        assert_eq!(outcome.code.as_deref(), Some("unauthenticated"));
        let challenge = outcome.response().header_str("www-authenticate");
        assert_eq!(challenge.as_deref(), Some("Key realm=\"gateway\""));
    }
}

#[test]
fn an_identity_from_outside_is_removed() {
    let forged = || Request::get("/").header("x-consumer-id", "root").header("x-anonymous-consumer", "no");
    let outcome = send("", forged().header("x-api-key", "demo-key"));
    assert_eq!(outcome.request().header_all("x-consumer-id"), [b"alice"]);
    assert_eq!(outcome.request().header("x-anonymous-consumer"), None);
    let anonymous = send(r#", "anonymous": "guest""#, forged());
    assert_eq!(anonymous.request().header_all("x-consumer-id"), [b"guest"]);
    assert_eq!(anonymous.request().header_str("x-anonymous-consumer").as_deref(), Some("true"));
}

#[test]
fn a_wrong_key_is_not_anonymous() {
    let outcome = send(r#", "anonymous": "guest""#, Request::get("/").header("x-api-key", "wrong"));
    assert_eq!(detail(&outcome), Some("Unauthorized"));
}

#[test]
fn keys_in_query_and_cookie_are_found_and_hidden() {
    let more = r#", "header": "", "query": "key", "cookie": "session""#;
    let outcome = send(more, Request::get("/x?a=1&key=demo-key&b=%20"));
    assert!(outcome.sent);
    assert_eq!(outcome.request().path_with_query(), "/x?a=1&b=%20");
    let outcome = send(more, Request::get("/x?key=demo-key"));
    assert_eq!(outcome.request().path_with_query(), "/x");
    let outcome = send(more, Request::get("/").header("cookie", "a=b; session=demo-key; c=d"));
    assert_eq!(outcome.request().header_str("cookie").as_deref(), Some("a=b; c=d"));
    let outcome = send(more, Request::get("/").header("cookie", "session=demo-key"));
    assert_eq!(outcome.request().header("cookie"), None);
    let shown = send(
        &format!(r#"{more}, "hide_credentials": false"#),
        Request::get("/").header("cookie", "session=demo-key"),
    );
    assert!(shown.request().header("cookie").is_some());
}

#[test]
fn a_prefix_is_part_of_the_place() {
    let more = r#", "header": "authorization", "prefix": "Bearer ""#;
    assert!(send(more, Request::get("/").header("authorization", "Bearer demo-key")).sent);
    assert!(!send(more, Request::get("/").header("authorization", "Basic demo-key")).sent);
}

#[test]
fn preflights_pass_unless_told_otherwise() {
    let preflight = || {
        Request::new("OPTIONS", "/")
            .header("origin", "https://a.test")
            .header("access-control-request-method", "PUT")
    };
    assert!(send("", preflight()).sent);
    assert!(!send("", Request::new("OPTIONS", "/")).sent);
    assert!(!send(r#", "run_on_preflight": true"#, preflight()).sent);
}

#[test]
fn mistakes_are_named() {
    assert!(refusal("{}").contains("keys"));
    assert!(refusal(r#"{"keys": [{"sha256": "abc", "consumer": "a"}]}"#).contains("keys[0].sha256"));
    let zz = "zz".repeat(32);
    assert!(
        refusal(&format!(r#"{{"keys": [{{"sha256": "{zz}", "consumer": "a"}}]}}"#))
            .contains("keys[0].sha256")
    );
    assert!(refusal(&config(r#", "header": "a b""#)).contains("header"));
    assert!(refusal(&config(r#", "header": """#)).contains("neither query nor cookie"));
    assert!(refusal(&config(r#", "realm": "\"""#)).contains("realm"));
}

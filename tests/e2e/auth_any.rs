//! Several ways in, of which one is enough.

use std::fs;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use wasmgate_tests::{TestGateway, TestUpstream, request, run_in};

const SECRET: &str = "a secret of the tests, of which nobody else knows";

/// A token or a key, and behind them the plugin that closes their group.
fn gateway(upstream: &TestUpstream, auth_any: &str) -> TestGateway {
    TestGateway::before(
        upstream,
        &format!(
            r#"
[plugins]
directory = "{{plugins}}"
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "jwt"
[route.plugins.config]
any = true
hide_credentials = false
headers = {{ x-role = "role" }}
issuers = [{{ secret = "{SECRET}", algorithms = ["HS256"] }}]
[[route.plugins]]
name = "key-auth"
[route.plugins.config]
any = true
keys = [{{ sha256 = "c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c", consumer = "alice" }}]
[[route.plugins]]
name = "auth-any"
config = {{ {auth_any} }}
"#
        ),
    )
}

fn bearing(subject: &str, secret: &str) -> String {
    let claims = format!(r#"{{"sub":"{subject}","role":"{subject}","exp":4102444800}}"#);
    let signed = [r#"{"alg":"HS256"}"#, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    let tag = wasmgate_crypto::hmac(wasmgate_crypto::Hash::Sha256, secret.as_bytes(), signed.as_bytes());
    format!("Authorization: Bearer {signed}.{}\r\n", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

const KEY: &str = "X-Api-Key: demo-key\r\n";
const FORGED: &str = "X-Consumer-Id: root\r\nX-Role: root\r\nX-Anonymous-Consumer: no\r\n";

#[test]
fn a_token_or_a_key_will_do() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, "");
    let (good, bad) =
        (bearing("bob", SECRET), bearing("root", "another secret, as long as that one has to be"));
    for (fields, consumer, role) in [
        (good.clone(), "bob", Some("bob")),
        (KEY.to_owned(), "alice", None),
        (format!("{good}{KEY}"), "bob", Some("bob")),
        (format!("{good}X-Api-Key: wrong\r\n"), "bob", Some("bob")),
        (format!("{bad}{KEY}"), "alice", None),
    ] {
        let answer = request(gateway.addr(), "GET", "/", &format!("{FORGED}{fields}"));
        assert_eq!(answer.status, 200, "{fields}");
        let seen = upstream.take_requests().remove(0);
        assert_eq!(seen.head.fields.all("x-consumer-id"), [consumer], "{fields}");
        assert_eq!(seen.header("x-role"), role, "{fields}");
        assert_eq!((seen.header("x-api-key"), seen.header("x-anonymous-consumer")), (None, None), "{fields}");
        let is_kept = consumer == "bob";
        assert_eq!(
            seen.header("authorization").is_some(),
            is_kept,
            "what nobody has accepted does not go on: {fields}"
        );
    }
    for fields in [String::new(), bad, "X-Api-Key: wrong\r\n".to_owned()] {
        let refused = request(gateway.addr(), "GET", "/", &format!("{FORGED}{fields}"));
        assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"), "{fields}");
        let challenges = refused.head.fields.all("www-authenticate");
        assert_eq!(challenges.len(), 2, "{challenges:?}");
        assert!(challenges[0].starts_with("Bearer realm=\"gateway\""), "{challenges:?}");
        assert_eq!(challenges[1], "Key realm=\"gateway\"");
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn the_check_warns_of_what_nobody_closes() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, "");
    let told = |text: &str| {
        let output = run_in(&gateway.directory(), &["check", text]);
        assert_eq!(output.code, Some(0), "{output:?}");
        output.err.lines().filter(|line| line.contains("no plugin behind it decides")).count()
    };
    assert_eq!(told("gateway.toml"), 0);
    let closed = fs::read_to_string(gateway.directory().join("gateway.toml")).unwrap();
    let (open, _) = closed.rsplit_once("[[route.plugins]]").unwrap();
    fs::write(gateway.directory().join("open.toml"), open).unwrap();
    assert_eq!(told("open.toml"), 2);
}

#[test]
fn whoever_shows_nothing_may_be_a_guest() {
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, "anonymous = \"guest\"");
    assert_eq!(request(gateway.addr(), "GET", "/", FORGED).status, 200);
    let seen = upstream.take_requests().remove(0);
    assert_eq!(seen.head.fields.all("x-consumer-id"), ["guest"]);
    assert_eq!(seen.head.fields.all("x-anonymous-consumer"), ["true"]);
    assert_eq!(request(gateway.addr(), "GET", "/", KEY).status, 200);
    assert_eq!(upstream.take_requests().remove(0).header("x-anonymous-consumer"), None);
    assert_eq!(request(gateway.addr(), "GET", "/", "X-Api-Key: wrong\r\n").status, 401);
}

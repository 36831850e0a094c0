//! Tokens whose keys are fetched from an issuer that changes them, from a client's request to what the upstream got.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use wasmgate_tests::{Client, Gate, TestGateway, TestUpstream, eventually, fill, request};

const CONFIG: &str = r#"
[server]
workers = 2
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[upstream.app]
endpoints = ["{app}"]
[upstream.idp]
endpoints = ["{idp}"]
[plugin.jwt]
upstreams = ["idp"]
# There are fewer instances than requests in one of the tests.
limits = { wait = "20s" }
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "jwt"
[[route.plugins.config.issuers]]
iss = "https://idp.test"
audiences = ["api"]
algorithms = ["HS256"]
remote = { upstream = "idp", path = "/jwks.json", min_refresh = "1ms" }
"#;

/// An issuer with these keys, by name; it answers when the gate is open.
struct Idp {
    upstream: TestUpstream,
    kids: Arc<Mutex<Vec<&'static str>>>,
    gate: Gate,
}

impl Idp {
    fn new() -> Idp {
        let (kids, gate) = (Arc::new(Mutex::new(vec!["a"])), Gate::new());
        let (said, open) = (kids.clone(), gate.clone());
        let upstream = TestUpstream::start(move |call| {
            call.body()?;
            open.wait();
            let keys: Vec<_> = said
                .lock()
                .unwrap()
                .iter()
                .map(|kid| {
                    let key = BASE64_URL_SAFE_NO_PAD.encode(secret_of(kid));
                    format!(r#"{{"kty":"oct","kid":"{kid}","alg":"HS256","k":"{key}"}}"#)
                })
                .collect();
            let set = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
            call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len()))
        });
        Idp { upstream, kids, gate }
    }
}

fn secret_of(kid: &str) -> String {
    kid.repeat(32)
}

/// Alice's token, signed with this key.
fn token(kid: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(60);
    let head = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
    let claims = format!(r#"{{"iss":"https://idp.test","aud":"api","sub":"alice","exp":{}}}"#, now.as_secs());
    let signed = [head, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    let tag =
        wasmgate_crypto::hmac(wasmgate_crypto::Hash::Sha256, secret_of(kid).as_bytes(), signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

fn bearing(kid: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(kid))
}

#[test]
fn a_new_key_is_fetched_once_whoever_asks() {
    let (idp, app) = (Idp::new(), TestUpstream::echo_headers());
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config);
    idp.gate.open();
    let known = request(gateway.addr(), "GET", "/", &bearing("a"));
    assert_eq!(known.status, 200, "{}", known.text());
    let seen = app.request();
    assert_eq!((seen.header("x-consumer-id"), seen.header("authorization")), (Some("alice"), None));
    assert_eq!(idp.upstream.count(), 1);
    assert_eq!(request(gateway.addr(), "GET", "/", &bearing("a")).status, 200);
    assert_eq!(idp.upstream.count(), 1);
    let refused = request(gateway.addr(), "GET", "/", "");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer realm=\"gateway\"")));
}

#[test]
fn a_thousand_tokens_of_a_new_key_make_one_fetch() {
    let (idp, app) = (Idp::new(), TestUpstream::ok());
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config.replace("1ms", "10s"));
    idp.kids.lock().unwrap().push("b");
    let field = bearing("b");
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = Client::connect(gateway.addr());
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
            client
        })
        .collect();
    eventually!(gateway.metric("wasmgate_requests_in_flight{route=\"all\"}") == 1000.0);
    idp.gate.open();
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(idp.upstream.count(), 1);
}

#[test]
fn without_the_issuer_nobody_passes_whose_key_is_not_known() {
    let idp = Idp::new();
    let gone = TestUpstream::nobody();
    let config = fill(CONFIG, &[("app", &idp.upstream.address()), ("idp", &gone)]);
    let gateway = TestGateway::start(&config);
    let refused = request(gateway.addr(), "GET", "/", &bearing("a"));
    assert_eq!((refused.status, refused.code().as_str()), (503, "jwks_unavailable"));
    assert_eq!(request(gateway.addr(), "GET", "/", "Authorization: Bearer x\r\n").status, 401);
}

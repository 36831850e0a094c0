//! Tokens that an authorization server is asked about, from a client's request to what the upstream got.

use std::{
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

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
[plugin.oauth2-introspection]
upstreams = ["idp"]
# There are fewer instances than requests in one of the tests.
limits = { wait = "20s" }
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "oauth2-introspection"
[route.plugins.config]
upstream = "idp"
path = "/introspect"
client_id = "gateway"
client_secret = "secret"
cache_ttl_max = "2s"
negative_ttl = "100ms"
"#;

/// A server that knows these tokens; it answers when the gate is open.
struct Idp {
    upstream: TestUpstream,
    tokens: Arc<Mutex<Vec<&'static str>>>,
    gate: Gate,
}

impl Idp {
    fn new() -> Idp {
        let (tokens, gate) = (Arc::new(Mutex::new(vec!["alice"])), Gate::new());
        let (known, open) = (tokens.clone(), gate.clone());
        let upstream = TestUpstream::start(move |call| {
            let body = call.body()?.body.clone();
            open.wait();
            let asked = String::from_utf8_lossy(&body).into_owned();
            let token = asked.strip_prefix("token=").unwrap_or_default();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let said = match known.lock().unwrap().contains(&token) {
                true => format!(r#"{{"active":true,"sub":"{token}","exp":{}}}"#, now + 600),
                false => r#"{"active":false}"#.to_owned(),
            };
            call.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len()))
        });
        Idp { upstream, tokens, gate }
    }
}

fn status(gateway: &TestGateway, token: &str) -> u16 {
    request(gateway.addr(), "GET", "/", &format!("Authorization: Bearer {token}\r\n")).status
}

#[test]
fn a_token_passes_as_long_as_the_server_says_so() {
    let (idp, app) = (Idp::new(), TestUpstream::echo_headers());
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config);
    idp.gate.open();
    assert_eq!(status(&gateway, "alice"), 200);
    let seen = app.request();
    assert_eq!((seen.header("x-consumer-id"), seen.header("authorization")), (Some("alice"), None));
    let asked = idp.upstream.request();
    assert_eq!(
        (asked.target(), asked.header("authorization")),
        ("/introspect", Some("Basic Z2F0ZXdheTpzZWNyZXQ="))
    );
    assert_eq!(status(&gateway, "alice"), 200);
    assert_eq!(idp.upstream.count(), 1);
    assert_eq!(status(&gateway, "bob"), 401);
    idp.tokens.lock().unwrap().push("bob");
    eventually!(status(&gateway, "bob") == 200);
    idp.tokens.lock().unwrap().clear();
    eventually!(status(&gateway, "alice") == 401);
}

#[test]
fn two_hundred_requests_with_one_token_ask_once() {
    let (idp, app) = (Idp::new(), TestUpstream::ok());
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config.replace("2s", "60s"));
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let mut client = Client::connect(gateway.addr());
            client.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer alice\r\n\r\n");
            client
        })
        .collect();
    eventually!(gateway.metric("wasmgate_requests_in_flight{route=\"all\"}") == 200.0);
    idp.gate.open();
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(idp.upstream.count(), 1);
}

#[test]
fn without_the_server_nobody_passes_any_longer() {
    let (idp, app) = (Idp::new(), TestUpstream::ok());
    idp.gate.open();
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config);
    assert_eq!(status(&gateway, "alice"), 200);
    let gone = TestUpstream::nobody();
    gateway.reloads_after(|| gateway.write_config(&fill(CONFIG, &[("app", &app.address()), ("idp", &gone)])));
    let refused = request(gateway.addr(), "GET", "/", "Authorization: Bearer bob\r\n");
    assert_eq!((refused.status, refused.code().as_str()), (503, "introspection_unavailable"));
    eventually!(status(&gateway, "alice") == 503);
    assert_eq!(status(&gateway, "alice"), 503, "and it stays so");
    assert_eq!(request(gateway.addr(), "GET", "/", "").status, 401);
}

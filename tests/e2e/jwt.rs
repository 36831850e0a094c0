//! Tokens whose keys are fetched from an issuer that changes them, from a client's request to what the upstream got.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
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

/// An issuer with these keys, by name; it answers when the gate is open, and not at all while it is down.
struct Idp {
    upstream: TestUpstream,
    kids: Arc<Mutex<Vec<&'static str>>>,
    gate: Arc<Mutex<Gate>>,
    down: Arc<AtomicBool>,
}

impl Idp {
    fn new() -> Idp {
        let (kids, gate) = (Arc::new(Mutex::new(vec!["a"])), Arc::new(Mutex::new(Gate::new())));
        let down = Arc::new(AtomicBool::new(false));
        let (said, open, is_down) = (kids.clone(), gate.clone(), down.clone());
        let upstream = TestUpstream::start(move |call| {
            call.body()?;
            if is_down.load(SeqCst) {
                return call.close();
            }
            let gate = open.lock().unwrap().clone();
            gate.wait();
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
        Idp { upstream, kids, gate, down }
    }

    fn open(&self) {
        self.gate.lock().unwrap().open();
    }

    /// From the next request on it waits to be opened again.
    fn shut(&self) {
        *self.gate.lock().unwrap() = Gate::new();
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
    idp.open();
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

/// A request with this field, whose answer is still to come.
fn sent(gateway: &TestGateway, field: &str) -> Client {
    let mut client = Client::connect(gateway.addr());
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
    client
}

#[test]
fn a_thousand_tokens_of_a_new_key_make_one_fetch() {
    let (idp, app) = (Idp::new(), TestUpstream::ok());
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config.replace("1ms", "10s"));
    idp.kids.lock().unwrap().push("b");
    let field = bearing("b");
    let clients: Vec<_> = (0..1000).map(|_| sent(&gateway, &field)).collect();
    eventually!(gateway.metric("wasmgate_requests_in_flight{route=\"all\"}") == 1000.0);
    idp.open();
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(idp.upstream.count(), 1);
}

#[test]
fn a_thousand_tokens_of_a_key_that_has_replaced_a_known_one_make_one_fetch() {
    let (idp, app) = (Idp::new(), TestUpstream::ok());
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config.replace("1ms", "1s"));
    idp.open();
    assert_eq!(request(gateway.addr(), "GET", "/", &bearing("a")).status, 200);
    idp.shut();
    *idp.kids.lock().unwrap() = vec!["b"];
    let field = bearing("b");
    // Until the keys may be fetched again, these are refused; the first after that waits for them.
    let mut early = Vec::new();
    eventually!({
        early.push(sent(&gateway, &field));
        idp.upstream.count() == 2
    });
    let clients: Vec<_> = (0..1000).map(|_| sent(&gateway, &field)).collect();
    eventually!(gateway.metric("wasmgate_requests_in_flight{route=\"all\"}") >= 1000.0);
    idp.open();
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(idp.upstream.count(), 2);
    assert_eq!(request(gateway.addr(), "GET", "/", &bearing("a")).status, 401, "the old key is gone");
}

/// The keys are good for a second, and serve for another one where they cannot be fetched.
#[test]
fn known_keys_serve_for_their_time_while_the_issuer_is_down() {
    const TIME: Duration = Duration::from_secs(2);
    let (idp, app) = (Idp::new(), TestUpstream::ok());
    let times = "ttl = \"1s\", stale = \"1s\", min_refresh";
    let config = fill(CONFIG, &[("app", &app.address()), ("idp", &idp.upstream.address())]);
    let gateway = TestGateway::start(&config.replace("min_refresh", times));
    let status = |kid| request(gateway.addr(), "GET", "/", &bearing(kid)).status;
    idp.open();
    let begin = Instant::now();
    assert_eq!(status("a"), 200);
    let fetched = Instant::now();
    idp.down.store(true, SeqCst);
    let mut last_good = fetched;
    eventually!({
        let asked = Instant::now();
        match status("a") {
            200 => last_good = asked,
            503 => assert!(begin.elapsed() >= TIME, "{:?}", begin.elapsed()),
            status => panic!("{status}"),
        }
        last_good != asked
    });
    assert!(last_good > fetched, "some passed while it was down");
    assert!(last_good - fetched <= TIME, "{:?}", last_good - fetched);
    assert!(idp.upstream.count() > 1, "it is asked");
    let passed = app.count();
    for kid in ["a", "b"] {
        assert_eq!(status(kid), 503, "{kid}");
    }
    assert_eq!(app.count(), passed);
    idp.down.store(false, SeqCst);
    eventually!(status("a") == 200);
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

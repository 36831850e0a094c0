//! Requests that are signed, from the client's bytes to what the upstream got.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_STANDARD};
use wasmgate_crypto::{Hash, digest, hmac};
use wasmgate_tests::{Client, Response, TestGateway, TestUpstream, fill};

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
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "hmac-auth"
[route.plugins.config]
credentials = [{ id = "k1", secret = "a secret of the tests", consumer = "alice" }]
"#;

fn site() -> (TestGateway, TestUpstream) {
    let app = TestUpstream::ok();
    (TestGateway::start(&fill(CONFIG, &[("app", &app.address())])), app)
}

fn mac(text: &str) -> String {
    BASE64_STANDARD.encode(hmac(Hash::Sha256, b"a secret of the tests", text.as_bytes()))
}

/// The head of a POST to http://api.test/a?b=c, signed with this nonce for this body.
fn head(nonce: &str, body: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(digest(Hash::Sha256, body.as_bytes())));
    let params = format!(
        "(\"@method\" \"@target-uri\" \"content-digest\");created={now};keyid=\"k1\";nonce=\"{nonce}\""
    );
    let signature = mac(&format!(
        "\"@method\": POST\n\"@target-uri\": http://api.test/a?b=c\n\"content-digest\": {digest}\n\
         \"@signature-params\": {params}"
    ));
    format!(
        "POST /a?b=c HTTP/1.1\r\nHost: api.test\r\nContent-Digest: {digest}\r\nSignature-Input: sig={params}\r\n\
         Signature: sig=:{signature}:\r\n"
    )
}

fn whole(head: &str, body: &str) -> String {
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn send(gateway: &TestGateway, request: &str) -> Response {
    Client::connect(gateway.addr()).send(request).response()
}

#[test]
fn what_was_signed_passes_and_nothing_else() {
    let (gateway, app) = site();
    let signed = head("1", "hello");
    assert_eq!(send(&gateway, &whole(&signed, "hello")).status, 200);
    let seen = app.request();
    assert_eq!((seen.header("x-consumer-id"), seen.header("signature")), (Some("alice"), None));
    assert_eq!(seen.body, b"hello");
    let chunked =
        format!("{}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", head("2", "hello"));
    assert_eq!(send(&gateway, &chunked).status, 200);
    app.take_requests();
    let again = send(&gateway, &whole(&signed, "hello"));
    assert_eq!((again.status, again.header("www-authenticate")), (401, Some("Signature realm=\"gateway\"")));
    for (request, what) in [
        (whole(&head("3", "hello"), "hullo"), "another body"),
        (whole(&head("4", "hello"), ""), "no body"),
        (whole(&head("5", "hello"), "hello").replace("b=c", "b=d"), "another query"),
        (whole(&head("6", "hello"), "hello").replace("POST", "PUT"), "another method"),
        (whole(&head("7", "hello"), "hello").replace("Host: api.test", "Host: other.test"), "another host"),
        (whole(&head("8", "hello"), "hello").replace("Signature:", "X:"), "no signature"),
    ] {
        assert_eq!(send(&gateway, &request).status, 401, "{what}");
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn signatures_of_old_pass() {
    let (gateway, app) = site();
    // Whatever the time is, a date of ours has to be made for it: that of the gateway's own answer.
    let date = send(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").header("date").unwrap().to_owned();
    let signature = mac(&format!("date: {date}\nGET /x?y HTTP/1.1"));
    let request = format!(
        "GET /x?y HTTP/1.1\r\nHost: a\r\nDate: {date}\r\nAuthorization: hmac username=\"k1\", \
         algorithm=\"hmac-sha256\", headers=\"date request-line\", signature=\"{signature}\"\r\n\r\n"
    );
    assert_eq!(send(&gateway, &request.replace("/x", "/z")).status, 401);
    assert_eq!(send(&gateway, &request).status, 200);
    assert_eq!(app.request().header("x-consumer-id"), Some("alice"));
}

#[test]
fn one_of_many_copies_passes() {
    let (gateway, app) = site();
    let request = whole(&head("1", ""), "");
    let mut clients: Vec<_> = (0..50).map(|_| Client::connect(gateway.addr())).collect();
    for client in &mut clients {
        client.send(&request);
    }
    let passed = clients.iter_mut().map(|client| client.response().status).filter(|status| *status == 200);
    assert_eq!(passed.count(), 1);
    assert_eq!(app.count(), 1);
}

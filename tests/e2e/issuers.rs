//! Tokens of real issuers, PyJWT and jose: what they sign passes, by every algorithm that they share with the gateway, and
//! what is wrong with a token is seen.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use wasmgate_tests::{Python, TestGateway, TestUpstream, fill, or_skip, peer, request};

const ISSUER: &str = "https://issuer.test";

const CONFIG: &str = r#"
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[upstream.app]
endpoints = ["{app}"]
[upstream.issuer]
endpoints = ["{issuer}"]
[plugin.jwt]
upstreams = ["issuer"]
[[route]]
name = "pinned"
match = { path = "/pinned" }
upstream = "app"
[[route.plugins]]
name = "jwt"
[[route.plugins.config.issuers]]
iss = "https://issuer.test"
audiences = ["api"]
algorithms = ["ES256"]
remote = { upstream = "issuer", path = "/jwks.json" }
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "jwt"
[[route.plugins.config.issuers]]
iss = "https://issuer.test"
audiences = ["api"]
algorithms = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
]
remote = { upstream = "issuer", path = "/jwks.json" }
"#;

/// The algorithms of JOSE that the gateway knows.
const ALGORITHMS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "ES512", "EdDSA",
];

/// Tokens by what they are.
fn tokens(said: &Value) -> BTreeMap<&str, &str> {
    let all = said.as_object().expect("tokens").iter();
    all.map(|(what, token)| (what.as_str(), token.as_str().expect("a token"))).collect()
}

/// The gateway between an issuer that has said this and an upstream.
fn hold_against(output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let (good, bad) = (tokens(&said["good"]), tokens(&said["bad"]));
    assert!(ALGORITHMS.iter().all(|name| good.contains_key(name)), "{:?}", good.keys());
    assert!(bad.len() > 100, "{:?}", bad.keys());

    let set = said["jwks"].to_string();
    let issuer =
        TestUpstream::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len()));
    let app = TestUpstream::ok();
    let config = fill(CONFIG, &[("app", &app.address()), ("issuer", &issuer.address())]);
    let gateway = TestGateway::start(&config);
    let status = |path, token: &str| {
        request(gateway.addr(), "GET", path, &format!("Authorization: Bearer {token}\r\n")).status
    };
    for (algorithm, token) in &good {
        assert_eq!(status("/", token), 200, "{algorithm}");
        assert_eq!(app.request().header("x-consumer-id"), Some("alice"), "{algorithm}");
        app.take_requests();
    }
    for (what, token) in &bad {
        assert_eq!(status("/", token), 401, "{what}");
    }
    for (algorithm, token) in good.iter().filter(|(algorithm, _)| **algorithm != "ES256") {
        assert_eq!(status("/pinned", token), 401, "{algorithm}, where ES256 is asked for");
    }
    assert_eq!(app.count(), 0);
    assert_eq!(status("/pinned", good["ES256"]), 200);
    assert_eq!(issuer.count(), 1, "the keys are fetched once for both routes");
}

#[test]
fn tokens_of_pyjwt() {
    let Some(python) = Python::peer("jwt_peer.py", "jwt, cryptography") else { return };
    hold_against(&python.run(&[ISSUER, "api"]));
}

#[test]
fn tokens_of_jose() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/jose");
    let installed = folder.join("node_modules/jose").is_dir().then_some(folder);
    let (Some(folder), Some(node)) = (or_skip("jose (by npm ci)", installed), peer("node")) else { return };
    let program = folder.join("issue.mjs");
    hold_against(&Command::new(node).arg(program).args([ISSUER, "api"]).output().expect("Node runs"));
}

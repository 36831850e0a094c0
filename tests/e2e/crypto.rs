//! Guests verify signatures and passwords with the host's cryptography.

use std::{
    thread,
    time::{Duration, Instant},
};

use wasmgate_tests::{Client, TestGateway, TestUpstream};

/// One worker; a route `/plugin` whose responses pass a guest with these actions, and `/` without one.
fn gateway(upstream: &TestUpstream, actions: &str) -> TestGateway {
    TestGateway::before(
        upstream,
        &format!(
            "[server]\nworkers = 1\n[plugin.rogue]\nfile = \"{{guests}}/rogue.wasm\"\nlimits = {{ time = \"100ms\" }}\n\
             [[route]]\nname = \"plugin\"\nmatch = {{ path = \"/plugin\" }}\nupstream = \"app\"\n\
             plugins = [{{ name = \"rogue\", config = {{ response = [{actions}] }} }}]\n\
             [[route]]\nname = \"plain\"\nupstream = \"app\"\n"
        ),
    )
}

/// The header of the answer to one request that passed the actions.
fn shown(actions: &str, header: &str) -> Vec<String> {
    let upstream = TestUpstream::ok();
    let response = gateway(&upstream, actions).get("/plugin");
    assert_eq!(response.status, 200, "{}", response.text());
    response.head.fields.all(header).into_iter().map(str::to_owned).collect()
}

/// RFC 8037, appendix A.
#[test]
fn signatures_are_verified() {
    let jwk = r#"{ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }"#;
    let text = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "860c98d2297f3060a33f42739672d61b53cf3adefed3d3c672f320dc021b411e\
                     9d59b8628dc351e248b88b29468e0e41855b0fb7d83bb15be902bfccb8cd0a02";
    let action = |algorithm| format!("{{ verify = ['{jwk}', '{algorithm}', '{text}', '{signature}'] }}");
    assert_eq!(
        shown(&format!("{}, {}", action("EdDSA"), action("RS256")), "x-verified"),
        ["true false", "WrongKind: the key is Ed25519, which is not one for RS256"]
    );
}

#[test]
fn what_is_sealed_opens() {
    assert_eq!(shown("{ seal = 'secret' }", "x-sealed"), ["45 Some(\"secret\") None true"]);
}

#[test]
fn an_instance_has_a_bounded_number_of_keys() {
    assert_eq!(shown("'fill_keys'", "x-keys"), ["1024 Some(Exhausted), 1024 Some(Exhausted)"]);
}

#[test]
fn passwords_are_verified() {
    let hash = "$2b$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
    let actions =
        [(hash, "password"), (hash, "guess"), ("plain", "plain"), (&hash.replace("$04", "$18"), "x")]
            .map(|(hash, password)| format!("{{ verify_password = ['{hash}', '{password}'] }}"));
    assert_eq!(
        shown(&actions.join(", "), "x-password"),
        ["Ok(true)", "Ok(false)", "Err(Unsupported)", "Err(TooCostly)"]
    );
}

/// A hash that takes more than a second, ten times what the plugin may compute.
#[test]
fn a_slow_password_holds_up_nobody_else() {
    let hash = "$argon2id$v=19$m=65536,t=30,p=1$c29tZXNhbHQ$B8uw2Qnoidd0t6Kj0UiT0hAxYO2CWHG1pzkP78kpMk4";
    let upstream = TestUpstream::ok();
    let gateway = gateway(&upstream, &format!("{{ verify_password = ['{hash}', 'password'] }}"));
    let address = gateway.addr();
    let slow = thread::spawn(move || wasmgate_tests::get(address, "/plugin"));
    thread::sleep(Duration::from_millis(50));
    let mut client = Client::connect(address);
    let (mut answers, mut longest) = (0, Duration::ZERO);
    while !slow.is_finished() {
        let asked = Instant::now();
        assert_eq!(client.get("/").status, 200);
        longest = longest.max(asked.elapsed());
        answers += 1;
        thread::sleep(Duration::from_millis(1));
    }
    let response = slow.join().unwrap();
    assert_eq!((response.status, response.header("x-password")), (200, Some("Ok(true)")));
    assert!(answers > 50, "{answers} answers meanwhile, the slowest after {longest:?}");
}

//! Consumers that are known by passwords, by what they sign and by certificates, for plugins that the config grants it to.

use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use wasmgate_crypto::{Hash, hmac};
use wasmgate_tests::{
    Authority, Client, Issued, Response, TestGateway, TestUpstream, TlsClient, client_config, eventually,
    fill, request,
};

const CONFIG: &str = r#"
reload = { watch = true, debounce = "20ms" }
[[listener]]
name = "public"
address = "127.0.0.1:0"
[[listener]]
name = "tls"
address = "127.0.0.1:0"
[listener.tls]
certificates = [{ cert = "a.crt", key = "a.key" }]
clients = { ca = "ca.pem", required = false }
[admin]
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[plugin.basic-auth]
consumers = ["password"]
[plugin.hmac-auth]
consumers = ["hmac"]
[plugin.mtls-auth]
consumers = ["certificate"]
[plan.pro]
[consumers]
file = "consumers.toml"
[upstream.app]
endpoints = ["{app}"]
[[route]]
name = "password"
match = { path = "/password" }
upstream = "app"
plugins = [{ name = "basic-auth", config = { consumers = true } }]
[[route]]
name = "signed"
match = { path = "/signed" }
upstream = "app"
plugins = [{ name = "hmac-auth", config = { consumers = true } }]
[[route]]
name = "certificate"
match = { path = "/certificate" }
upstream = "app"
plugins = [{ name = "mtls-auth", config = { consumers = true } }]
"#;

/// Hashes of "password", of which the first one takes no time, and of "demo".
const BCRYPT: &str = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
const SLOW: &str = "$2b$10$zfvqYtPLadSWh2JXlGDsc.18VyfA7mf1VN29Go8XC9h0Oq5gYB1SW";

const SECRET: &str = "a secret of the tests";

fn password(username: &str, hash: &str) -> String {
    format!(
        "[[consumer.acme.credential]]\nkind = \"password\"\nusername = \"{username}\"\nhash = \"{hash}\"\n"
    )
}

fn signing(id: &str) -> String {
    format!("[[consumer.acme.credential]]\nkind = \"hmac\"\nid = \"{id}\"\nsecret = \"${{file:secret}}\"\n")
}

fn certificate(name: &str) -> String {
    format!("[[consumer.acme.credential]]\nkind = \"certificate\"\n{name}\n")
}

struct Site {
    authority: Authority,
    upstream: TestUpstream,
    gateway: TestGateway,
}

impl Site {
    /// With these in the file of consumers.
    fn start(credentials: &str) -> Site {
        Site::of(CONFIG, credentials, &[])
    }

    fn of(config: &str, credentials: &str, variables: &[(&str, &str)]) -> Site {
        let (authority, upstream) = (Authority::new("the tests"), TestUpstream::ok());
        let own = authority.issue(1, &["a.test"]);
        let config = fill(config, &[("app", &upstream.address())]);
        let gateway = TestGateway::start_in(&config, variables, |folder| {
            fs::write(folder.join("a.crt"), &own.cert).unwrap();
            fs::write(folder.join("a.key"), &own.key).unwrap();
            fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
            fs::write(folder.join("secret"), SECRET).unwrap();
            fs::write(folder.join("consumers.toml"), acme(credentials)).unwrap();
        });
        Site { authority, upstream, gateway }
    }

    fn changes(&self, credentials: &str) {
        let file = self.gateway.directory().join("consumers.toml");
        self.gateway.reloads_after(|| fs::write(file, acme(credentials)).unwrap());
    }

    fn login(&self, credentials: &str) -> Response {
        let fields = format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(credentials));
        request(self.gateway.addr(), "GET", "/password", &fields)
    }

    /// Signed with this secret, with a nonce of its own.
    fn sign(&self, id: &str, secret: &str) -> Response {
        self.sign_with(id, secret.as_bytes())
    }

    fn sign_with(&self, id: &str, secret: &[u8]) -> Response {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let params = format!(
            "(\"@method\" \"@target-uri\");created={};keyid=\"{id}\";nonce=\"{}\"",
            now.as_secs(),
            now.as_nanos()
        );
        let text = format!(
            "\"@method\": GET\n\"@target-uri\": http://api.test/signed\n\"@signature-params\": {params}"
        );
        let signature = BASE64_STANDARD.encode(hmac(Hash::Sha256, secret, text.as_bytes()));
        let head = format!(
            "GET /signed HTTP/1.1\r\nHost: api.test\r\nSignature-Input: sig={params}\r\nSignature: sig=:{signature}:\r\n\r\n"
        );
        Client::connect(self.gateway.addr()).send(head).response()
    }

    fn show(&self, shows: &Issued) -> u16 {
        let config = client_config(&self.authority, Some(shows));
        let mut client = TlsClient::connect(self.gateway.listener("tls"), "a.test", &config).unwrap();
        client.get("/certificate", "").unwrap().status
    }

    /// Whose the last request was, and by what it was known.
    fn told(&self) -> (Option<String>, Option<String>, Option<String>) {
        let seen = self.upstream.take_requests().pop().expect("a request");
        let header = |name: &str| seen.header(name).map(str::to_owned);
        (header("x-consumer-username"), header("x-consumer-groups"), header("x-credential-identifier"))
    }
}

fn acme(credentials: &str) -> String {
    format!("[consumer.acme]\ngroups = [\"partners\"]\nplan = \"pro\"\n{credentials}")
}

fn known_by(credential: &str) -> (Option<String>, Option<String>, Option<String>) {
    let some = |text: &str| Some(text.to_owned());
    (some("acme"), some("partners"), some(credential))
}

#[test]
fn a_consumer_is_known_by_a_password_a_signature_and_a_certificate() {
    let all = [password("shop", BCRYPT), signing("k1"), certificate("san_dns = \"Web.test\"")].concat();
    let site = Site::start(&all);
    assert_eq!(site.login("shop:password").status, 200);
    assert_eq!(site.told(), known_by("shop"));
    assert_eq!(site.sign("k1", SECRET).status, 200);
    assert_eq!(site.told(), known_by("k1"));
    let issued = site.authority.issue(20, &["web.test"]);
    assert_eq!(site.show(&issued), 200);
    let (whose, _, fingerprint) = site.told();
    assert_eq!((whose.as_deref(), fingerprint.map(|digits| digits.len())), (Some("acme"), Some(64)));
    for refused in [
        site.login("shop:guess"),
        site.login("acme:password"),
        site.login("k1:password"),
        site.sign("k1", "another secret of the tests"),
        site.sign("shop", SECRET),
    ] {
        assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"));
    }
    assert_eq!(site.show(&site.authority.issue(21, &["shop"])), 403);
    assert_eq!(site.upstream.count(), 0);
    let shown = site.gateway.admin_request("GET", "/config", "").text();
    let log = site.gateway.log();
    for secret in [SECRET, BCRYPT] {
        assert!(!shown.contains(secret) && !log.contains(secret));
    }
}

#[test]
fn what_the_file_says_no_more_is_no_good() {
    let before = [password("shop", BCRYPT), signing("k1"), certificate("san_dns = \"web.test\"")].concat();
    let site = Site::start(&before);
    let issued = site.authority.issue(20, &["web.test"]);
    let answers = || [site.login("shop:password").status, site.sign("k1", SECRET).status, site.show(&issued)];
    assert_eq!(answers(), [200; 3]);
    let turned_off = |credential: String| credential + "enabled = false\n";
    site.changes(
        &[
            password("shop", SLOW),
            turned_off(signing("k1")),
            turned_off(certificate("san_dns = \"web.test\"")),
        ]
        .concat(),
    );
    assert_eq!(answers(), [401, 401, 403]);
    assert_eq!(site.login("shop:demo").status, 200);
    site.changes(&before);
    assert_eq!(answers(), [200; 3]);
    let over = |credential: String| credential + "expires = 2020-01-01T00:00:00Z\n";
    site.changes(
        &[over(password("shop", BCRYPT)), over(signing("k1")), over(certificate("san_dns = \"web.test\""))]
            .concat(),
    );
    assert_eq!(answers(), [401, 401, 403]);
    site.changes(&before);
    assert_eq!(answers(), [200; 3]);
    site.gateway.reloads_after(|| {
        fs::write(site.gateway.directory().join("secret"), "another secret of the tests").unwrap();
    });
    assert_eq!(
        [site.sign("k1", SECRET).status, site.sign("k1", "another secret of the tests").status],
        [401, 200]
    );
    site.changes("");
    assert_eq!(answers(), [401, 401, 403]);
}

/// With a hash that takes tens of milliseconds on any machine.
#[test]
fn who_does_not_exist_takes_as_long_as_a_wrong_password() {
    let site = Site::start(&password("shop", SLOW));
    let is_slow = |credentials: &str, expected: u16| {
        let asked = Instant::now();
        assert_eq!(site.login(credentials).status, expected);
        asked.elapsed() > Duration::from_millis(15)
    };
    for credentials in ["shop:guess", "mallory:guess", "acme:demo"] {
        assert!((0..5).all(|_| is_slow(credentials, 401)), "{credentials}");
    }
    assert!(is_slow("shop:demo", 200));
    eventually!(!is_slow("shop:demo", 200));
}

#[test]
fn what_is_not_granted_is_told_when_the_config_is_loaded() {
    let (http, rest) = CONFIG.split_once("[[listener]]\nname = \"tls\"").unwrap();
    let (_, rest) = rest.split_once("[admin]").unwrap();
    let config = fill(&format!("{http}[admin]{rest}"), &[("app", &"127.0.0.1:1")]);
    let config = config.replace("[consumers]\nfile = \"consumers.toml\"\n", "");
    let granted = |grant: &str| config.replace("consumers = [\"hmac\"]", grant);
    for grant in
        ["", "consumers = true", "consumers = [\"password\", \"key\", \"certificate\"]", "consumers = []"]
    {
        let told = TestGateway::refused(&granted(grant));
        assert!(told.contains("does not say `consumers = [\"hmac\"]`"), "{grant}: {told}");
    }
    TestGateway::start(&granted("consumers = [\"hmac\", \"key\"]"));
}

const TOKEN: &str = "a-token-for-the-tests";

/// Keys of 32 bytes in Base64.
const SEAL_KEYS: [&str; 2] =
    ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="];

/// A site whose consumers are in a store.
struct Stored(Site);

impl Stored {
    fn start(settings: &str) -> Stored {
        let config =
            CONFIG.replace("file = \"consumers.toml\"", &format!("store = \"consumers.redb\"\n{settings}"));
        let config = config.replace("[admin]", "[admin]\ntoken = \"${env:TOKEN}\"");
        let [first, second] = SEAL_KEYS;
        let stored =
            Stored(Site::of(&config, "", &[("TOKEN", TOKEN), ("SEAL_1", first), ("SEAL_2", second)]));
        assert_eq!(stored.order("PUT", "/consumers/acme", json!({ "groups": ["partners"] })).status, 200);
        stored
    }

    /// With the token.
    fn order(&self, method: &str, target: &str, body: Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.0.gateway.admin_order(TOKEN, method, target, &body)
    }

    fn set(&self, body: Value) -> Value {
        let response = self.order("POST", "/consumers/acme/credentials", body);
        assert_eq!(response.status, 201, "{}", response.text());
        json_of(&response)
    }

    fn revoke(&self, credential: &str) -> u16 {
        self.order("DELETE", &format!("/consumers/acme/credentials/{credential}"), Value::Null).status
    }

    fn known(&self) -> Value {
        let all = json_of(&self.0.gateway.admin_request("GET", "/consumers/acme/credentials", ""));
        let known = |credential: &Value| json!([credential["kind"], credential["id"], credential["state"]]);
        all.as_array().into_iter().flatten().map(known).collect()
    }
}

fn json_of(response: &Response) -> Value {
    serde_json::from_str(&response.text()).unwrap_or_default()
}

#[test]
fn credentials_are_set_used_and_revoked_while_the_gateway_runs() {
    let stored = Stored::start("seal_keys = [\"${env:SEAL_1}\"]");
    let site = &stored.0;
    let issued = site.authority.issue(20, &["web.test"]);
    let answers = |password: &str, secret: &str| {
        let credentials = format!("shop:{password}");
        [site.login(&credentials).status, site.sign("k/1", secret).status, site.show(&issued)]
    };
    assert_eq!(answers("sesame", SECRET), [401, 401, 403]);
    let set = stored.set(json!({ "kind": "password", "username": "shop", "password": "sesame" }));
    assert_eq!(set, json!({ "kind": "password", "id": "shop" }));
    stored.set(json!({ "kind": "hmac", "id": "k/1", "secret": SECRET }));
    let set = stored
        .set(json!({ "kind": "certificate", "san_dns": "Web.test", "expires": "2100-01-01T00:00:00Z" }));
    assert_eq!(set["id"], "san_dns:web.test");
    assert_eq!(answers("sesame", SECRET), [200; 3]);
    assert_eq!(site.login("shop:sesame").status, 200, "again");
    assert_eq!(
        stored.known(),
        json!([
            ["password", "shop", "active"],
            ["hmac", "k/1", "active"],
            ["certificate", "san_dns:web.test", "active"],
        ])
    );

    stored.set(json!({ "kind": "password", "username": "shop", "password": "another" }));
    assert_eq!(answers("sesame", SECRET), [401, 200, 200]);
    assert_eq!(answers("another", SECRET), [200; 3]);
    stored.set(json!({ "kind": "password", "username": "shop", "hash": BCRYPT }));
    assert_eq!(answers("password", SECRET), [200; 3]);
    let made = stored.set(json!({ "kind": "hmac", "id": "k/1" }))["secret"].as_str().unwrap().to_owned();
    let bytes = BASE64_STANDARD.decode(made.strip_prefix("base64:").unwrap()).unwrap();
    assert_eq!((bytes.len(), answers("password", SECRET)), (32, [200, 401, 200]));
    assert_eq!(site.sign_with("k/1", &bytes).status, 200);

    let revoked =
        ["password/shop", "hmac/k%2F1", "certificate/san_dns:web.test"].map(|known| stored.revoke(known));
    assert_eq!(revoked, [204; 3]);
    assert_eq!((answers("password", SECRET), site.sign_with("k/1", &bytes).status), ([401, 401, 403], 401));
    for unknown in ["password/shop", "key/shop", "fingers/shop"] {
        assert_eq!(stored.revoke(unknown), 404);
    }
    let log = site.gateway.log();
    let file = fs::read(site.gateway.directory().join("consumers.redb")).unwrap();
    for secret in ["sesame", SECRET, &made[7..]] {
        assert!(!log.contains(secret), "{log}");
        assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    assert!(!file.windows(32).any(|window| window == bytes));
    for line in ["a credential was set consumer=\"acme\"", "a credential was revoked consumer=\"acme\""] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let stored = Stored::start("");
    stored.set(json!({ "kind": "password", "username": "shop", "hash": BCRYPT }));
    assert_eq!(stored.order("PUT", "/consumers/other", json!({})).status, 200);
    let no_keys = stored.order("POST", "/consumers/acme/credentials", json!({ "kind": "hmac", "id": "k1" }));
    assert_eq!(no_keys.status, 409);
    assert!(no_keys.text().contains("consumers.seal_keys"), "{}", no_keys.text());
    let over = "2020-01-01T00:00:00Z";
    for (consumer, body, status, told) in [
        (
            "other",
            json!({ "kind": "password", "username": "shop", "hash": BCRYPT }),
            409,
            "Another consumer is known",
        ),
        (
            "nobody",
            json!({ "kind": "password", "username": "b", "hash": BCRYPT }),
            404,
            "no consumer of this name",
        ),
        ("acme", json!({ "kind": "password", "username": "b" }), 422, "exactly one of password and hash"),
        ("acme", json!({ "kind": "password", "username": "b", "password": "" }), 422, "from 1 to 4096 bytes"),
        (
            "acme",
            json!({ "kind": "password", "username": "b", "hash": "sesame" }),
            422,
            "hash is no hash of bcrypt",
        ),
        (
            "acme",
            json!({ "kind": "password", "username": "a:b", "hash": BCRYPT }),
            422,
            "username holds a colon",
        ),
        (
            "acme",
            json!({ "kind": "password", "username": "b", "hash": BCRYPT, "expires": over }),
            422,
            "expires is over",
        ),
        (
            "acme",
            json!({ "kind": "hmac", "id": "k1", "secret": "short" }),
            422,
            "secret has fewer than 16 bytes",
        ),
        ("acme", json!({ "kind": "certificate" }), 422, "exactly one of fingerprint, san_uri"),
        ("acme", json!({ "kind": "certificate", "fingerprint": "ab" }), 422, "fingerprint is not a SHA-256"),
        ("acme", json!({ "kind": "certificate", "san_uri": "spiffe://a/*" }), 422, "san_uri names one URI"),
        (
            "acme",
            json!({ "kind": "certificate", "san_dns": "a", "expires": "soon" }),
            400,
            "`expires` is a time",
        ),
        ("acme", json!({ "kind": "key" }), 400, ""),
        ("acme", json!({ "kind": "password", "username": "b", "hash": BCRYPT, "plan": "x" }), 400, ""),
    ] {
        let answer = stored.order("POST", &format!("/consumers/{consumer}/credentials"), body.clone());
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
        assert!(!answer.text().contains("sesame"));
    }
    let without_token =
        stored.0.gateway.admin_request("DELETE", "/consumers/acme/credentials/password/shop", "");
    assert_eq!(without_token.status, 401);
    assert_eq!(stored.known(), json!([["password", "shop", "active"]]));
}

#[test]
fn keys_that_seal_change() {
    let stored = Stored::start("seal_keys = [\"${env:SEAL_1}\"]");
    let site = &stored.0;
    stored.set(json!({ "kind": "hmac", "id": "k1", "secret": SECRET }));
    let with = |keys: &str| {
        let file = site.gateway.directory().join("gateway.toml");
        let before = fs::read_to_string(&file).unwrap();
        let line = before.lines().find(|line| line.starts_with("seal_keys")).unwrap();
        let changed = before.replace(line, &format!("seal_keys = {keys}"));
        site.gateway.reloads_after(|| fs::write(&file, changed).unwrap());
    };
    with("[\"${env:SEAL_2}\", \"${env:SEAL_1}\"]");
    assert_eq!(site.sign("k1", SECRET).status, 200);
    with("[\"${env:SEAL_2}\"]");
    let refused = site.sign("k1", SECRET);
    assert_eq!((refused.status, refused.code().as_str()), (503, "consumers_unavailable"));
    let told = "`consumers.seal_keys` has not the key that the secret k1";
    eventually!(site.gateway.log().contains(told), "{}", site.gateway.log());
    assert_eq!(site.sign("k2", SECRET).status, 401);
    stored.set(json!({ "kind": "hmac", "id": "k1", "secret": SECRET }));
    assert_eq!(site.sign("k1", SECRET).status, 200);
}

//! Consumers and their keys: declared, issued, rotated, revoked, and known to plugins that the config grants it to.

mod redis;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;
use wasmgate_tests::{
    Client, Load, Reserved, Response, Signal, TestGateway, eventually, fill, request, run_in,
};

const TOKEN: &str = "a-token-for-the-tests";

const CONFIG: &str = r#"
reload = { watch = true, debounce = "20ms" }
server = { workers = 4, drain_timeout = "5s" }
[[listener]]
name = "public"
address = "{address}"
[admin]
address = "127.0.0.1:0"
token = "${env:TOKEN}"
[plugins]
directory = "{plugins}"
[plugin.key-auth]
consumers = true
[plan.free]
limits = [{ rate = 60, per = "1m" }]
[plan.pro]
limits = [{ rate = 1000, per = "1m" }, { rate = 100000, per = "24h" }]
[consumers]
{consumers}
[consumer.alice]
custom_id = "u-1"
plan = "pro"
groups = ["staff"]
[[consumer.alice.credential]]
kind = "key"
key = "${env:ALICE_KEY}"
[[route]]
name = "all"
plugins = [{ name = "key-auth", config = { consumers = true } }, { name = "respond", config = { echo = true } }]
"#;

const ALICE_KEY: &str = "the-key-of-alice";

fn config(address: &str, consumers: &str) -> String {
    fill(CONFIG, &[("address", &address), ("consumers", &consumers), ("plugins", &"{plugins}")])
}

fn start(config: &str) -> TestGateway {
    TestGateway::start_with(config, &[("TOKEN", TOKEN), ("ALICE_KEY", ALICE_KEY)])
}

/// With a store in a folder that outlives it.
fn stored(folder: &TempDir) -> TestGateway {
    let store = folder.path().join("consumers.redb");
    start(&config("127.0.0.1:0", &format!("store = \"{}\"\ngrace = \"1s\"", store.display())))
}

trait Admin {
    /// With the token.
    fn order(&self, method: &str, target: &str, body: Value) -> Response;

    /// The new key with its id.
    fn issue(&self, target: &str, body: Value) -> (String, String);
}

impl Admin for TestGateway {
    fn order(&self, method: &str, target: &str, body: Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.admin_order(TOKEN, method, target, &body)
    }

    fn issue(&self, target: &str, body: Value) -> (String, String) {
        let response = self.order("POST", target, body);
        assert_eq!(response.status, 201, "{}", response.text());
        let issued = json(&response);
        let text = |name: &str| issued[name].as_str().expect("a text").to_owned();
        (text("key"), text("id"))
    }
}

fn json(response: &Response) -> Value {
    serde_json::from_str(&response.text()).unwrap_or_default()
}

fn with_key(gateway: &TestGateway, key: &str) -> Response {
    request(gateway.addr(), "GET", "/", &format!("X-Api-Key: {key}\r\n"))
}

fn status(gateway: &TestGateway, key: &str) -> u16 {
    with_key(gateway, key).status
}

/// What plugins behind and the upstream are told.
fn told(response: &Response) -> Value {
    let echo = json(response);
    let headers = echo["headers"].as_array().cloned().unwrap_or_default();
    let header = |name: &str| headers.iter().find(|field| field[0] == name).map(|field| field[1].clone());
    let (vars, groups) = (&echo["vars"], header("x-consumer-groups"));
    json!([vars["consumer"], vars["plan"], groups, header("x-credential-identifier")])
}

fn states(gateway: &TestGateway, consumer: &str) -> Value {
    let keys = json(&gateway.admin_request("GET", &format!("/consumers/{consumer}/keys"), ""));
    keys.as_array().into_iter().flatten().map(|key| key["state"].clone()).collect()
}

#[test]
fn a_key_is_issued_used_rotated_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = stored(&folder);
    assert_eq!(told(&with_key(&gateway, ALICE_KEY)), json!(["alice", "pro", "staff", "c56afa272807"]));
    let bob = json!({ "groups": ["partners"], "plan": "free", "metadata": { "tier": "1" } });
    let set = gateway.order("PUT", "/consumers/b%20b", bob);
    assert_eq!((set.status, &json(&set)["origin"]), (200, &json!("store")), "{}", set.text());
    let (key, id) = gateway.issue("/consumers/b%20b/keys", Value::Null);
    assert_eq!(told(&with_key(&gateway, &key)), json!(["b b", "free", "partners", id]));

    let rotated = Instant::now();
    let (second, second_id) = gateway.issue(&format!("/consumers/b%20b/keys/{id}/rotate"), Value::Null);
    assert_eq!([status(&gateway, &key), status(&gateway, &second)], [200, 200]);
    assert_eq!(states(&gateway, "b%20b"), json!(["replaced", "active"]));
    eventually!(status(&gateway, &key) == 401);
    assert!(rotated.elapsed() >= Duration::from_secs(1), "not before the grace is over");
    assert_eq!((status(&gateway, &second), states(&gateway, "b%20b")), (200, json!(["expired", "active"])));

    let target = format!("/consumers/b%20b/keys/{second_id}/rotate");
    let (third, _) = gateway.issue(&target, json!({ "grace": "0s" }));
    assert_eq!([status(&gateway, &second), status(&gateway, &third)], [401, 200]);
    let second = third;

    let change = json!({ "plan": "pro" });
    assert_eq!(gateway.order("PUT", "/consumers/b%20b", change).status, 200);
    assert_eq!(told(&with_key(&gateway, &second))[1], "pro", "whoever has the key");
    assert_eq!(gateway.order("DELETE", "/consumers/b%20b", Value::Null).status, 204);
    assert_eq!(status(&gateway, &second), 401);
    let all = gateway.admin_request("GET", "/consumers", "").text();
    let log = gateway.log();
    for secret in [&key[16..], &second[16..], ALICE_KEY] {
        assert!(!log.contains(secret) && !all.contains(secret));
    }
    for line in ["a consumer was set", "a key was issued", "a consumer was removed"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn a_revoked_key_ends_within_a_second_on_all_workers() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = stored(&folder);
    let (key, id) = gateway.issue("/consumers/alice/keys", Value::Null);
    let load = Load::get(gateway.addr(), "/", 1500).connections(32);
    let load = load.request(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\n\r\n")).start();
    thread::sleep(Duration::from_secs(1));
    let revoked = Instant::now();
    assert_eq!(gateway.order("DELETE", &format!("/consumers/alice/keys/{id}"), Value::Null).status, 204);
    let answered = Instant::now();
    thread::sleep(Duration::from_secs(1));
    let answers = load.stop();
    let (before, after): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.sent < revoked);
    assert!(before.len() > 100 && after.len() > 100, "{} {}", before.len(), after.len());
    let good = before.iter().filter(|answer| answer.sent + answer.took < revoked);
    assert!(good.clone().count() > 100 && good.clone().all(|answer| answer.status == 200));
    let late: Vec<_> = after.iter().filter(|answer| answer.status == 200 && answer.sent > answered).collect();
    assert!(late.is_empty(), "{late:?}");
    assert!(after.iter().all(|answer| matches!(answer.status, 200 | 401)));
    assert_eq!(status(&gateway, ALICE_KEY), 200, "her other one");
    println!("the order took {:?}; it held for every request after that", answered - revoked);
}

#[test]
fn a_key_ends_when_it_expires() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = stored(&folder);
    let end = SystemTime::now() + Duration::from_secs(5);
    let expires = json!({ "expires": humantime::format_rfc3339_millis(end).to_string() });
    let (key, id) = gateway.issue("/consumers/alice/keys", expires);
    assert_eq!(status(&gateway, &key), 200);
    eventually!(status(&gateway, &key) == 401);
    let patch = gateway.order("PATCH", &format!("/consumers/alice/keys/{id}"), json!({ "expires": null }));
    assert_eq!(patch.status, 409, "{}", patch.text());
    // It was told to the millisecond.
    assert!(SystemTime::now() + Duration::from_millis(1) >= end);
    let late = gateway.order("POST", &format!("/consumers/alice/keys/{id}/rotate"), Value::Null);
    assert_eq!(
        (late.status, json(&late)["detail"].as_str()),
        (409, Some("The key has expired: make a new one."))
    );
}

#[test]
fn keys_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = stored(&folder);
    let bob = json!({ "custom_id": "u-2" });
    assert_eq!(gateway.order("PUT", "/consumers/bob", bob).status, 200);
    let (first, first_id) = gateway.issue("/consumers/bob/keys", Value::Null);
    let (second, second_id) = gateway.issue("/consumers/bob/keys", Value::Null);
    gateway.order("DELETE", &format!("/consumers/bob/keys/{first_id}"), Value::Null);
    gateway.terminate();
    gateway.wait();
    let gateway = stored(&folder);
    assert_eq!([status(&gateway, &first), status(&gateway, &second)], [401, 200]);
    let bob = json(&gateway.admin_request("GET", "/consumers/bob", ""));
    assert_eq!((&bob["custom_id"], &bob["origin"]), (&json!("u-2"), &json!("store")));
    // Killed: what was answered is there.
    gateway.order("DELETE", &format!("/consumers/bob/keys/{second_id}"), Value::Null);
    let (third, _) = gateway.issue("/consumers/bob/keys", Value::Null);
    drop(gateway);
    let gateway = stored(&folder);
    assert_eq!([status(&gateway, &second), status(&gateway, &third)], [401, 200]);
}

#[test]
fn a_successor_has_the_same_store() {
    let (folder, port) = (tempfile::tempdir().unwrap(), Reserved::new());
    let store = folder.path().join("consumers.redb");
    let store = format!("store = \"{}\"", store.display());
    let mut gateway = start(&config(&port.address().to_string(), &store));
    let get = |key: &str| request(port.address(), "GET", "/", &format!("X-Api-Key: {key}\r\n")).status;
    let (key, id) = gateway.issue("/consumers/alice/keys", Value::Null);
    gateway.signal(Signal::User2);
    eventually!(!gateway.logged("starting a successor").is_empty());
    let _successor = gateway.successor();
    gateway.wait();
    assert_eq!(get(&key), 200);
    // Its lines are in the same log.
    let line = gateway.logged("listening listener=\"admin\"").pop().unwrap();
    let admin = line.rsplit_once("address=").unwrap().1.parse().unwrap();
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let removed = request(admin, "DELETE", &format!("/consumers/alice/keys/{id}"), &token);
    assert_eq!(removed.status, 204, "{}", removed.text());
    assert_eq!(get(&key), 401);
}

#[test]
fn a_changed_file_of_consumers_is_in_force_and_a_faulty_one_is_not() {
    let write = |folder: &Path, text: &str| {
        fs::write(folder.join("next"), text).unwrap();
        fs::rename(folder.join("next"), folder.join("consumers.toml")).unwrap();
    };
    let bob = "[consumer.bob]\n[[consumer.bob.credential]]\nkind = \"key\"\nhash = \"sha256:HASH\"\n";
    let hash = wasmgate_crypto::digest(wasmgate_crypto::Hash::Sha256, b"bobs-key");
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let bob = bob.replace("HASH", &hash);
    let config = config("127.0.0.1:0", "file = \"consumers.toml\"");
    let variables = [("TOKEN", TOKEN), ("ALICE_KEY", ALICE_KEY)];
    let gateway = TestGateway::start_in(&config, &variables, |folder| write(folder, ""));
    assert_eq!([status(&gateway, ALICE_KEY), status(&gateway, "bobs-key")], [200, 401]);
    gateway.reloads_after(|| write(&gateway.directory(), &bob));
    assert_eq!([status(&gateway, ALICE_KEY), status(&gateway, "bobs-key")], [200, 200]);

    let faulty = bob.replace("[consumer.bob]", "[consumer.bob]\nplan = \"frre\"");
    gateway.reloads_after(|| write(&gateway.directory(), &faulty));
    let expected = "consumers.toml:2:8: error: consumer.bob.plan: unknown plan `frre`, did you mean `free`?";
    assert!(gateway.log().contains(expected), "{}", gateway.log());
    assert_eq!(status(&gateway, "bobs-key"), 200, "what ran before runs on");
    let last = &json(&gateway.admin_request("GET", "/status", ""))["last_reload"]["faults"];
    assert_eq!(last[0], expected);

    gateway.reloads_after(|| write(&gateway.directory(), &format!("{bob}enabled = false\n")));
    assert_eq!(status(&gateway, "bobs-key"), 401);
    assert_eq!(states(&gateway, "bob"), json!(["disabled"]));
    gateway.reloads_after(|| write(&gateway.directory(), ""));
    let gone = gateway.admin_request("GET", "/consumers/bob", "");
    assert_eq!((gone.status, status(&gateway, ALICE_KEY)), (404, 200));
}

#[test]
fn a_plugin_asks_only_where_it_is_granted() {
    let config = config("127.0.0.1:0", "").replace("consumers = true\n[plan", "[plan");
    let config = config
        .replace("${env:ALICE_KEY}", "${file:gateway.toml}")
        .replace("${env:TOKEN}", "${file:gateway.toml}");
    let told = TestGateway::refused(&config);
    let expected = "plugin `key-auth` refuses its config: consumers: the plugin may not ask for consumers";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = stored(&folder);
    let bob = json!({ "custom_id": "u-2" });
    assert_eq!(gateway.order("PUT", "/consumers/bob", bob).status, 200);
    let id = json(&gateway.admin_request("GET", "/consumers/alice/keys", ""))[0]["id"].clone();
    let id = id.as_str().unwrap();
    for (method, target, body, status, detail) in [
        ("PUT", "/consumers/alice", json!({}), 409, "This stands in the config"),
        ("DELETE", "/consumers/alice", Value::Null, 409, "This stands in the config"),
        ("DELETE", &format!("/consumers/alice/keys/{id}"), Value::Null, 409, "This stands in the config"),
        (
            "POST",
            &format!("/consumers/alice/keys/{id}/rotate"),
            Value::Null,
            409,
            "This stands in the config",
        ),
        (
            "PATCH",
            &format!("/consumers/alice/keys/{id}"),
            json!({ "expires": null }),
            409,
            "This stands in the config",
        ),
        ("PATCH", "/consumers/bob/keys/x", json!({}), 400, "missing field `expires`"),
        ("GET", "/consumers/eve", Value::Null, 404, "There is no consumer"),
        ("GET", "/consumers/eve/keys", Value::Null, 404, "There is no consumer"),
        ("POST", "/consumers/eve/keys", Value::Null, 404, "There is no consumer"),
        ("DELETE", "/consumers/eve", Value::Null, 404, "There is no consumer"),
        ("DELETE", "/consumers/bob/keys/nothing", Value::Null, 404, "The consumer has no key"),
        ("PUT", "/consumers/eve", json!({ "plan": "gold" }), 422, "The config has no plan"),
        ("PUT", "/consumers/eve", json!({ "custom_id": "u-1" }), 409, "Another consumer"),
        ("PUT", "/consumers/eve", json!({ "custom_id": "u-2" }), 409, "Another consumer"),
        ("PUT", "/consumers/eve", json!({ "groups": ["a,b"] }), 422, "groups[0] holds a comma"),
        ("PUT", "/consumers/eve", json!({ "group": [] }), 400, "unknown field `group`"),
        ("PUT", "/consumers/a%0Ab", json!({}), 422, "a control character"),
        ("PUT", "/consumers/%FF", json!({}), 400, "no UTF-8"),
        ("PUT", "/consumers/", json!({}), 404, ""),
        ("POST", "/consumers/bob/keys", json!({ "expires": "soon" }), 400, "`expires` is a time"),
        ("POST", "/consumers/bob/keys", json!({ "grace": "1h" }), 400, "unknown field `grace`"),
        (
            "POST",
            "/consumers/bob/keys/x/rotate",
            json!({ "grace": "1d" }),
            400,
            "`grace`: `d` is no unit of time",
        ),
        ("POST", "/consumers/bob/keys", json!({ "expires": "2020-01-01T00:00:00Z" }), 422, "expires is over"),
        ("PATCH", "/consumers/bob", json!({}), 405, "takes GET and PUT and DELETE"),
    ] {
        let response = gateway.order(method, target, body);
        assert_eq!(response.status, status, "{method} {target}: {}", response.text());
        assert!(response.text().contains(detail), "{method} {target}: {}", response.text());
    }
    let without = gateway.admin_request("PUT", "/consumers/eve", "");
    assert_eq!(without.status, 401, "no token");
    assert_eq!(json(&gateway.admin_request("GET", "/consumers", "")).as_array().unwrap().len(), 2);
}

#[test]
fn without_a_store_consumers_are_only_read() {
    let gateway = start(&config("127.0.0.1:0", ""));
    for (method, target) in
        [("PUT", "/consumers/bob"), ("DELETE", "/consumers/bob"), ("POST", "/consumers/alice/keys")]
    {
        let body = if method == "PUT" { json!({}) } else { Value::Null };
        let response = gateway.order(method, target, body);
        assert_eq!(response.status, 409, "{method} {target}");
        assert!(response.text().contains("the config names none in `consumers`"), "{}", response.text());
    }
    let alice = json(&gateway.admin_request("GET", "/consumers/alice", ""));
    assert_eq!(
        alice,
        json!({ "name": "alice", "origin": "config", "custom_id": "u-1", "groups": ["staff"], "plan": "pro", "metadata": {} })
    );
    assert_eq!(states(&gateway, "alice"), json!(["active"]));
    let shown = gateway.admin_request("GET", "/config", "").text();
    assert!(!shown.contains(ALICE_KEY) && shown.contains("\"key\": \"(hidden)\""), "{shown}");
}

#[test]
fn a_store_that_nobody_can_fill_is_told() {
    let told = "nobody can put consumers into `consumers.store`";
    let whole = config("127.0.0.1:0", "store = \"a.redb\"");
    let gateway = start(&whole);
    assert!(!gateway.log().contains(told));
    let token = whole.lines().find(|line| line.starts_with("token = ")).expect("it has one");
    gateway.write_config(&whole.replace(token, ""));
    gateway.reload();
    assert!(gateway.log().contains(told), "{}", gateway.log());
}

#[test]
fn a_token_is_its_consumers_as_long_as_there_is_one() {
    let secret = "a secret of the tests, of which nobody else knows";
    let folder = tempfile::tempdir().unwrap();
    let store = format!("store = \"{}\"", folder.path().join("consumers.redb").display());
    let issuers = format!("issuers = [{{ secret = \"{secret}\", algorithms = [\"HS256\"] }}]");
    let jwt = format!("{{ name = \"jwt\", config = {{ consumer_lookup = \"custom_id\", {issuers} }} }}");
    let config = config("127.0.0.1:0", &store).replace("[plugin.key-auth]", "[plugin.jwt]");
    let gateway = start(&config.replace("{ name = \"key-auth\", config = { consumers = true } }", &jwt));
    let get = |sub: &str| {
        let claims = format!(r#"{{"sub":"{sub}","exp":4102444800}}"#);
        let signed =
            [r#"{"alg":"HS256"}"#, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
        let tag = wasmgate_crypto::hmac(wasmgate_crypto::Hash::Sha256, secret.as_bytes(), signed.as_bytes());
        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
        request(gateway.addr(), "GET", "/", &format!("Authorization: Bearer {token}\r\n"))
    };
    assert_eq!(told(&get("u-1")), json!(["alice", "pro", "staff", null]));
    assert_eq!((get("alice").status, get("u-2").status), (401, 401));
    gateway.order("PUT", "/consumers/bob", json!({ "custom_id": "u-2", "plan": "free" }));
    assert_eq!(told(&get("u-2")), json!(["bob", "free", null, null]));
    gateway.order("DELETE", "/consumers/bob", Value::Null);
    assert_eq!(get("u-2").status, 401);
}

#[test]
fn a_store_comes_and_goes_with_the_config() {
    let gateway = start(&config("127.0.0.1:0", ""));
    let with = |consumers: &str| {
        gateway.write_config(&config("127.0.0.1:0", consumers));
        gateway.reload();
    };
    with("store = \"a.redb\"");
    let (key, _) = gateway.issue("/consumers/alice/keys", Value::Null);
    assert_eq!(status(&gateway, &key), 200);
    with("store = \"a.redb\"\ngrace = \"1h\"");
    assert_eq!(status(&gateway, &key), 200, "the same one");
    with("store = \"nowhere/b.redb\"");
    assert_eq!(status(&gateway, &key), 200, "what ran before runs on");
    let told = "consumers.store: nowhere/b.redb cannot be used: No such file or directory";
    assert!(gateway.log().contains(told), "{}", gateway.log());
    with("");
    assert_eq!(status(&gateway, &key), 401);
    with("store = \"a.redb\"");
    assert_eq!(status(&gateway, &key), 200);
}

#[test]
fn a_file_that_is_no_store_is_told_and_left_alone() {
    let config = config("127.0.0.1:0", "store = \"gateway.toml\"");
    let config = config
        .replace("${env:ALICE_KEY}", "${file:gateway.toml}")
        .replace("${env:TOKEN}", "${file:gateway.toml}");
    let told = TestGateway::refused(&config);
    assert!(told.contains("error: consumers.store: gateway.toml cannot be used: "), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let plugins = wasmgate_build::target_directory().join("plugins").display().to_string();
    let missing = config
        .replace("store = \"gateway.toml\"", "store = \"nowhere/b.redb\"")
        .replace("{plugins}", &plugins);
    fs::write(&file, missing).unwrap();
    let checked = run_in(folder.path(), &["check", "gateway.toml"]);
    assert_eq!(checked.code, Some(1));
    assert!(checked.err.contains("consumers.store: nowhere/b.redb cannot be used: "), "{}", checked.err);
    assert!(!folder.path().join("nowhere").exists());
}

/// What is answered is as the OpenAPI document has it.
#[test]
fn answers_about_consumers_are_as_the_openapi_document_says() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = stored(&folder);
    let document = json(&gateway.admin_request("GET", "/openapi.json", ""));
    let held = |method: &str, path: &str, id: &str, body: Value| {
        let response = gateway.order(method, &path.replace("{name}", "bob").replace("{id}", id), body);
        let operation = &document["paths"][path][method.to_lowercase()];
        let described = &operation["responses"][response.status.to_string()];
        assert!(described.is_object(), "{method} {path}: {} {}", response.status, response.text());
        let mut schema = described["content"]["application/json"]["schema"].clone();
        let answer = json(&response);
        if !schema.is_null() {
            schema["components"] = document["components"].clone();
            let validator = jsonschema::validator_for(&schema).unwrap();
            let faults: Vec<_> = validator.iter_errors(&answer).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{method} {path}: {faults:?}\n{answer:#}");
        }
        answer["id"].as_str().unwrap_or_default().to_owned()
    };
    let everything = json!({ "custom_id": "u-2", "groups": ["a"], "plan": "free", "metadata": { "k": "v" } });
    held("PUT", "/consumers/{name}", "", everything);
    let id = held("POST", "/consumers/{name}/keys", "", json!({ "expires": "2100-01-01T00:00:00Z" }));
    let next = held("POST", "/consumers/{name}/keys/{id}/rotate", &id, Value::Null);
    held("PATCH", "/consumers/{name}/keys/{id}", &next, json!({ "expires": null }));
    held("GET", "/consumers/{name}/keys", "", Value::Null);
    held("GET", "/consumers/{name}", "", Value::Null);
    held("GET", "/consumers", "", Value::Null);
    let hash = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
    let expires = "2100-01-01T00:00:00Z";
    let password = json!({ "kind": "password", "username": "bob", "hash": hash, "expires": expires });
    held("POST", "/consumers/{name}/credentials", "", password);
    held("POST", "/consumers/{name}/credentials", "", json!({ "kind": "certificate", "subject_cn": "bob" }));
    held("GET", "/consumers/{name}/credentials", "", Value::Null);
    held("DELETE", "/consumers/{name}/keys/{id}", &next, Value::Null);
    held("DELETE", "/consumers/{name}", "", Value::Null);
}

/// config/examples/plans.toml, as a reader copies it.
#[test]
fn the_example_of_plans_runs() {
    let root = wasmgate_build::workspace();
    let example = fs::read_to_string(root.join("config/examples/plans.toml")).unwrap();
    let upstream = wasmgate_tests::TestUpstream::echo_headers();
    let example = example
        .replacen("[[listener]]", "[[listener]]\nname = \"public\"", 1)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9901", "127.0.0.1:0")
        .replace("127.0.0.1:9001", &upstream.address().to_string())
        .replace("../../target/plugins", "{plugins}");
    let gateway = TestGateway::start_with(&example, &[("WASMGATE_TOKEN", TOKEN)]);
    let mut keys = Vec::new();
    for plan in ["free", "starter", "enterprise", "pro"] {
        let consumer = format!("/consumers/of-{plan}");
        let set = gateway.order("PUT", &consumer, json!({ "plan": plan }));
        assert_eq!(set.status, 200, "{}", set.text());
        let (key, _) = gateway.issue(&format!("{consumer}/keys"), Value::Null);
        assert_eq!(status(&gateway, &key), 200);
        let seen = upstream.take_requests().remove(0);
        assert_eq!(seen.header("x-consumer-username"), Some(format!("of-{plan}").as_str()));
        keys.push(key);
    }
    assert_eq!(status(&gateway, "nobody"), 401);

    // A plan goes while somebody has it.
    let without = example.replace("[plan.pro]", "[plan.gold]");
    let fallback = "limit = { rate = 60, per = \"1m\" }\n";
    assert!(without.contains(fallback), "{without}");
    gateway.write_config(&without.replace(fallback, ""));
    gateway.reload();
    let told =
        "a consumer of the store has a plan that is not in the config plan=\"pro\" consumer=\"of-pro\"";
    assert_eq!(gateway.logged(told).len(), 1, "{}", gateway.log());
    let refused = with_key(&gateway, &keys[3]);
    assert_eq!((refused.status, &json(&refused)["code"]), (503, &json!("plan_unknown")));
    assert_eq!(status(&gateway, &keys[2]), 200);
}

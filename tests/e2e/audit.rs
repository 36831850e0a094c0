//! The audit: who was refused and why, what was changed, and nothing that is secret.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use wasmgate_tests::{Pipe, TestGateway, TestUpstream, eventually, fill, request};

const TOKEN: &str = "a-token-for-the-tests";

/// A route for each plugin that refuses requests.
const CONFIG: &str = r#"
[audit]
file = "audit.log"
decisions = "{decisions}"
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
token = "${env:TOKEN}"
[plugins]
directory = "{plugins}"
[upstream.app]
endpoints = ["{app}"]
[upstream.no]
endpoints = ["{no}"]
[plugin.key-auth]
consumers = true
[plugin.oauth2-introspection]
upstreams = ["no"]
[plugin.forward-auth]
upstreams = ["no", "app"]
[consumers]
store = "consumers.redb"
[consumer.acme]
groups = ["partners"]
[[consumer.acme.credential]]
kind = "key"
id = "good"
key = "${env:GOOD_KEY}"
[[consumer.acme.credential]]
kind = "key"
id = "old"
key = "${env:OLD_KEY}"
expires = "2020-01-01T00:00:00Z"
[[route]]
name = "key"
match = { path = "/key/*" }
upstream = "app"
plugins = ["request-id", { name = "key-auth", config = { consumers = true, query = "key" } }]
[[route]]
name = "basic"
match = { path = "/basic" }
upstream = "app"
plugins = [{ name = "basic-auth", config = { users = ["alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="] } }]
[[route]]
name = "jwt"
match = { path = "/jwt" }
upstream = "app"
plugins = [{ name = "jwt", config = { issuers = [{ secret = "the secret that tokens are signed with", algorithms = ["HS256"] }] } }]
[[route]]
name = "introspected"
match = { path = "/introspected" }
upstream = "app"
plugins = [{ name = "oauth2-introspection", config = { upstream = "no", path = "/", client_id = "gateway", client_secret = "secret-of-the-client" } }]
[[route]]
name = "hmac"
match = { path = "/hmac" }
upstream = "app"
plugins = [{ name = "hmac-auth", config = { credentials = [{ id = "k1", secret = "the secret of signatures", consumer = "alice" }] } }]
[[route]]
name = "asked"
match = { path = "/asked" }
upstream = "app"
plugins = [{ name = "forward-auth", config = { upstream = "no", path = "/denied" } }]
[[route]]
name = "let"
match = { path = "/let" }
upstream = "app"
plugins = [{ name = "forward-auth", config = { upstream = "app" } }]
[[route]]
name = "mtls"
match = { path = "/mtls" }
upstream = "app"
plugins = [{ name = "mtls-auth", config = { consumer_from = ["subject_cn"] } }]
[[route]]
name = "guest"
match = { path = "/guest" }
upstream = "app"
plugins = [{ name = "key-auth", config = { consumers = true, anonymous = "visitor" } }]
[[route]]
name = "acl"
match = { path = "/acl" }
upstream = "app"
plugins = [{ name = "key-auth", config = { consumers = true } }, { name = "acl", config = { deny = [{ groups = ["partners"] }] } }]
[[route]]
name = "ip"
match = { path = "/ip" }
upstream = "app"
plugins = [{ name = "ip-restriction", config = { deny = ["127.0.0.0/8"] } }]
[[route]]
name = "rate"
match = { path = "/rate" }
upstream = "app"
plugins = [{ name = "rate-limit", config = { limit = { rate = 1, per = "1h", name = "hourly" } } }]
[[route]]
name = "any"
match = { path = "/any" }
upstream = "app"
plugins = [{ name = "key-auth", config = { consumers = true, any = true } }, { name = "basic-auth", config = { any = true, users = ["alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="] } }, "auth-any"]
"#;

const GOOD_KEY: &str = "the-good-key-of-acme";
const OLD_KEY: &str = "the-old-key-of-acme";

fn config(decisions: &str, app: &TestUpstream, no: &TestUpstream) -> String {
    let values: [(&str, &dyn std::fmt::Display); 3] =
        [("decisions", &decisions), ("app", &app.address()), ("no", &no.address())];
    fill(CONFIG, &values)
}

/// A service that knows no token, and denies all else.
fn service() -> TestUpstream {
    TestUpstream::start(|call| {
        let denied = call.body()?.target() == "/denied";
        let (status, body) = if denied { ("403 Forbidden", "") } else { ("200 OK", r#"{"active":false}"#) };
        call.write(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    })
}

fn start(decisions: &str) -> (TestGateway, TestUpstream, TestUpstream) {
    let (app, no) = (TestUpstream::ok(), service());
    let variables = [("TOKEN", TOKEN), ("GOOD_KEY", GOOD_KEY), ("OLD_KEY", OLD_KEY)];
    (TestGateway::start_with(&config(decisions, &app, &no), &variables), app, no)
}

/// The lines that stand in the file whole.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Waits for that many of them.
fn audit(gateway: &TestGateway, count: usize) -> Vec<Value> {
    let file = gateway.directory().join("audit.log");
    eventually!(lines(&file).len() >= count, "fewer than {count} lines: {:?}", lines(&file));
    let lines = lines(&file);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

fn basic(credentials: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(credentials))
}

/// A token that another secret has signed.
fn forged() -> String {
    let signed = [r#"{"alg":"HS256"}"#, r#"{"sub":"root","exp":4102444800}"#];
    format!(
        "{}.{}",
        signed.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join("."),
        "Zm9yZ2VkLXNpZ25hdHVyZQ"
    )
}

fn signed() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    format!(
        "Signature-Input: sig=(\"@method\" \"@target-uri\");created={now};keyid=\"k1\"\r\n\
         Signature: sig=:Zm9yZ2VkLXNpZ25hdHVyZQ==:\r\n"
    )
}

/// Credentials that are known and no good.
const KNOWN: &str = r#"
[plugin.basic-auth]
consumers = ["password"]
[plugin.hmac-auth]
consumers = ["hmac"]
[[consumer.acme.credential]]
kind = "password"
username = "shop"
hash = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK"
expires = "2020-01-01T00:00:00Z"
[[consumer.acme.credential]]
kind = "password"
username = "till"
hash = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK"
[[consumer.acme.credential]]
kind = "hmac"
id = "k1"
secret = "${env:GOOD_KEY}"
enabled = false
[[route]]
name = "known-basic"
match = { path = "/known/basic" }
upstream = "app"
plugins = [{ name = "basic-auth", config = { consumers = true } }]
[[route]]
name = "known-hmac"
match = { path = "/known/hmac" }
upstream = "app"
plugins = [{ name = "hmac-auth", config = { consumers = true } }]
[[route]]
name = "known-any"
match = { path = "/known/any" }
upstream = "app"
plugins = [{ name = "key-auth", config = { consumers = true, any = true } }, { name = "basic-auth", config = { any = true, consumers = true } }, "auth-any"]
"#;

/// The operator wants to know whose credential is still in use. Clients learn nothing of it.
#[test]
fn what_is_wrong_with_a_known_credential_is_told_with_its_name() {
    let (app, no) = (TestUpstream::ok(), service());
    let variables = [("TOKEN", TOKEN), ("GOOD_KEY", GOOD_KEY), ("OLD_KEY", OLD_KEY)];
    let gateway = TestGateway::start_with(&(config("refused", &app, &no) + KNOWN), &variables);
    for (target, headers, told) in [
        ("/known/basic", basic("shop:password"), json!(["expired", "acme", "shop", null])),
        ("/known/basic", basic("nobody:password"), json!(["unknown_user", null, null, null])),
        ("/known/hmac", signed(), json!(["disabled", "acme", "k1", null])),
        (
            "/known/any",
            format!("X-Api-Key: {OLD_KEY}\r\n"),
            json!(["none_valid", "acme", "old", "invalid_key, missing"]),
        ),
        ("/known/any", basic("till:guess"), json!(["none_valid", "acme", "till", "missing, wrong_password"])),
    ] {
        let before = lines(&gateway.directory().join("audit.log")).len();
        assert_eq!(request(gateway.addr(), "GET", target, &headers).status, 401, "{target}");
        let line = audit(&gateway, before + 1).pop().expect("a line");
        assert_eq!(
            json!(["why", "consumer", "credential", "detail"].map(|name| &line[name])),
            told,
            "{target}"
        );
    }
}

#[test]
fn every_plugin_tells_why_it_refuses_and_no_secret() {
    let (gateway, app, _no) = start("refused");
    let key = |key: &str| format!("X-Api-Key: {key}\r\n");
    let bearing = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let on_the_way = [
        ("/key/a?key=a-key-in-the-query", String::new(), 401),
        ("/key/a", key(OLD_KEY), 401),
        ("/basic", basic("alice:wrong-password"), 401),
        ("/basic", basic("a-password-as-name:x"), 401),
        ("/jwt", bearing(&forged()), 401),
        ("/introspected", bearing("an-opaque-token"), 401),
        ("/hmac", signed(), 401),
        ("/asked", bearing("a-token-for-the-service"), 403),
        ("/mtls", String::new(), 403),
        ("/acl", key(GOOD_KEY), 403),
        ("/ip", String::new(), 403),
        ("/rate", String::new(), 200),
        ("/rate", String::new(), 429),
        ("/any", key("a-wrong-key"), 401),
        ("/key/a", key(GOOD_KEY), 200),
        ("/any", basic("alice:password"), 200),
        ("/let", String::new(), 200),
    ];
    for (target, headers, status) in &on_the_way {
        let answer = request(gateway.addr(), "GET", target, headers);
        assert_eq!(answer.status, *status, "{target} {headers}");
    }
    assert_eq!(app.count(), 5, "and the service that was asked");
    let lines = audit(&gateway, 13);
    let expected = [
        json!(["key", "key-auth", "unknown_key", null, null, 401]),
        json!(["key", "key-auth", "expired", "acme", "old", 401]),
        json!(["basic", "basic-auth", "wrong_password", "alice", "alice", 401]),
        json!(["basic", "basic-auth", "unknown_user", null, null, 401]),
        json!(["jwt", "jwt", "signature", null, null, 401]),
        json!(["introspected", "oauth2-introspection", "inactive", null, null, 401]),
        json!(["hmac", "hmac-auth", "signature", "alice", "k1", 401]),
        json!(["asked", "forward-auth", "service_denied", null, null, 403]),
        json!(["mtls", "mtls-auth", "missing", null, null, 403]),
        json!(["acl", "acl", "denied", "acme", "good", 403]),
        json!(["ip", "ip-restriction", "denied", null, null, 403]),
        json!(["rate", "rate-limit", "rate_limited", null, null, 429]),
        json!(["any", "auth-any", "none_valid", null, null, 401]),
    ];
    for (line, expected) in lines.iter().zip(expected) {
        let told =
            ["route", "plugin", "why", "consumer", "credential", "status"].map(|name| line[name].clone());
        assert_eq!(json!(told), expected);
        assert_eq!((&line["decision"], &line["client"]), (&json!("refused"), &json!("127.0.0.1")));
        assert_eq!(line["method"], "GET");
    }
    for (plugin, why, count) in
        [("key-auth", "expired", 1.0), ("key-auth", "missing", 0.0), ("rate-limit", "rate_limited", 1.0)]
    {
        let series = format!("wasmgate_plugin_refusals_total{{plugin=\"{plugin}\",why=\"{why}\"}}");
        assert_eq!(gateway.metric(&series), count, "{series}");
    }
    assert_eq!(lines[0]["path"], "/key/a", "without the query");
    assert!(lines[0]["request_id"].is_string() && lines[2]["request_id"].is_null());
    assert_eq!(lines[9]["detail"], "deny[0]");
    assert_eq!(lines[11]["detail"], "hourly");
    assert_eq!(lines[12]["detail"], "invalid_key, missing");
    let text = fs::read_to_string(gateway.directory().join("audit.log")).unwrap();
    for secret in [
        "a-key-in-the-query",
        OLD_KEY,
        GOOD_KEY,
        "wrong-password",
        "a-password-as-name",
        "Basic",
        "Bearer",
        &forged(),
        "Zm9yZ2Vk",
        "an-opaque-token",
        "secret-of-the-client",
        "a-token-for-the-service",
        "a-wrong-key",
        "the secret",
        "W6ph5Mm5Pz8GgiULbPgzG37mj9g",
    ] {
        assert!(!text.contains(secret), "{secret} stands in {text}");
    }
}

#[test]
fn who_was_let_in_is_told_where_it_is_wanted() {
    let (gateway, ..) = start("all");
    let key = format!("X-Api-Key: {GOOD_KEY}\r\n");
    for (target, headers, status) in [
        ("/key/a", key.as_str(), 200),
        ("/any", &basic("alice:password"), 200),
        ("/let", "", 200),
        ("/rate", "", 200),
        ("/guest", "", 200),
        ("/acl", &key, 403),
    ] {
        assert_eq!(request(gateway.addr(), "GET", target, headers).status, status, "{target}");
    }
    let told = audit(&gateway, 6).into_iter().map(|line| {
        let told = ["decision", "plugin", "consumer", "credential", "why", "status"];
        json!(told.map(|name| line[name].clone()))
    });
    let expected = [
        json!(["allowed", "key-auth", "acme", "good", null, null]),
        json!(["allowed", "basic-auth", "alice", "alice", null, null]),
        json!(["allowed", "forward-auth", null, null, "service_allowed", null]),
        json!(["allowed", "key-auth", "visitor", null, "anonymous", null]),
        json!(["allowed", "key-auth", "acme", "good", null, null]),
        json!(["refused", "acl", "acme", "good", "denied", 403]),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_changed_by_the_admin_listener_is_told() {
    let (gateway, ..) = start("refused");
    let order = |token: &str, method: &str, target: &str, body: &str| {
        let answer = gateway.admin_order(token, method, target, body);
        let status = answer.status;
        (status, serde_json::from_slice::<Value>(&answer.body).unwrap_or_default())
    };
    assert_eq!(order(TOKEN, "PUT", "/consumers/bob", r#"{"groups": ["a"]}"#).0, 200);
    let issued = order(TOKEN, "POST", "/consumers/bob/keys", "").1;
    let (key, id) = (issued["key"].as_str().unwrap(), issued["id"].as_str().unwrap());
    let rotated = order(TOKEN, "POST", &format!("/consumers/bob/keys/{id}/rotate"), r#"{"grace": "0s"}"#).1;
    let next = rotated["id"].as_str().unwrap();
    assert_eq!(order(TOKEN, "DELETE", &format!("/consumers/bob/keys/{next}"), "").0, 204);
    let password = r#"{"kind": "password", "username": "b", "password": "sesame"}"#;
    assert_eq!(order(TOKEN, "POST", "/consumers/bob/credentials", password).0, 201);
    assert_eq!(order(TOKEN, "DELETE", "/consumers/bob/credentials/password/b", "").0, 204);
    assert_eq!(order(TOKEN, "DELETE", "/consumers/bob", "").0, 204);
    assert_eq!(order(TOKEN, "DELETE", "/consumers/bob", "").0, 404);
    assert_eq!(order("a-wrong-token", "PUT", "/consumers/eve", "{}").0, 401);
    assert_eq!(order(TOKEN, "POST", "/plugins/key-auth/rollback", "").0, 409);
    assert_eq!(order("", "GET", "/consumers", "").0, 200, "who only looks is not told of");
    let told = audit(&gateway, 10).into_iter().map(|line| {
        assert_eq!(line["client"], "127.0.0.1");
        json!(["decision", "action", "object", "detail", "status"].map(|name| line[name].clone()))
    });
    let expected = [
        json!(["admin", "set_consumer", ["bob"], null, 200]),
        json!(["admin", "issue_key", ["bob"], id, 201]),
        json!(["admin", "rotate_key", ["bob", id], next, 201]),
        json!(["admin", "revoke_key", ["bob", next], null, 204]),
        json!(["admin", "set_credential", ["bob"], "password/b", 201]),
        json!(["admin", "revoke_credential", ["bob", "password", "b"], null, 204]),
        json!(["admin", "remove_consumer", ["bob"], null, 204]),
        json!(["admin", "remove_consumer", ["bob"], null, 404]),
        json!(["refused", "set_consumer", ["eve"], null, 401]),
        json!(["admin", "roll_back", ["key-auth"], null, 409]),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let text = fs::read_to_string(gateway.directory().join("audit.log")).unwrap();
    for secret in [key, rotated["key"].as_str().unwrap(), TOKEN, "a-wrong-token", "sesame"] {
        assert!(!text.contains(secret), "{text}");
    }
    // Of a key that was taken back the client learns no more than of any other.
    assert_eq!(request(gateway.addr(), "GET", "/key/a", &format!("X-Api-Key: {key}\r\n")).status, 401);
    assert_eq!(audit(&gateway, 11)[10]["why"], "unknown_key");
}

/// Listener, one route with a key, and this as `[audit]`.
fn small(audit: &str) -> String {
    let plugins = "[plugins]\ndirectory = \"{plugins}\"\n[[route]]\nname = \"all\"\nplugins = [\"key-auth\", \"respond\"]\n";
    let key = "[plugin.key-auth.config]\nkeys = [{ sha256 = \"c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c\", consumer = \"alice\" }]\n";
    let listeners =
        "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
    format!("server = {{ drain_timeout = \"20s\" }}\n{audit}\n{listeners}{plugins}{key}")
}

#[test]
fn a_file_that_is_moved_away_is_made_anew_and_so_is_the_access_log() {
    let audit = "access_log = { file = \"access.log\" }\naudit = { file = \"audit.log\" }";
    let gateway = TestGateway::start(&small(audit));
    let folder = gateway.directory();
    for name in ["audit.log", "access.log"] {
        let (file, moved) = (folder.join(name), folder.join(format!("{name}.1")));
        let mut sent = 0;
        let mut refused = || {
            assert_eq!(gateway.get(&format!("/{name}")).status, 401);
            sent += 1;
        };
        let of_this =
            |file: &Path| lines(file).iter().filter(|line| line["path"] == format!("/{name}")).count();
        refused();
        eventually!(of_this(&file) == 1);
        fs::rename(&file, &moved).unwrap();
        eventually!({
            refused();
            of_this(&file) > 0
        });
        eventually!(of_this(&file) + of_this(&moved) == sent, "no line is lost between the two");
    }
    assert_eq!(gateway.metric("wasmgate_audit_dropped_total"), 0.0);
}

#[test]
fn a_reload_begins_and_ends_the_audit() {
    let gateway = TestGateway::start(&small(""));
    let file = gateway.directory().join("audit.log");
    assert_eq!(gateway.get("/1").status, 401);
    gateway.write_config(&small("audit = { file = \"audit.log\" }"));
    gateway.reload();
    assert_eq!(gateway.get("/2").status, 401);
    eventually!(lines(&file).len() == 1);
    gateway.reload();
    gateway.write_config(&small(""));
    assert_eq!(gateway.get("/3").status, 401);
    eventually!(lines(&file).len() == 2);
    gateway.reload();
    assert_eq!(gateway.get("/4").status, 401);
    gateway.write_config(&small("audit = { file = \"audit.log\", queue = 7 }"));
    gateway.reload();
    assert_eq!(gateway.get("/5").status, 401);
    eventually!(lines(&file).len() == 3);
    let paths: Vec<_> = lines(&file).iter().map(|line| line["path"].clone()).collect();
    assert_eq!(json!(paths), json!(["/2", "/3", "/5"]));
    let refusals = "wasmgate_plugin_refusals_total{plugin=\"key-auth\",why=\"missing\"}";
    assert_eq!(gateway.metric(refusals), 5.0, "with and without");
}

#[test]
fn a_full_disk_loses_lines_and_no_request() {
    let gateway = TestGateway::start(&small("audit = { file = \"/dev/full\" }"));
    for _ in 0..3 {
        assert_eq!(gateway.get("/").status, 401);
    }
    assert_eq!(request(gateway.addr(), "GET", "/", "X-Api-Key: demo-key\r\n").status, 200);
    eventually!(gateway.metric("wasmgate_audit_dropped_total") == 3.0);
    let told = gateway.logged("the audit cannot be written");
    assert_eq!(told.len(), 1, "once in a while: {told:?}");
    assert!(told[0].contains("ERROR") && told[0].contains("lines are lost"), "{told:?}");
}

#[test]
fn a_pipe_that_nobody_has_opened_delays_neither_a_start_nor_a_reload() {
    let records = "audit = { file = \"audit.pipe\" }";
    let mut gateway = TestGateway::launch(&small(records), &[], |folder| {
        for name in ["audit.pipe", "access.pipe"] {
            Pipe::make(&folder.join(name));
        }
    });
    gateway.wait_until_ready();
    gateway.write_config(&small(&format!("{records}\naccess_log = {{ file = \"access.pipe\" }}")));
    gateway.reload();
    assert_eq!(gateway.get("/early").status, 401);
    for name in ["audit.pipe", "access.pipe"] {
        let mut line = String::new();
        let reader = fs::File::open(gateway.directory().join(name)).unwrap();
        BufReader::new(reader).read_line(&mut line).unwrap();
        assert!(line.contains("/early"), "{name}: {line}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_loses_lines_that_are_told_and_no_request() {
    let mut pipe = None;
    let config = small("audit = { file = \"pipe\", queue = 5 }");
    let mut gateway = TestGateway::launch(&config, &[], |folder| {
        pipe = Some(Pipe::make(&folder.join("pipe")));
    });
    let mut reader = pipe.unwrap().reader();
    gateway.wait_until_ready();
    let target = format!("/{}", "x".repeat(4000));
    let mut refused = 0;
    eventually!({
        assert_eq!(gateway.get(&target).status, 401);
        refused += 1;
        gateway.metric("wasmgate_audit_dropped_total") >= 3.0
    });
    gateway.terminate();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(gateway.wait().code(), Some(0));
    let (mut written, mut lost) = (0, 0);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        match line["decision"].as_str() {
            Some("lost") => lost += line["lines"].as_u64().unwrap(),
            _ => written += 1,
        }
    }
    assert!(lost >= 3, "{lost}");
    assert_eq!(written + lost, refused, "each is told of, or missing is told");
}

/// config/examples/access.toml, as a reader copies it.
#[test]
fn the_example_of_access_runs() {
    let example =
        fs::read_to_string(wasmgate_build::workspace().join("config/examples/access.toml")).unwrap();
    let upstream = TestUpstream::ok();
    let example = example
        .replacen("[[listener]]", "[[listener]]\nname = \"public\"", 1)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("10.0.0.0/24", "127.0.0.1/32")
        .replace("127.0.0.1:9001", &upstream.address().to_string())
        .replace("../../target/plugins", "{plugins}");
    let gateway = TestGateway::start(&example);
    let from = |address: &str, key: &str| format!("X-Forwarded-For: {address}\r\nX-Api-Key: {key}\r\n");
    for (target, headers, status) in [
        ("/orders/1", from("198.51.100.1", "acme-key"), 200),
        ("/orders/1", from("203.0.113.9", "acme-key"), 403),
        ("/orders/1", from("198.51.100.1", "eve-key"), 401),
        ("/admin/1", from("198.51.100.1", "demo-key"), 403),
        ("/admin/1", from("192.0.2.1", "demo-key"), 200),
        ("/admin/1", from("192.0.2.1", "acme-key"), 403),
    ] {
        assert_eq!(request(gateway.addr(), "GET", target, &headers).status, status, "{target} {headers}");
    }
    let told = audit(&gateway, 4)
        .into_iter()
        .map(|line| json!(["client", "plugin", "why", "consumer"].map(|name| line[name].clone())));
    let expected = [
        json!(["203.0.113.9", "ip-restriction", "denied", null]),
        json!(["198.51.100.1", "key-auth", "invalid_key", null]),
        json!(["198.51.100.1", "ip-restriction", "not_allowed", null]),
        json!(["192.0.2.1", "acl", "not_allowed", "acme"]),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

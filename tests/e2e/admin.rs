//! The admin listener: what it tells, what it changes, and for whom.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use wasmgate_tests::{Client, Pipe, Response, TestGateway, TestUpstream, eventually, fill, peer, request};

const TOKEN: &str = "a-token-for-the-tests";

const CONFIG: &str = r#"
access_log = { file = "access.log" }
reload.watch = false
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "{address}"
token = "${env:TOKEN}"
[plugins]
directory = "{plugins}"
[upstream.app]
endpoints = ["{upstream}"]
[[route]]
name = "all"
upstream = "app"
plugins = ["request-id"]
[[route]]
name = "fixed"
match = { path = "/fixed/*", methods = ["GET"] }
plugins = [{ name = "respond", config = { body = "${env:TOKEN}" }, failure_policy = "open" }]
"#;

fn config(address: &str, upstream: &TestUpstream) -> String {
    let upstream = upstream.address();
    fill(CONFIG, &[("address", &address), ("upstream", &upstream), ("plugins", &"{plugins}")])
}

fn gateway(upstream: &TestUpstream) -> TestGateway {
    TestGateway::start_with(&config("127.0.0.1:0", upstream), &[("TOKEN", TOKEN)])
}

trait Admin {
    fn ask(&self, method: &str, target: &str) -> Response;
    fn json(&self, target: &str) -> Value;
}

impl Admin for TestGateway {
    /// With the token.
    fn ask(&self, method: &str, target: &str) -> Response {
        self.admin_request(method, target, &format!("Authorization: Bearer {TOKEN}\r\n"))
    }

    fn json(&self, target: &str) -> Value {
        let response = self.admin_request("GET", target, "");
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        serde_json::from_str(&response.text()).expect("JSON")
    }
}

fn problem(response: &Response) -> Value {
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem: Value = serde_json::from_str(&response.text()).expect("JSON");
    assert_eq!(problem["status"], response.status);
    problem
}

#[test]
fn it_tells_what_runs_and_what_it_did() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream);
    let mut client = Client::connect(gateway.addr());
    for _ in 0..3 {
        client.get("/");
    }
    client.get("/fixed/x");
    eventually!(gateway.metric("wasmgate_requests_total") == 4.0);

    let status = gateway.json("/status");
    assert_eq!((&status["state"], &status["pid"]), (&json!("running"), &json!(gateway.pid())));
    assert_eq!(status["listeners"]["public"], gateway.addr().to_string());
    assert_eq!(status["config"]["routes"], 2);
    assert_eq!(status["last_reload"], Value::Null);

    let routes = gateway.json("/routes");
    assert_eq!((&routes[0]["name"], &routes[0]["requests"]), (&json!("all"), &json!(3)));
    assert_eq!(routes[1]["match"], json!({ "path": "/fixed/*", "methods": ["GET"] }));
    assert_eq!(routes[1]["plugins"], json!([{ "name": "respond", "failure_policy": "open" }]));

    let plugins = gateway.json("/plugins");
    let request_id =
        plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == "request-id").unwrap();
    // The request phase of three requests.
    assert_eq!(request_id["calls"], 3);
    assert_eq!((&request_id["kind"], &request_id["routes"]), (&json!("native"), &json!(["all"])));
    assert!(request_id["instances"].as_u64().unwrap() >= 1);
    assert!(request_id["memory_bytes"].as_u64().unwrap() >= 65_536);
    assert!(request_id["host_calls"].as_u64().unwrap() >= 6);
    assert!(request_id["time_seconds"].as_f64().unwrap() > 0.0);

    let upstreams = gateway.json("/upstreams");
    assert_eq!((&upstreams[0]["name"], &upstreams[0]["requests"]), (&json!("app"), &json!(3)));
    assert_eq!(upstreams[0]["endpoints"][0]["address"], upstream.address().to_string());
}

#[test]
fn the_effective_config_has_defaults_and_no_secrets() {
    let gateway = gateway(&TestUpstream::echo());
    let response = gateway.admin_request("GET", "/config", "");
    assert!(!response.text().contains(TOKEN), "{}", response.text());
    let config: Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!(config["admin"]["token"], "(hidden)");
    assert_eq!(config["route"][1]["plugins"][0]["config"]["body"], "(hidden)");
    assert_eq!(config["limits"]["header_count"], 100);
    assert_eq!(config["upstream"]["app"]["timeouts"]["connect"], "5s");
    assert_eq!(config["reload"], json!({ "watch": false, "debounce": "20ms" }));
}

#[test]
fn what_changes_something_needs_the_token() {
    let gateway = gateway(&TestUpstream::echo());
    for (method, target) in [("POST", "/reload"), ("POST", "/drain"), ("PUT", "/log")] {
        for header in ["", "Authorization: Bearer wrong\r\n", &format!("Authorization: Basic {TOKEN}\r\n")] {
            let response = gateway.admin_request(method, target, header);
            assert_eq!(response.status, 401, "{method} {target} {header}");
            assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            problem(&response);
        }
    }
    assert_eq!(gateway.ask("POST", "/reload").status, 200);
}

#[test]
fn without_a_token_nothing_can_be_changed() {
    let gateway = TestGateway::before(&TestUpstream::echo(), "");
    let response = gateway.ask("POST", "/reload");
    assert_eq!(response.status, 403);
    assert!(problem(&response)["detail"].as_str().unwrap().contains("admin.token"));
}

#[test]
fn other_machines_need_the_token_for_all_but_probes() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::start_with(&config("0.0.0.0:0", &upstream), &[("TOKEN", TOKEN)]);
    let admin = ([127, 0, 0, 1], gateway.admin().port()).into();
    for target in ["/status", "/config", "/metrics", "/plugins"] {
        assert_eq!(request(admin, "GET", target, "").status, 401, "{target}");
        let token = format!("authorization: bearer {TOKEN}\r\n");
        assert_eq!(request(admin, "GET", target, &token).status, 200, "{target}");
    }
    for target in ["/healthz", "/readyz"] {
        assert_eq!(request(admin, "GET", target, "").status, 200, "{target}");
    }
}

#[test]
fn a_host_that_is_a_name_needs_the_token_too() {
    let (upstream, token) = (TestUpstream::echo(), format!("Authorization: Bearer {TOKEN}\r\n"));
    let get = |gateway: &TestGateway, host: &str, target: &str, header: &str| {
        let mut client = Client::connect(gateway.admin());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{header}\r\n")).response()
    };
    let with = gateway(&upstream);
    for (host, header, status) in [
        ("rebound.test", "", 401),
        ("rebound.test:9901", "", 401),
        ("rebound.test", &*token, 200),
        ("localhost:9901", "", 200),
        ("[::1]:9901", "", 200),
    ] {
        assert_eq!(get(&with, host, "/status", header).status, status, "{host} {header}");
    }
    assert_eq!(get(&with, "rebound.test", "http://localhost/status", "").status, 401);
    assert_eq!(get(&with, "rebound.test", "/readyz", "").status, 200);

    let without = TestGateway::before(&upstream, "");
    let refused = get(&without, "rebound.test", "/status", "");
    assert_eq!(refused.status, 403);
    assert!(problem(&refused)["detail"].as_str().unwrap().contains("Host is neither"));
}

#[test]
fn it_reloads_or_says_why_not() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream);
    let good = config("127.0.0.1:0", &upstream);
    gateway.write_config(&good.replace("name = \"fixed\"", "name = \"other\""));

    let dry: Value = serde_json::from_str(&gateway.ask("POST", "/reload?dry-run").text()).unwrap();
    assert_eq!((&dry["applied"], &dry["routes"]), (&json!(false), &json!(2)));
    assert_eq!(gateway.json("/routes")[1]["name"], "fixed");
    let done: Value = serde_json::from_str(&gateway.ask("POST", "/reload").text()).unwrap();
    assert_eq!(done["applied"], true);
    assert_eq!(gateway.json("/routes")[1]["name"], "other");
    let last = &gateway.json("/status")["last_reload"];
    assert_eq!((&last["trigger"], &last["applied"]), (&json!("admin"), &json!(true)));

    gateway.write_config(&good.replace("upstream = \"app\"", "upstream = \"ap\""));
    for target in ["/reload?dry-run", "/reload"] {
        let response = gateway.ask("POST", target);
        assert_eq!(response.status, 422);
        let fault = problem(&response)["faults"][0].as_str().unwrap().to_owned();
        assert!(
            fault.starts_with("gateway.toml:16:12: error: route[0].upstream: unknown upstream"),
            "{fault}"
        );
    }
    let status = gateway.json("/status");
    assert_eq!(status["last_reload"]["applied"], false);
    assert!(status["last_reload"]["faults"][0].as_str().unwrap().contains("did you mean `app`"));
    assert_eq!(gateway.metric("wasmgate_reloads_total{result=\"refused\"}"), 1.0);
    assert_eq!(gateway.metric("wasmgate_last_reload_successful"), 0.0);
    assert_eq!(gateway.ask("POST", "/reload?now").status, 400);
}

#[test]
fn the_log_level_can_be_set() {
    let gateway = gateway(&TestUpstream::echo());
    assert_eq!(gateway.json("/log")["level"], "info");
    let put = |body: &str| gateway.admin_order(TOKEN, "PUT", "/log", body);
    assert_eq!(put("{\"level\": \"debug\"}").status, 200);
    assert_eq!(gateway.json("/log")["level"], "debug");
    assert_eq!(put("{\"level\": \"error\"}").status, 200);
    gateway.ask("POST", "/reload");
    assert_eq!(put("{\"level\": \"info\"}").status, 200);
    gateway.ask("POST", "/reload");
    eventually!(!gateway.logged(" reloaded").is_empty());
    assert_eq!(gateway.logged(" reloaded").len(), 1, "{}", gateway.log());
    for bad in ["", "{\"level\": \"loud\"}", "{\"lvl\": \"debug\"}"] {
        assert_eq!(put(bad).status, 400, "{bad}");
    }
    assert_eq!(put(&" ".repeat((64 << 10) + 1)).status, 413);
}

#[test]
fn it_drains() {
    let mut gateway = gateway(&TestUpstream::echo());
    assert_eq!(gateway.ask("POST", "/drain").status, 202);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn what_is_not_there_is_a_problem_that_says_what_is() {
    let gateway = gateway(&TestUpstream::echo());
    let response = gateway.ask("GET", "/nothing");
    assert_eq!(response.status, 404);
    let detail = problem(&response)["detail"].as_str().unwrap().to_owned();
    for path in ["/status", "/log", "/consumers/{name}"] {
        let told = detail.trim_end_matches('.').split([' ', ',']).filter(|told| *told == path).count();
        assert_eq!(told, 1, "{path}: {detail}");
    }
    let response = gateway.ask("DELETE", "/log");
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, PUT")));
    assert_eq!(gateway.admin_request("HEAD", "/status", "").text(), "");
}

/// Its plugin is a pipe, which is read for as long as somebody may write into it.
#[test]
fn probes_are_answered_before_the_first_snapshot() {
    let config = CONFIG.replace(
        "[[listener]]",
        "[plugin.slow]\nfile = \"pipe\"\non_load_error = \"disable-route\"\n[[listener]]",
    );
    let upstream = TestUpstream::echo().address();
    let config =
        fill(&config, &[("address", &"127.0.0.1:0"), ("upstream", &upstream), ("plugins", &"{plugins}")]);
    let mut pipe = None;
    let mut gateway = TestGateway::launch(&config, &[("TOKEN", TOKEN)], |folder| {
        pipe = Some(Pipe::make(&folder.join("pipe")));
    });
    let mut writer = pipe.unwrap().writer();
    eventually!(!gateway.logged("listener=\"admin\"").is_empty());
    let status = |target: &str| gateway.admin_request("GET", target, "").status;
    assert_eq!([status("/healthz"), status("/readyz"), status("/status")], [200, 503, 503]);
    writer.write_all(b"no plugin").unwrap();
    drop(writer);
    gateway.wait_until_ready();
    let status = |target: &str| gateway.admin_request("GET", target, "").status;
    assert_eq!([status("/healthz"), status("/readyz"), status("/status")], [200, 200, 200]);
}

/// The committed OpenAPI document is the one that is served, and the answers are as it says.
#[test]
fn answers_are_as_the_openapi_document_says() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream);
    gateway.get("/");
    gateway.write_config("[[listener]");
    gateway.ask("POST", "/reload");
    let file = wasmgate_build::workspace().join("config/openapi.json");
    let served = gateway.admin_request("GET", "/openapi.json", "").text();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &served).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), served, "UPDATE_GOLDEN=1 rewrites it");

    let document: Value = serde_json::from_str(&served).unwrap();
    let mut held = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // The end of the gateway, whose answer is that of /status; and verbs that tests of roll-outs call.
            if path == "/drain" || path.contains("{name}") {
                continue;
            }
            let response = gateway.ask(&method.to_uppercase(), path);
            let (described, media_type) = match response.status {
                200 => (&operation["responses"]["200"], "application/json"),
                _ => (&operation["responses"]["default"], "application/problem+json"),
            };
            let schema = &described["content"][media_type]["schema"];
            if schema.is_null() {
                continue;
            }
            let mut schema = schema.clone();
            schema["components"] = document["components"].clone();
            let answer: Value = serde_json::from_str(&response.text()).unwrap();
            let validator = jsonschema::validator_for(&schema).unwrap();
            let faults: Vec<_> = validator.iter_errors(&answer).map(|fault| fault.to_string()).collect();
            assert!(faults.is_empty(), "{method} {path}: {faults:?}\n{answer:#}");
            held += 1;
        }
    }
    assert!(held >= 7, "{held}");
}

#[test]
fn prometheus_takes_the_metrics() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream);
    gateway.get("/");
    gateway.get("/fixed/x");
    request(gateway.addr(), "BREW", "/", "");
    eventually!(gateway.metric("wasmgate_requests_total") == 3.0);
    let page = gateway.metrics();
    for part in [
        "wasmgate_requests_total{route=\"all\",method=\"OTHER\",status=\"2xx\",reason=\"\"} 1",
        "wasmgate_requests_total{route=\"fixed\",method=\"GET\",status=\"2xx\",reason=\"plugin_response\"} 1",
        "wasmgate_request_duration_seconds_count{route=\"all\"} 2",
        "wasmgate_upstream_requests_total{upstream=\"app\",status=\"2xx\"} 2",
        "wasmgate_connections_accepted_total{listener=\"public\"} 3",
        "wasmgate_plugin_calls_total{plugin=\"request-id\",phase=\"request\"} 2",
        "wasmgate_requests_in_flight{route=\"all\"} 0",
    ] {
        assert!(page.lines().any(|line| line == part), "{part}:\n{page}");
    }
    if peer("promtool").is_none() {
        return;
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! New versions of a plugin beside the old one: shares, shadows, and the way back.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use wasmgate_tests::{
    Client, Output, Response, TestGateway, TestUpstream, eventually, fill, request, run_with, version,
};

const TOKEN: &str = "a-token-for-the-tests";

const CONFIG: &str = r#"
reload.debounce = "20ms"
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
token = "${env:WASMGATE_TOKEN}"
[upstream.app]
endpoints = ["{upstream}"]
[plugin.thing]
file = "old.wasm"
{rollout}
[[route]]
name = "all"
upstream = "app"
plugins = [{ name = "thing", failure_policy = "open" }]
"#;

fn config(upstream: &TestUpstream, rollout: &str) -> String {
    fill(CONFIG, &[("upstream", &upstream.address()), ("rollout", &rollout)])
}

/// A gateway with an old version that does well, and these new ones beside it.
fn gateway(upstream: &TestUpstream, new: &[&str]) -> TestGateway {
    TestGateway::start_in(&config(upstream, ""), &[("WASMGATE_TOKEN", TOKEN)], |folder| {
        put(folder, "old.wasm", &version("good", "v-old---"));
        for behaviour in new {
            put(folder, &format!("{behaviour}.wasm"), &version(behaviour, "v-new---"));
        }
    })
}

/// Puts this roll-out into the config and waits for it.
fn roll_out(gateway: &TestGateway, upstream: &TestUpstream, plan: &str) {
    let rollout = format!("rollout = {{ {plan} }}");
    gateway.reloads_after(|| gateway.write_config(&config(upstream, &rollout)));
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join("next"), bytes).unwrap();
    fs::rename(folder.join("next"), folder.join(name)).unwrap();
}

fn served_by(response: &Response) -> String {
    assert_eq!(response.status, 200);
    response.header("x-version").unwrap_or("none").to_owned()
}

fn thing(gateway: &TestGateway) -> Value {
    let plugins = gateway.admin_request("GET", "/plugins", "").text();
    serde_json::from_str::<Value>(&plugins).unwrap()[0].clone()
}

/// `wasmgate plugin ...` against this gateway.
fn plugin(gateway: &TestGateway, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", gateway.admin());
    let arguments = [&["plugin"], arguments, &["--admin", &admin]].concat();
    run_with(&gateway.directory(), &arguments, &[("WASMGATE_TOKEN", TOKEN)])
}

/// Requests until the roll-out is given up; all of them have to be answered well.
fn until_rolled_back(gateway: &TestGateway) -> String {
    let mut client = Client::connect(gateway.addr());
    eventually!({
        for _ in 0..20 {
            assert_eq!(client.get("/").status, 200);
        }
        thing(gateway)["rollout"]["state"] == "rolled-back"
    });
    for _ in 0..50 {
        assert_eq!(served_by(&client.get("/")), "v-old---");
    }
    thing(gateway)["rollout"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_share_of_the_requests_gets_the_new_version_in_all_phases() {
    let upstream = TestUpstream::echo_headers();
    let gateway = gateway(&upstream, &["good"]);
    roll_out(&gateway, &upstream, "to = \"good.wasm\", percent = 30");
    let mut client = Client::connect(gateway.addr());
    let mut new = 0;
    for _ in 0..400 {
        let response = client.get("/");
        let version = served_by(&response);
        // The request phase told the upstream, the response phase the client.
        assert!(response.text().contains(&format!("x-version: {version}")), "{}", response.text());
        new += u32::from(version == "v-new---");
    }
    assert!((70..=170).contains(&new), "{new} of 400");
    let rollout = &thing(&gateway)["rollout"];
    assert_eq!(
        (rollout["state"].as_str(), rollout["new"]["calls"].as_u64()),
        (Some("running"), Some(2 * u64::from(new)))
    );
}

#[test]
fn a_client_sticks_to_its_version() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream, &["good"]);
    roll_out(&gateway, &upstream, "to = \"good.wasm\", percent = 50, sticky = \"header:x-user\"");
    let mut versions = BTreeSet::new();
    for user in 0..16 {
        let header = format!("x-user: {user}\r\n");
        let first = served_by(&request(gateway.addr(), "GET", "/", &header));
        for _ in 0..3 {
            assert_eq!(served_by(&request(gateway.addr(), "GET", "/", &header)), first);
        }
        versions.insert(first);
    }
    assert_eq!(versions.len(), 2);
}

/// The window is a minute; the whole test takes a few seconds.
#[test]
fn a_version_that_traps_on_one_request_in_three_is_rolled_back_and_no_request_fails() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream, &["trap"]);
    roll_out(&gateway, &upstream, "to = \"trap.wasm\", percent = 50, rollback = { window = \"1m\" }");
    let reason = until_rolled_back(&gateway);
    assert!(reason.starts_with("it fails in "), "{reason}");
    assert_eq!(gateway.metric("wasmgate_plugin_rollbacks_total{plugin=\"thing\"}"), 1.0);
    assert!(!gateway.logged("rolled back: it fails").is_empty());
    // A reload of the same does not begin it again.
    gateway.reload();
    assert_eq!(thing(&gateway)["rollout"]["state"], "rolled-back");
}

#[test]
fn a_version_that_returns_errors_or_takes_long_is_rolled_back() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream, &["fail", "slow"]);
    for (new, told) in [("fail", "answers with errors"), ("slow", "99 of 100")] {
        let plan = format!("to = \"{new}.wasm\", percent = 50");
        roll_out(&gateway, &upstream, &plan);
        let reason = until_rolled_back(&gateway);
        assert!(reason.contains(told), "{reason}");
    }
}

#[test]
fn a_shadow_changes_nothing_and_its_differences_are_told() {
    let upstream = TestUpstream::echo_headers();
    let gateway = gateway(&upstream, &["good", "edit", "deny", "trap"]);
    let mut client = Client::connect(gateway.addr());
    let differences = |what: &str| {
        gateway
            .metric(&format!("wasmgate_plugin_shadow_differences_total{{plugin=\"thing\",what=\"{what}\"}}"))
    };
    for (new, what, told) in [
        ("edit", "request-headers", "request-headers: x-extra"),
        ("deny", "verdict", "verdict: the old one goes on, the new one answers 403"),
        ("trap", "verdict", "the new one trapped"),
    ] {
        // The name differs too, so that every version differs in a header.
        let plan = format!("to = \"{new}.wasm\", percent = 100, shadow = true");
        roll_out(&gateway, &upstream, &plan);
        let before = differences(what);
        for _ in 0..6 {
            let response = client.get("/");
            assert_eq!(served_by(&response), "v-old---");
            assert!(!response.text().contains("x-extra"), "{}", response.text());
        }
        assert!(differences(what) > before, "{new}");
        eventually!({
            client.get("/");
            !gateway.logged(told).is_empty()
        });
    }
    assert!(gateway.metric("wasmgate_plugin_shadow_calls_total{plugin=\"thing\"}") >= 18.0);
}

#[test]
fn the_command_line_rolls_out_promotes_and_goes_back() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream, &["good", "edit"]);
    let mut client = Client::connect(gateway.addr());
    let new = gateway.directory().join("good.wasm").display().to_string();
    let done = |arguments: &[&str]| {
        let output = plugin(&gateway, arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        output.out
    };
    let refused = |arguments: &[&str]| {
        let output = plugin(&gateway, arguments);
        assert_eq!(output.code, Some(1), "{arguments:?}: {output:?}");
        output.err
    };
    assert!(refused(&["promote", "thing"]).contains("not being rolled out"));
    assert!(refused(&["rollout", "other", &new]).contains("No route has a plugin of this name"));
    assert!(refused(&["rollout", "thing", &new, "--percent", "101"]).contains("at most 100"));
    assert!(refused(&["rollout", "thing", "nowhere.wasm"]).contains("nowhere.wasm cannot be read"));

    done(&["rollout", "thing", &new, "--percent", "100", "--sticky", "ip"]);
    assert_eq!(served_by(&client.get("/")), "v-new---");
    assert!(done(&["list"]).contains("gives 100.0 % to "));
    done(&["rollback", "thing"]);
    assert_eq!(served_by(&client.get("/")), "v-old---");
    assert!(done(&["list"]).contains("rolled back: by an operator"));
    assert!(refused(&["rollback", "thing"]).contains("not being rolled out"));

    let edit = gateway.directory().join("edit.wasm").display().to_string();
    done(&["rollout", "thing", &edit, "--percent", "0"]);
    assert_eq!(served_by(&client.get("/")), "v-old---");
    done(&["promote", "thing"]);
    assert_eq!(served_by(&client.get("/")), "v-new---");
    assert_eq!(thing(&gateway)["changed"], true);
    // It stays so over a reload, until the config says something else of the plugin.
    gateway.reload();
    assert_eq!(served_by(&client.get("/")), "v-new---");
    gateway.reloads_after(|| gateway.write_config(&config(&upstream, "failure_policy = \"closed\"")));
    assert_eq!(served_by(&client.get("/")), "v-old---");
    assert_eq!(thing(&gateway)["changed"], false);
}

#[test]
fn a_digest_finds_the_file_in_the_plugin_directory() {
    let upstream = TestUpstream::echo();
    let gateway = gateway(&upstream, &[]);
    let plugins = gateway.directory().join("plugins");
    fs::create_dir(&plugins).unwrap();
    put(&plugins, "thing-2.wasm", &version("good", "v-new---"));
    let inspected = run_with(&plugins, &["inspect", "thing-2.wasm"], &[]).out;
    let digest = inspected.lines().find_map(|line| line.strip_prefix("sha256")).unwrap().trim();
    let rollout = |digest: &str| format!("rollout = {{ to = \"sha256:{digest}\", percent = 100 }}");
    gateway.reloads_after(|| gateway.write_config(&config(&upstream, &rollout(digest))));
    assert_eq!(served_by(&gateway.get("/")), "v-new---");
    let unknown = "0".repeat(64);
    gateway.reloads_after(|| gateway.write_config(&config(&upstream, &rollout(&unknown))));
    assert!(gateway.log().contains("has no file with the SHA-256 0000"), "{}", gateway.log());
    assert_eq!(served_by(&gateway.get("/")), "v-new---");
}

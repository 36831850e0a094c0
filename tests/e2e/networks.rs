//! Sets of addresses of the config, from their files to what plugins find in them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use wasmgate_tests::{TestGateway, eventually, fill, request, run_in};

const CONFIG: &str = r#"
access_log = { file = "access.log" }
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[forwarded]
trusted_proxies = ["127.0.0.1"]
[plugins]
directory = "{plugins}"
[networks.blocked]
entries = ["2001:db8:bad::/48"]
file = "{list}"
[networks.offices]
entries = ["192.0.2.0/24"]
[plugin.ip-restriction]
networks = ["blocked"{more}]
[[route]]
name = "all"
plugins = [
    { name = "ip-restriction", config = { {config} } },
    { name = "respond", config = { body = "welcome" } },
]
"#;

const DENY: &str = "deny_networks = [\"blocked\"]";

/// A folder with a list in it.
fn list(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("blocked.txt");
    fs::write(&list, text).unwrap();
    (folder, list)
}

fn config(list: &Path, more: &str, config: &str) -> String {
    let plugins: &dyn std::fmt::Display = &"{plugins}";
    fill(CONFIG, &[("list", &list.display()), ("more", &more), ("config", &config), ("plugins", plugins)])
}

fn status(gateway: &TestGateway, client: &str) -> u16 {
    request(gateway.addr(), "GET", "/", &format!("X-Forwarded-For: {client}\r\n")).status
}

#[test]
fn a_set_denies_and_its_file_may_change() {
    let (_folder, file) = list("# by hand\n203.0.113.0/24 # a whole network\n198.51.100.7\n");
    let gateway = TestGateway::start(&config(&file, "", DENY));
    for (client, expected) in [
        ("203.0.113.77", 403),
        ("::ffff:203.0.113.77", 403),
        ("198.51.100.7", 403),
        ("198.51.100.8", 200),
        ("2001:db8:bad::1", 403),
        ("2001:db8::1", 200),
        ("198.51.100.8, 203.0.113.1", 403),
        ("203.0.113.1, 198.51.100.8", 200),
    ] {
        assert_eq!(status(&gateway, client), expected, "{client}");
    }
    let denied = request(gateway.addr(), "GET", "/", "X-Forwarded-For: 198.51.100.7\r\n");
    assert_eq!(denied.code(), "ip_denied");

    fs::write(&file, "198.51.100.8\n").unwrap();
    eventually!(status(&gateway, "198.51.100.8") == 403);
    assert_eq!(status(&gateway, "198.51.100.7"), 200);
    fs::write(&file, "198.51.100.8\n198.51.100.0/\n").unwrap();
    let fault = format!("networks.blocked.file: {}:2: expected an IP address or a network", file.display());
    eventually!(gateway.log().contains(&fault), "{}", gateway.log());
    assert_eq!(status(&gateway, "198.51.100.8"), 403, "what ran before runs on");
}

#[test]
fn the_plugin_stays_when_a_set_changes() {
    let (_folder, file) = list("198.51.100.7\n");
    let gateway = TestGateway::start(&format!("log = {{ level = \"debug\" }}\n{}", config(&file, "", DENY)));
    let compiled = |gateway: &TestGateway| gateway.logged("compiled").len();
    assert_eq!((status(&gateway, "198.51.100.7"), compiled(&gateway)), (403, 2));
    gateway.reloads_after(|| fs::write(&file, "198.51.100.8\n").unwrap());
    assert_eq!((status(&gateway, "198.51.100.7"), status(&gateway, "198.51.100.8")), (200, 403));
    assert_eq!(compiled(&gateway), 2);
}

#[test]
fn only_sets_that_are_granted_can_be_asked() {
    let (_folder, file) = list("");
    let with = |more: &str, rule: &str| TestGateway::refused(&config(&file, more, rule));
    let told = with("", "allow_networks = [\"offices\"]");
    assert!(told.contains("`offices` is not among the `networks` of the plugin's table"), "{told}");
    let told = with(", \"ofices\"", DENY);
    assert!(told.contains("unknown set of networks `ofices`, did you mean `offices`?"), "{told}");
    let told = with("", "deny = [\"10.0.0.1\", \"10.0.0.0/33\"]");
    assert!(told.contains("deny[1]: \"10.0.0.0/33\" is neither an IP address nor a network"), "{told}");
}

#[test]
fn a_set_that_did_not_change_is_not_read_again() {
    let (_folder, file) = list("10.0.0.1/8\n10.0.0.2/8\n");
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    fs::File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
    let text = config(&file, "", DENY);
    let gateway = TestGateway::start(&text);
    let warned = |gateway: &TestGateway| gateway.logged("which mean nothing").len();
    assert_eq!(warned(&gateway), 1);
    let told = format!(
        "{}:1: 10.0.0.1/8 has bits set behind its length, which mean nothing, and so do 1 more",
        file.display()
    );
    assert!(gateway.log().contains(&told), "{}", gateway.log());
    assert_eq!(status(&gateway, "10.9.9.9"), 403);
    gateway.reloads_after(|| gateway.write_config(&text.replace("welcome", "hello")));
    gateway.reload();
    assert_eq!(warned(&gateway), 1);
    assert_eq!(status(&gateway, "10.9.9.9"), 403);
}

#[test]
fn check_tells_all_that_is_wrong() {
    let (folder, file) = list("10.0.0.1\nnowhere\n10.0.0.256\n");
    let plugins = wasmgate_build::target_directory().join("plugins").display().to_string();
    let text = config(&file, "", DENY).replace("{plugins}", &plugins);
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let output = run_in(folder.path(), &["check", "gateway.toml"]);
    assert_eq!(output.code, Some(1));
    let told = format!(
        "{}:2: expected an IP address or a network such as \"10.0.0.0/8\", found \"nowhere\"; 1 more lines",
        file.display()
    );
    assert!(output.err.contains(&told), "{output:?}");
}

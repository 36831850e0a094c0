//! The files change while requests flow.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use wasmgate_tests::{Client, TestGateway, TestUpstream, eventually, fill, get, plugin, run};

/// Listener, and a route that answers with this text. Read again when it is told to.
fn answering(text: &str) -> String {
    config(text, false)
}

/// The same, read again when a file changes.
fn watching(text: &str) -> String {
    config(text, true)
}

fn config(text: &str, watch: bool) -> String {
    fill(
        r#"
access_log = { file = "access.log" }
reload = { watch = {watch}, debounce = "20ms" }
[[listener]]
name = "public"
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[[route]]
name = "all"
plugins = [{ name = "respond", config = { body = "{text}" } }]
"#,
        &[("text", &text), ("watch", &watch), ("plugins", &"{plugins}")],
    )
}

#[test]
fn a_reload_is_seen_by_the_next_request_on_the_same_connection() {
    let gateway = TestGateway::start(&answering("one"));
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.get("/").text(), "one");
    gateway.write_config(&answering("two"));
    gateway.reload();
    assert_eq!(client.get("/").text(), "two");
    gateway.access_lines(2);
}

#[test]
fn a_broken_config_changes_nothing_and_is_located() {
    let gateway = TestGateway::start(&answering("one"));
    for (config, told) in [
        ("[[listener]", "gateway.toml:1:"),
        (&answering("one").replace("body =", "bodi ="), "bodi"),
        (&answering("one").replace("\"respond\"", "\"nowhere\""), "unknown plugin `nowhere`"),
        (&answering("one").replace("127.0.0.1:0", "192.0.2.1:1"), "192.0.2.1:1"),
    ] {
        gateway.write_config(config);
        gateway.reload();
        assert_eq!(get(gateway.addr(), "/").text(), "one", "{config}");
        let log = gateway.log();
        let last = log.rsplit("not reloaded").next().unwrap_or_default();
        assert!(last.contains(told), "{told}: {last}");
    }
    gateway.write_config(&answering("two"));
    gateway.reload();
    assert_eq!(get(gateway.addr(), "/").text(), "two");
}

#[test]
fn a_request_ends_on_what_it_began_with() {
    let upstream = TestUpstream::echo();
    let gateway = TestGateway::before(&upstream, "");
    let mut client = Client::connect(gateway.addr());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    eventually!(upstream.connections() == 1);
    gateway.write_config(&answering("another"));
    gateway.reload();
    assert_eq!(client.send("lo").response().text(), "hello");
    assert_eq!(client.get("/").text(), "another");
}

#[test]
fn listeners_open_and_close() {
    let second = "[[listener]]\nname = \"second\"\naddress = \"127.0.0.1:0\"\n";
    let gateway = TestGateway::start(&answering("one"));
    gateway.write_config(&format!("{}{second}", answering("one")));
    gateway.reload();
    let address = gateway.listener("second");
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").text(), "one");
    assert_eq!(get(gateway.addr(), "/").text(), "one");
    gateway.write_config(&answering("two"));
    gateway.reload();
    eventually!(TcpStream::connect(address).is_err());
    client.assert_closed();
    assert_eq!(get(gateway.addr(), "/").text(), "two");
}

#[test]
fn the_lines_of_the_access_log_have_the_chosen_form() {
    let with = |log: &str| {
        answering("one")
            .replace("access_log = { file = \"access.log\" }", &format!("access_log = {{ {log} }}"))
    };
    let gateway =
        TestGateway::start(&with("file = \"chosen.log\", fields = [\"status\", \"method\", \"path\"]"));
    let written = |name: &str| fs::read_to_string(gateway.directory().join(name)).unwrap_or_default();
    get(gateway.addr(), "/x?y=1");
    eventually!(written("chosen.log") == "{\"status\":200,\"method\":\"GET\",\"path\":\"/x?y=1\"}\n");
    gateway.write_config(&with(
        "file = \"text.log\", format = \"text\", template = \"{method} {path} -> {status}, {upstream}\"",
    ));
    gateway.reload();
    get(gateway.addr(), "/z");
    eventually!(written("text.log") == "GET /z -> 200, -\n", "{}", written("text.log"));
}

#[test]
fn another_access_log_is_written_from_then_on() {
    let gateway = TestGateway::start(&answering("one"));
    get(gateway.addr(), "/first");
    gateway.access_lines(1);
    gateway.write_config(&answering("one").replace("access.log", "second.log"));
    gateway.reload();
    get(gateway.addr(), "/second");
    let second = gateway.directory().join("second.log");
    eventually!(fs::read_to_string(&second).is_ok_and(|text| text.contains("/second")));
    assert_eq!(gateway.access().len(), 1);
}

#[test]
fn a_file_that_changes_is_noticed() {
    let gateway = TestGateway::start(&watching("one"));
    gateway.reloads_after(|| gateway.write_config(&watching("two")));
    assert_eq!(get(gateway.addr(), "/").text(), "two");
    gateway.reloads_after(|| gateway.write_config("[[listener]"));
    assert_eq!(get(gateway.addr(), "/").text(), "two");
    let secret = watching("${file:text}");
    gateway.reloads_after(|| gateway.write_config(&secret));
    assert!(gateway.log().contains("cannot read file `text`"), "{}", gateway.log());
    let text = gateway.directory().join("text");
    gateway.reloads_after(|| fs::write(&text, "three\n").unwrap());
    assert_eq!(get(gateway.addr(), "/").text(), "three");
    gateway.reloads_after(|| fs::write(&text, "four\n").unwrap());
    assert_eq!(get(gateway.addr(), "/").text(), "four");
}

#[test]
fn a_mounted_config_map_is_followed() {
    let gateway = TestGateway::start(&watching("one"));
    let folder = gateway.directory();
    let text = fs::read_to_string(folder.join("gateway.toml")).unwrap();
    for (version, body) in [("v1", "two"), ("v2", "three")] {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("gateway.toml"), text.replace("\"one\"", &format!("\"{body}\"")))
            .unwrap();
    }
    let link = |target: &str, name: &str| {
        symlink(target, folder.join("next")).unwrap();
        fs::rename(folder.join("next"), folder.join(name)).unwrap();
    };
    link("v1", "..data");
    gateway.reloads_after(|| link("..data/gateway.toml", "gateway.toml"));
    assert_eq!(get(gateway.addr(), "/").text(), "two");
    gateway.reloads_after(|| link("v2", "..data"));
    assert_eq!(get(gateway.addr(), "/").text(), "three");
}

/// A plugin directory of the test's own, with these plugins of the repository in it.
fn own_plugins(gateway: &Path, names: &[&str]) -> PathBuf {
    let folder = gateway.join("plugins");
    fs::create_dir_all(&folder).unwrap();
    for name in names {
        put(&plugin(name), &folder.join(format!("{name}.wasm")));
    }
    folder
}

fn put(from: &Path, to: &Path) {
    let next = to.with_extension("next");
    fs::copy(from, &next).unwrap();
    fs::rename(next, to).unwrap();
}

#[test]
fn a_plugin_file_is_swapped_removed_and_back() {
    let gateway = TestGateway::start(&watching("one"));
    let folder = own_plugins(&gateway.directory(), &["request-id"]);
    let mut client = Client::connect(gateway.addr());
    let config = watching("one").replace("{plugins}", "plugins").replace(
        "plugins = [{ name = \"respond\", config = { body = \"one\" } }]",
        "plugins = [\"thing\", { name = \"respond\", config = { body = \"one\" } }]\n[plugin.respond]\nfile = \"{plugins}/respond.wasm\"\n[plugin.thing]\nlimits = { time = \"1s\" }",
    );
    let thing = folder.join("thing.wasm");
    gateway.reloads_after(|| gateway.write_config(&config));
    assert!(gateway.log().contains("there is no NAME.wasm for it"), "{}", gateway.log());
    gateway.reloads_after(|| put(&folder.join("request-id.wasm"), &thing));
    assert!(client.get("/").header("x-request-id").is_some());
    gateway.reloads_after(|| put(&plugin("headers"), &thing));
    assert!(client.get("/").header("x-request-id").is_none());
    gateway.reloads_after(|| fs::remove_file(&thing).unwrap());
    assert!(client.get("/").header("x-request-id").is_none());
    gateway.reloads_after(|| put(&plugin("request-id"), &thing));
    assert!(client.get("/").header("x-request-id").is_some());
}

/// A plugin with a table of its own, in this route and in no other.
fn with_plugin(table: &str) -> String {
    let route = r#"
[[route]]
name = "other"
match = { path = "/other" }
plugins = ["thing", { name = "respond", config = { body = "other" } }]
"#;
    format!("{}{route}\n[plugin.thing]\n{table}\n", answering("one"))
}

#[test]
fn a_pinned_plugin_is_taken_or_refused() {
    let digest = |file: &Path| {
        let output = run(&["inspect", &file.display().to_string()]).out;
        let line = output.lines().find_map(|line| line.strip_prefix("sha256"));
        line.expect("it tells the digest").trim().to_owned()
    };
    let file = format!("file = \"{}\"", plugin("request-id").display());
    let pinned = |digest: &str| with_plugin(&format!("{file}\nsha256 = \"{digest}\""));
    let gateway = TestGateway::start(&pinned(&digest(&plugin("request-id"))));
    assert!(gateway.get("/other").header("x-request-id").is_some());
    gateway.write_config(&pinned(&digest(&plugin("headers"))));
    gateway.reload();
    assert!(gateway.log().contains("not the pinned one"), "{}", gateway.log());
    assert!(gateway.get("/other").header("x-request-id").is_some());
}

#[test]
fn a_plugin_that_fails_its_smoke_request_is_not_loaded() {
    let smoke = |status: u16| {
        let keys = "config = { keys = [{ consumer = \"a\", sha256 = \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\" }] }";
        let used = format!("{{ name = \"thing\", {keys} }}");
        let config = with_plugin(&format!(
            "file = \"{}\"\n[plugin.thing.smoke]\npath = \"/x?y=1\"\nheaders = {{ x-api-key = \"secret\" }}\nstatus = {status}",
            plugin("key-auth").display()
        ));
        config.replace("\"thing\",", &format!("{used},"))
    };
    let gateway = TestGateway::start(&smoke(200));
    assert_eq!(gateway.get("/other").status, 401);
    gateway.write_config(&smoke(401));
    gateway.reload();
    assert!(gateway.log().contains("comes out with the status 200, expected 401"), "{}", gateway.log());
    assert_eq!(gateway.get("/").text(), "one");
}

#[test]
fn a_plugin_that_cannot_be_loaded_disables_its_routes_if_it_may() {
    let gateway =
        TestGateway::start(&with_plugin("on_load_error = \"disable-route\"\nfile = \"thing.wasm\""));
    assert_eq!(gateway.get("/").text(), "one");
    let response = gateway.get("/other");
    assert_eq!((response.status, response.code().as_str()), (503, "route_disabled"));
    assert!(gateway.log().contains("routes are disabled: gateway.toml:"), "{}", gateway.log());
    put(&plugin("request-id"), &gateway.directory().join("thing.wasm"));
    gateway.reload();
    assert!(gateway.get("/other").header("x-request-id").is_some());
    fs::write(gateway.directory().join("thing.wasm"), "no wasm").unwrap();
    gateway.reload();
    assert_eq!(gateway.get("/other").code(), "route_disabled");
    let refused = TestGateway::refused(&with_plugin("file = \"thing.wasm\""));
    assert!(refused.contains("there is no file `thing.wasm`"), "{refused}");
}

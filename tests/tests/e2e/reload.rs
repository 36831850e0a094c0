//! The files change while requests flow.

use std::{fs, net::TcpStream};

use wasmgate_tests::{Client, TestGateway, TestUpstream, eventually, fill, get};

/// Listener, and a route that answers with this text.
fn answering(text: &str) -> String {
    fill(
        r#"
access_log = { file = "access.log" }
[[listener]]
name = "public"
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[[route]]
name = "all"
plugins = [{ name = "respond", config = { body = "{text}" } }]
"#,
        &[("text", &text), ("plugins", &"{plugins}")],
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

//! The PROXY protocol: whom a connection is from where a proxy passes it on, and who may say so.

use std::{fs, path::Path, time::Duration};

use wasmgate_tests::{
    Authority, Client, Haproxy, Response, TestGateway, TestUpstream, TlsClient, before, client_config,
    eventually, get, peer, request,
};

/// From here headers are expected, and from nowhere else.
const PROXY: &str = "127.0.0.2";

/// The plugin tells the upstream who the client is.
const TOLD: &str = "[plugins]\ndirectory = \"{plugins}\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n\
    plugins = [{ name = \"headers\", config = { request = { set = { x-client = \"${client.ip}\" } } } }]\n";

fn config(upstream: &TestUpstream, rest: &str) -> String {
    let listener = format!("name = \"public\"\nproxy_protocol = [\"{PROXY}\"]\n");
    before(&upstream.address(), rest).replacen("name = \"public\"\n", &listener, 1)
}

fn start(upstream: &TestUpstream, rest: &str) -> TestGateway {
    TestGateway::start(&config(upstream, rest))
}

/// Connects as the proxy does, which says this.
fn proxied(gateway: &TestGateway, header: impl AsRef<[u8]>) -> Client {
    let mut client = Client::connect_from(PROXY, gateway.addr());
    client.send(header);
    client
}

fn line(client: &str) -> String {
    let family = if client.contains(':') { 6 } else { 4 };
    format!("PROXY TCP{family} {client} {client} 4711 443\r\n")
}

/// Version 2, from 198.51.100.2.
fn block(command: u8, further: &[u8]) -> Vec<u8> {
    let addresses = [198, 51, 100, 2, 203, 0, 113, 1, 0x12, 0x34, 0, 80];
    let length = u16::try_from(addresses.len() + further.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11][..], &length, &addresses, further].concat()
}

fn failures(gateway: &TestGateway) -> f64 {
    gateway.metric("wasmgate_proxy_header_failures_total{listener=\"public\"}")
}

fn headers(gateway: &TestGateway) -> f64 {
    gateway.metric("wasmgate_proxy_headers_total{listener=\"public\"}")
}

fn open(gateway: &TestGateway) -> f64 {
    gateway.metric("wasmgate_connections{listener=\"public\"}")
}

#[test]
fn the_client_is_who_the_proxy_says() {
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, TOLD);
    // Enough behind the addresses for many reads.
    let long = [&[0xe0, 0x10, 0][..], &[b'x'; 0x1000]].concat();
    for (header, client) in [
        (line("192.0.2.1").into_bytes(), "192.0.2.1"),
        (line("2001:db8::1").into_bytes(), "2001:db8::1"),
        (block(0x21, &[]), "198.51.100.2"),
        (block(0x21, &long), "198.51.100.2"),
        (block(0x20, &[]), PROXY),
        (b"PROXY UNKNOWN what ever\r\n".to_vec(), PROXY),
    ] {
        let shown = header.escape_ascii().to_string();
        let mut connection = proxied(&gateway, header);
        for _ in 0..2 {
            connection.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
            assert_eq!(connection.response().status, 200, "{shown}");
        }
        for request in upstream.take_requests() {
            let told = ["x-client", "x-forwarded-for"].map(|name| request.header(name));
            assert_eq!(told, [Some(client); 2], "{shown}");
        }
    }
    let clients: Vec<_> = gateway.access_lines(12).iter().map(|line| line["client"].clone()).collect();
    assert_eq!(clients[..4], ["192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::1"]);
    assert_eq!((headers(&gateway), failures(&gateway)), (6.0, 0.0));
}

#[test]
fn a_header_takes_nothing_of_what_follows_wherever_it_is_cut() {
    let gateway = start(&TestUpstream::ok(), "");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for header in [line("192.0.2.1").into_bytes(), block(0x21, &[4, 0, 3, 0, 0, 0])] {
        let bytes = [&header, &request[..]].concat();
        for cut in (1..header.len() + 2).chain([bytes.len()]) {
            let (first, second) = bytes.split_at(cut);
            let mut client = proxied(&gateway, first);
            assert_eq!(client.send(second).response().status, 200, "cut at {cut}");
        }
        let mut client = proxied(&gateway, []);
        bytes.chunks(1).for_each(|byte| _ = client.send(byte));
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(failures(&gateway), 0.0);
}

#[test]
fn nobody_else_can_say_who_he_is() {
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, TOLD);
    for header in [line("192.0.2.1").into_bytes(), block(0x21, &[])] {
        let mut client = Client::connect_from("127.0.0.3", gateway.addr());
        client.send(header).try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 400);
        client.assert_closed();
    }
    assert_eq!(upstream.count(), 0);
    let mut client = Client::connect_from("127.0.0.3", gateway.addr());
    assert_eq!(client.get("/").status, 200);
    assert_eq!(upstream.request().header("x-client"), Some("127.0.0.3"));
    assert_eq!(headers(&gateway), 0.0);
}

#[test]
fn what_is_no_header_ends_the_connection() {
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, "");
    let faulty: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 192.0.2.1 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        &block(0x11, &[]),
        &block(0x22, &[]),
    ];
    for bytes in faulty {
        proxied(&gateway, bytes).assert_closed();
    }
    // In the middle of it.
    proxied(&gateway, "PROXY TCP4 ").finish().assert_closed();
    eventually!(failures(&gateway) == 6.0);
    // Somebody who only looks whether the port is open.
    proxied(&gateway, []).finish().assert_closed();
    eventually!(open(&gateway) == 0.0);
    assert_eq!((failures(&gateway), headers(&gateway), upstream.count()), (6.0, 6.0, 0));
}

#[test]
fn a_header_has_its_time() {
    let gateway = start(&TestUpstream::ok(), "[limits]\nheader_time = \"300ms\"\n");
    for bytes in [&b"PROXY TCP4 192.0.2.1"[..], &block(0x21, &[0; 9])[..30]] {
        let mut slow = proxied(&gateway, bytes);
        slow.patience(Duration::from_secs(20));
        slow.assert_closed();
    }
    eventually!(failures(&gateway) == 2.0);
    // The request has what is left of the same time.
    let mut slow = proxied(&gateway, line("192.0.2.1"));
    slow.patience(Duration::from_secs(20));
    assert_eq!(slow.response().status, 408);
    assert_eq!(gateway.access_lines(1)[0]["client"], "192.0.2.1");
}

#[test]
fn a_drain_does_not_wait_for_a_header() {
    let mut gateway = start(&TestUpstream::ok(), "");
    let mut slow = proxied(&gateway, "PROXY ");
    eventually!(open(&gateway) == 1.0);
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    slow.assert_closed();
    assert_eq!(gateway.logged(" drained").len(), 1);
}

#[test]
fn limits_hold_for_the_client_behind_the_proxy() {
    let limits = "[listener.limits]\nconnections = 6\nconnections_per_client = 1\n\
                  requests_per_client = { rate = 1, per = \"1h\", burst = 2 }\n";
    let gateway = start(&TestUpstream::ok(), limits);
    let served = |mut client: Client| {
        assert_eq!(client.get("/").status, 200);
        client
    };
    let refused = |mut client: Client| {
        assert_eq!(client.response().status, 503);
        client.assert_closed();
    };
    let mut first = served(proxied(&gateway, line("192.0.2.1")));
    refused(proxied(&gateway, line("192.0.2.1")));
    assert_eq!(gateway.access_lines(2)[1]["client"], "192.0.2.1");
    assert_eq!(gateway.access_lines(2)[1]["code"], "too_many_connections");
    let other = served(proxied(&gateway, block(0x21, &[])));
    // The proxy itself is nobody's client.
    let own = [served(proxied(&gateway, block(0x20, &[]))), served(proxied(&gateway, "PROXY UNKNOWN\r\n"))];
    assert_eq!([first.get("/").status, first.get("/").status], [200, 429]);
    drop(first);
    eventually!(proxied(&gateway, line("192.0.2.1")).try_get("/").is_ok_and(|answer| answer.status == 429));
    drop((other, own));
    eventually!(open(&gateway) == 0.0);

    let all: Vec<_> =
        (1..=6).map(|last| served(proxied(&gateway, line(&format!("203.0.113.{last}"))))).collect();
    refused(Client::connect_from(PROXY, gateway.addr()));
    drop(all);
}

#[test]
fn forwarded_headers_are_those_of_the_client_that_is_named() {
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, "[forwarded]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n");
    let told = |client: &str| {
        let mut connection = proxied(&gateway, line(client));
        connection.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n");
        assert_eq!(connection.response().status, 200);
        upstream.take_requests()[0].header("x-forwarded-for").unwrap_or_default().to_owned()
    };
    assert_eq!(told("10.0.0.1"), "192.0.2.9, 10.0.0.1");
    assert_eq!(told("192.0.2.1"), "192.0.2.1");
}

#[test]
fn the_header_comes_before_tls() {
    let (upstream, authority) = (TestUpstream::ok(), Authority::new("the tests"));
    let tls = "[listener.tls]\ncertificates = [{ cert = \"a.crt\", key = \"a.key\" }]\n";
    let gateway = TestGateway::start_in(&config(&upstream, tls), &[], |folder: &Path| {
        let own = authority.issue(1, &["a.test"]);
        fs::write(folder.join("a.crt"), &own.cert).unwrap();
        fs::write(folder.join("a.key"), &own.key).unwrap();
    });
    let trusting = client_config(&authority, None);
    for (header, client) in
        [(line("192.0.2.1").into_bytes(), "192.0.2.1"), (block(0x21, &[]), "198.51.100.2")]
    {
        let connection = proxied(&gateway, header);
        let mut secured = TlsClient::over(connection.line(), "a.test", &trusting).unwrap();
        assert_eq!(secured.get("/", "").unwrap().status, 200);
        assert_eq!(upstream.take_requests()[0].header("x-forwarded-for"), Some(client));
    }
    // Within TLS it is no request.
    let connection = Client::connect_from(PROXY, gateway.addr());
    TlsClient::over(connection.line(), "a.test", &trusting).err().expect("it is closed");
    assert_eq!(failures(&gateway), 1.0);
    let mut direct = TlsClient::connect(gateway.addr(), "a.test", &trusting).unwrap();
    assert_eq!(direct.get("/", "").unwrap().status, 200);
}

#[test]
fn who_is_believed_changes_with_the_config() {
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, "");
    let mut kept = proxied(&gateway, line("192.0.2.1"));
    assert_eq!(kept.get("/").status, 200);
    gateway.reloads_after(|| gateway.write_config(&before(&upstream.address(), "")));
    assert_eq!(proxied(&gateway, line("192.0.2.1")).response().status, 400);
    assert_eq!(kept.get("/").status, 200, "an open connection stays who it is");
    assert_eq!(upstream.requests()[1].header("x-forwarded-for"), Some("192.0.2.1"));
    gateway.reloads_after(|| gateway.write_config(&config(&upstream, "")));
    assert_eq!(proxied(&gateway, line("192.0.2.1")).get("/").status, 200);
}

#[test]
fn haproxy_says_whom_it_passes_on() {
    let Some(program) = peer("haproxy") else { return };
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, "");
    let ask = |haproxy: &Haproxy| -> Response {
        let mut client = Client::connect_from("127.0.0.9", haproxy.address);
        client.get("/")
    };
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        // Its checks come without a client: it says LOCAL, or UNKNOWN.
        let server = format!("{} source {PROXY} check inter 50ms {options}", gateway.addr());
        let haproxy = Haproxy::start(&program, &server);
        eventually!(ask(&haproxy).status == 200);
        let told = upstream.take_requests();
        assert_eq!(told[0].header("x-forwarded-for"), Some("127.0.0.9"), "{options}");
        let before = headers(&gateway);
        eventually!(headers(&gateway) > before + 2.0, "it is checked");
    }
    assert_eq!(failures(&gateway), 0.0);
    let silent = Haproxy::start(&program, &format!("{} source {PROXY}", gateway.addr()));
    Client::connect(silent.address).try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").assert_closed();
    eventually!(failures(&gateway) == 1.0);
    assert_eq!(get(gateway.addr(), "/").status, 200);
    assert_eq!(request(gateway.addr(), "GET", "/", "").status, 200);
}

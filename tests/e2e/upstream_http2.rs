//! HTTP/2 with upstreams, between clients of HTTP/1.1 and a real nginx.

use std::fs;

use wasmgate_tests::{
    Authority, Client, Load, Nginx, Reserved, TestGateway, eventually, fill, get, peer, request,
};

const CONFIG: &str = r#"
access_log = { file = "access.log" }
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[limits]
body = "30MB"
[upstream.app]
endpoints = ["{app}"]
{settings}
[[route]]
name = "all"
upstream = "app"
"#;

/// nginx that tells how it is spoken to; with a port of its own beside the one of HTTP/1.1.
struct Site {
    nginx: Nginx,
    port: Reserved,
    _folder: tempfile::TempDir,
}

impl Site {
    /// `listen` is what stands behind the port, for example "http2".
    fn new(listen: &str, more: &str) -> Option<Site> {
        let program = peer("nginx")?;
        let (port, folder) = (Reserved::new(), tempfile::tempdir().unwrap());
        let issued = Authority::new("nobody's").issue(1, &["app.test"]);
        fs::write(folder.path().join("app.crt"), &issued.cert).unwrap();
        fs::write(folder.path().join("app.key"), &issued.key).unwrap();
        let (address, files) = (port.address(), folder.path().display());
        let server = format!(
            "listen {address} {listen} reuseport; ssl_certificate {files}/app.crt; ssl_certificate_key {files}/app.key;\n\
             client_max_body_size 0; client_body_buffer_size 64k; {more}\n\
             location /told {{ return 200 \"$server_protocol $scheme $http_host $request_uri $connection\"; }}\n\
             location /up {{ proxy_pass http://unix:{files}/own:/told; }}\n\
             location /copied {{ proxy_pass http://{address}/; }} location / {{ }}"
        );
        Some(Site { nginx: Nginx::start(program, &server), port, _folder: folder })
    }

    fn gateway(&self, settings: &str) -> TestGateway {
        TestGateway::start(&fill(CONFIG, &[("app", &self.port.address()), ("settings", &settings)]))
    }
}

const UNVERIFIED: &str = "tls = { name = \"app.test\", verify = false }";

#[test]
fn the_protocol_is_agreed_within_tls_and_known_in_the_clear() {
    for (listen, settings, expected) in [
        ("ssl http2", "protocol = \"auto\"", "HTTP/2.0 https a.test:1 /told?a=b "),
        ("ssl", "protocol = \"auto\"", "HTTP/1.1 https a.test:1 /told?a=b "),
        ("ssl http2", "protocol = \"h2\"", "HTTP/2.0 https a.test:1 /told?a=b "),
        ("ssl http2", "protocol = \"http/1.1\"", "HTTP/1.1 https a.test:1 /told?a=b "),
        ("http2", "protocol = \"h2\"", "HTTP/2.0 http a.test:1 /told?a=b "),
        ("", "protocol = \"auto\"", "HTTP/1.1 http a.test:1 /told?a=b "),
    ] {
        let Some(site) = Site::new(listen, "") else { return };
        let tls = if listen.starts_with("ssl") { UNVERIFIED } else { "" };
        let gateway = site.gateway(&format!("{settings}\n{tls}"));
        for _ in 0..3 {
            let mut client = Client::connect(gateway.addr());
            let answer = client.send("GET /told?a=b HTTP/1.1\r\nHost: a.test:1\r\n\r\n").response();
            assert!(answer.text().starts_with(expected), "{listen} {settings}: {}", answer.text());
        }
    }
    // Who does not offer it is not spoken to by something else.
    let Some(site) = Site::new("ssl", "") else { return };
    let gateway = site.gateway(&format!("protocol = \"h2\"\n{UNVERIFIED}"));
    assert_eq!(gateway.get("/told").status, 502);
}

#[test]
fn requests_share_a_connection_and_pass_whole() {
    let Some(site) = Site::new("http2", "") else { return };
    let large: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(site.nginx.directory.path().join("large.bin"), &large).unwrap();
    let gateway =
        site.gateway("protocol = \"h2\"\n[upstream.app.health]\ninterval = \"50ms\"\npath = \"/told\"");

    let answers = Load::get(gateway.addr(), "/told", 1000).connections(32).count(500);
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    let connection = |text: &str| text.rsplit(' ').next().unwrap_or_default().to_owned();
    let mut connections: Vec<_> = answers.iter().map(|answer| connection(&answer.body)).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 1, "{connections:?}");

    let answer = get(gateway.addr(), "/large.bin");
    assert!(answer.body == large, "{} bytes", answer.body.len());
    let head = request(gateway.addr(), "HEAD", "/large.bin", "");
    assert_eq!((head.status, head.header("content-length")), (200, Some("20000000")));
    let etag = head.header("etag").expect("nginx gives one").to_owned();
    let none = request(gateway.addr(), "GET", "/large.bin", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((none.status, none.body.len()), (304, 0));
    let part = request(gateway.addr(), "GET", "/large.bin", "Range: bytes=250-252\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, &[250, 0, 1][..]));
    // Checks are made by HTTP/2 as well.
    eventually!(gateway.endpoint("app", &site.port.address())["since"].is_string());
    assert!(gateway.serves(&site.port.address()));

    let mut client = Client::connect(gateway.addr());
    client.send(format!("POST /told HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 31_000_000));
    assert_eq!(client.response().status, 413, "by the gateway, before a byte of it");
    let mut client = Client::connect(gateway.addr());
    client.send("POST /told HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x\r\n");
    assert_eq!(client.response().status, 400, "the client's fault stays one");
}

/// An upstream that closes each connection after a few requests says so in time: nothing fails, whatever the method.
#[test]
fn a_connection_that_is_about_to_end_costs_no_request() {
    let Some(site) = Site::new("http2", "keepalive_requests 20;") else { return };
    let gateway = site.gateway("protocol = \"h2\"\nretry = { attempts = 1 }");
    let post = "POST /told HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
    let answers = Load::get(gateway.addr(), "/told", 1000).request(post).connections(16).count(1000);
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), answers.len(), failed.first());
}

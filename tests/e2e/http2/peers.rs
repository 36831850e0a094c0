//! HTTP/2 as the programs of others speak it, in the clear and within TLS.

use std::{
    fs,
    io::Read,
    net::SocketAddr,
    process::{Command, Output},
    sync::Arc,
};

use wasmgate_tests::{
    Authority, Client, TestGateway, TestUpstream, TlsClient, before, client_config, eventually, peer,
};

/// Runs it to its end.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(peer(program)?).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    Some(output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A gateway that speaks TLS as a.test, and who has signed that.
fn secured(upstream: &TestUpstream, listener: &str) -> (Authority, TestGateway) {
    let authority = Authority::new("the tests");
    let own = authority.issue(1, &["a.test"]);
    let tls = format!(
        "name = \"public\"\n{listener}tls = {{ certificates = [{{ cert = \"a.crt\", key = \"a.key\" }}] }}\n"
    );
    let config = before(&upstream.address(), "").replacen("name = \"public\"\n", &tls, 1);
    let gateway = TestGateway::start_in(&config, &[], |folder| {
        fs::write(folder.join("a.crt"), &own.cert).unwrap();
        fs::write(folder.join("a.key"), &own.key).unwrap();
    });
    (authority, gateway)
}

/// What ALPN comes to with a client that offers these.
fn agreed(gateway: SocketAddr, authority: &Authority, offers: &[&str]) -> Option<String> {
    let mut config = (*client_config(authority, None)).clone();
    config.alpn_protocols = offers.iter().map(|offer| offer.as_bytes().to_vec()).collect();
    let client = TlsClient::connect(gateway, "a.test", &Arc::new(config)).ok()?;
    Some(client.protocol())
}

#[test]
fn the_protocol_is_agreed_within_tls() {
    let (authority, gateway) = secured(&TestUpstream::ok(), "");
    let agreed = |offers: &[&str]| agreed(gateway.addr(), &authority, offers);
    assert_eq!(agreed(&["h2", "http/1.1"]).as_deref(), Some("h2"));
    assert_eq!(agreed(&["http/1.1", "h2"]).as_deref(), Some("h2"), "the gateway's preference counts");
    assert_eq!(agreed(&["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&[]).as_deref(), Some(""));
    assert_eq!(agreed(&["h3"]), None, "nothing in common");
    // Without ALPN it is HTTP/1.1.
    let mut plain = TlsClient::connect(gateway.addr(), "a.test", &client_config(&authority, None)).unwrap();
    assert_eq!(plain.get("/", "").unwrap().text(), "ok");
}

#[test]
fn a_listener_that_speaks_http_1_only_says_so() {
    let (authority, gateway) = secured(&TestUpstream::ok(), "http2 = false\n");
    let agreed = |offers: &[&str]| agreed(gateway.addr(), &authority, offers);
    assert_eq!(agreed(&["h2", "http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&["h2"]), None);
}

#[test]
fn curl() {
    let upstream = TestUpstream::echo();
    let (_, gateway) = secured(&upstream, "");
    let resolve = format!("a.test:{}:127.0.0.1", gateway.addr().port());
    let url = format!("https://a.test:{}/x?y=1", gateway.addr().port());
    let shown = [
        "--silent",
        "--show-error",
        "--insecure",
        "--resolve",
        &resolve,
        "--write-out",
        "|%{http_version} %{http_code}",
    ];
    let curl = |more: &[&str]| run("curl", &[&shown[..], more, &[&url]].concat());
    let Some(output) = curl(&["--http2", "--data", "some text"]) else { return };
    assert_eq!(text(&output), "some text|2 200");
    assert_eq!(text(&curl(&["--http1.1"]).unwrap()), "|1.1 200");
    assert_eq!(text(&curl(&["--http2", "--head", "--output", "/dev/null"]).unwrap()), "|2 200");

    let folder = tempfile::tempdir().unwrap();
    let (file, back) = (folder.path().join("file"), folder.path().join("back"));
    let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(&file, &large).unwrap();
    let (from, to) = (format!("@{}", file.display()), back.display().to_string());
    let sent =
        curl(&["--http2", "--data-binary", &from, "--output", &to, "--header", "Expect: 100-continue"]);
    assert_eq!(text(&sent.unwrap()), "|2 200");
    assert!(fs::read(&back).unwrap() == large);
}

#[test]
fn curl_by_prior_knowledge() {
    let gateway = TestGateway::before(&TestUpstream::echo(), "");
    let url = format!("http://{}/", gateway.addr());
    let shown =
        ["--silent", "--show-error", "--write-out", "|%{http_version} %{http_code}", "--data", "hello"];
    let Some(output) = run("curl", &[&shown[..], &["--http2-prior-knowledge", &url]].concat()) else {
        return;
    };
    assert_eq!(text(&output), "hello|2 200");
    // A request to go over to HTTP/2 is one of HTTP/1.1 (RFC 9113, section 3.1).
    let output = run("curl", &[&shown[..], &["--http2", &url]].concat()).unwrap();
    assert_eq!(text(&output), "hello|1.1 200");
}

#[test]
fn nghttp() {
    let upstream = TestUpstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let gateway = TestGateway::before(&upstream, "");
    let url = format!("http://{}/", gateway.addr());
    // Several requests on one connection, padded, with small windows and blocks of several frames.
    let arguments =
        ["--verbose", "--no-dep", "--multiply=20", "--padding=100", "--window-bits=5", "--continuation"];
    let Some(output) = run("nghttp", &[&arguments[..], &["--header", "te: trailers", &url]].concat()) else {
        return;
    };
    let text = text(&output);
    assert_eq!(text.matches(":status: 200").count(), 20, "{text}");
    assert_eq!(text.matches("x-sum: 7").count(), 20, "{text}");
    assert!(!text.contains("RST_STREAM") && text.contains("error_code=NO_ERROR"), "{text}");
    assert_eq!(upstream.count(), 20);
}

#[test]
fn nghttp_claims_another_scheme() {
    let upstream = TestUpstream::ok();
    let (_, gateway) = secured(&upstream, "");
    let url = format!("https://{}/", gateway.addr());
    let arguments = ["--verbose", "--header", ":scheme: http", "--header", ":authority: a.test", &url];
    let Some(output) = run("nghttp", &arguments) else { return };
    let text = text(&output);
    assert!(text.contains(":scheme: http\n") && text.contains(":status: 200"), "{text}");
    assert_eq!(upstream.request().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn h2load() {
    let gateway = TestGateway::before(&TestUpstream::ok(), "");
    let url = format!("http://{}/", gateway.addr());
    let Some(output) = run("h2load", &["-n", "5000", "-c", "10", "-m", "50", "-w", "14", &url]) else {
        return;
    };
    let text = text(&output);
    assert!(text.contains("5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    eventually!(gateway.metric("wasmgate_connections{listener=\"public\"}") == 0.0);
    assert_eq!(gateway.metric("wasmgate_http2_floods_total{listener=\"public\"}"), 0.0);
}

#[test]
fn h2load_within_tls_while_it_drains() {
    let (_, mut gateway) = secured(&TestUpstream::ok(), "");
    let Some(program) = peer("h2load") else { return };
    let url = format!("https://{}/", gateway.addr());
    let mut load = Command::new(program);
    load.args(["-D", "1", "-c", "4", "-m", "20", &url]).stdout(std::process::Stdio::piped());
    let mut load = load.spawn().unwrap();
    eventually!(gateway.metric("wasmgate_requests_total{route=\"all\",status=\"2xx\"}") > 1000.0);
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    let mut text = String::new();
    load.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    load.wait().unwrap();
    assert!(text.contains(" 0 4xx, 0 5xx"), "{text}");
}

#[test]
fn what_is_agreed_on_is_spoken() {
    let (authority, gateway) = secured(&TestUpstream::ok(), "");
    let mut config = (*client_config(&authority, None)).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = TlsClient::connect(gateway.addr(), "a.test", &Arc::new(config)).unwrap();
    assert!(client.get("/", "").is_err(), "HTTP/1.1 where HTTP/2 was agreed on");
    // And the other way round: HTTP/2 in the clear is not spoken where TLS is.
    let mut client = Client::connect(gateway.addr());
    client.try_send(wasmgate_tests::frames::PREFACE);
    assert_eq!(client.response().status, 400);
}

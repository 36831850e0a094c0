//! gRPC through the gateway, between grpcio on both sides: calls of all four kinds, metadata, deadlines, cancels, and what
//! the gateway itself has to say.

use std::process::Command;

use wasmgate_tests::{Authority, GrpcService, Python, Reserved, Served, TestGateway, fill, peer};

const CONFIG: &str = r#"
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[upstream.service]
endpoints = ["{service}"]
protocol = "h2"
[upstream.gone]
endpoints = ["{gone}"]
protocol = "h2"
[upstream.slow]
endpoints = ["{service}"]
protocol = "h2"
timeouts = { read = "200ms" }
[[route]]
name = "service"
upstream = "service"
match = { path = "/test.Peer/*" }
[[route]]
name = "gone"
upstream = "gone"
match = { path = "/test.Gone/*" }
[[route]]
name = "slow"
upstream = "slow"
match = { path = "/test.Slow/{method}" }
rewrite = "/test.Peer/{method}"
[[route]]
name = "small"
upstream = "service"
match = { path = "/test.Small/*" }
limits = { body = "10B" }
"#;

const TLS: &str = r#"
[listener.tls]
certificates = [{ cert = "a.crt", key = "a.key" }]
"#;

struct Site {
    python: Python,
    service: Served,
    _gone: Reserved,
    config: String,
}

impl Site {
    fn new() -> Option<Site> {
        let python = Python::peer("grpc_peer.py", "grpc")?;
        let (service, gone) = (python.serve(&[]), Reserved::new());
        let places: [(&str, &dyn std::fmt::Display); 2] =
            [("service", &service.address), ("gone", &gone.address())];
        let config = fill(CONFIG, &places);
        Some(Site { python, service, _gone: gone, config })
    }

    fn run(&self, arguments: &[&str]) {
        let output = self.python.run(arguments);
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}{errors}");
    }
}

#[test]
fn grpcio_finds_nothing_wrong() {
    let Some(site) = Site::new() else { return };
    let gateway = TestGateway::start(&site.config);
    // What the calls are like with nothing in between.
    site.run(&["call", &site.service.address.to_string()]);
    site.run(&["call", &gateway.addr().to_string()]);
}

#[test]
fn grpcio_finds_nothing_wrong_within_tls() {
    let Some(site) = Site::new() else { return };
    let authority = Authority::new("the tests");
    let issued = authority.issue(1, &["localhost"]);
    let config = site.config.replace("[upstream.service]", &format!("{TLS}[upstream.service]"));
    let gateway = TestGateway::start_in(&config, &[], |folder| {
        for (name, text) in [("a.crt", &issued.cert), ("a.key", &issued.key), ("ca.pem", &authority.pem)] {
            std::fs::write(folder.join(name), text).unwrap();
        }
    });
    let ca = gateway.directory().join("ca.pem");
    site.run(&["call", &format!("localhost:{}", gateway.addr().port()), &ca.display().to_string()]);
}

#[test]
fn grpcio_finds_nothing_wrong_where_a_plugin_reads_all_bodies() {
    let Some(site) = Site::new() else { return };
    let reads = "{ name = \"rogue\", config = { request = [{ body = \"stream\" }], response = [{ body = \"stream\" }] } }";
    let route = "match = { path = \"/test.Peer/*\" }\n";
    let front = "[admin]\naddress = \"127.0.0.1:0\"\n[plugin.rogue]\nfile = \"{guests}/rogue.wasm\"\n[upstream.service]";
    let config = site.config.replace(route, &format!("{route}plugins = [{reads}]\n"));
    let gateway = TestGateway::start(&config.replace("[upstream.service]", front));
    site.run(&["call", &gateway.addr().to_string()]);
    assert!(gateway.metric("wasmgate_plugin_calls_total{plugin=\"rogue\",phase=\"response-body\"}") > 1000.0);
}

#[test]
fn errors_of_the_gateway_are_ends_of_calls() {
    let Some(site) = Site::new() else { return };
    let gateway = TestGateway::start(&site.config);
    site.run(&["errors", &gateway.addr().to_string()]);
}

/// A call of a client that would wait for ever, to a service that never answers.
#[test]
fn the_gateway_keeps_deadlines_itself() {
    let Some(curl) = peer("curl") else { return };
    let (service, gone) = (GrpcService::start(), Reserved::new());
    let gateway =
        TestGateway::start(&fill(CONFIG, &[("service", &service.address()), ("gone", &gone.address())]));
    let mut command = Command::new(&curl);
    command.args(["--silent", "--include", "--http2-prior-knowledge", "--data-binary", "\u{1}"]);
    for header in ["content-type: application/grpc", "te: trailers", "grpc-timeout: 200m"] {
        command.args(["-H", header]);
    }
    let output = command.arg(format!("http://{}/test.Peer/Never", gateway.addr())).output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout);
    for expected in ["HTTP/2 200", "content-type: application/grpc\r", "grpc-status: 4\r", "grpc-message: "] {
        assert!(answer.contains(expected), "no {expected:?} in {answer}");
    }
}

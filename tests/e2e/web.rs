//! What browsers do: pages with requests, events, sockets and gRPC-Web, by HTTP/1.1 and by HTTP/2 within TLS.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
};

use wasmgate_tests::{
    Authority, Call, PATIENCE, Python, Reserved, Served, TestGateway, TestUpstream, eventually, fill,
    or_skip, peer, plugin,
};

const CONFIG: &str = r#"
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[[listener]]
name = "secure"
address = "127.0.0.1:0"
tls = { certificates = [{ cert = "a.crt", key = "a.key" }] }
[upstream.site]
endpoints = ["{site}"]
[upstream.sockets]
endpoints = ["{sockets}"]
[upstream.service]
endpoints = ["{service}"]
protocol = "h2"
[upstream.slow]
endpoints = ["{service}"]
protocol = "h2"
timeouts = { read = "200ms" }
[upstream.gone]
endpoints = ["{gone}"]
[plugin.grpc-web]
file = "{plugin}"
[[route]]
name = "service"
upstream = "service"
match = { path = "/test.Peer/*" }
plugins = ["grpc-web"]
[[route]]
name = "gone"
upstream = "gone"
match = { path = "/test.Gone/*" }
plugins = ["grpc-web"]
[[route]]
name = "slow"
upstream = "slow"
match = { path = "/test.Slow/{method}" }
rewrite = "/test.Peer/{method}"
plugins = ["grpc-web"]
[[route]]
name = "small"
upstream = "service"
match = { path = "/test.Small/{method}" }
rewrite = "/test.Peer/{method}"
plugins = ["grpc-web"]
limits = { body = "10B" }
[[route]]
name = "no-service"
upstream = "site"
match = { path = "/test.Page/*" }
plugins = ["grpc-web"]
[[route]]
name = "socket"
upstream = "sockets"
match = { path = ["/socket", "/refused"] }
[[route]]
name = "site"
upstream = "site"
"#;

struct Site {
    gateway: TestGateway,
    page: TestUpstream,
    _service: Served,
    _sockets: Served,
    _gone: Reserved,
}

impl Site {
    fn new() -> Option<Site> {
        let service = Python::peer("grpc_peer.py", "grpc")?.serve(&[]);
        let sockets = Python::peer("websocket_peer.py", "websockets")?.serve(&[]);
        let (page, gone) = (page(), Reserved::new());
        let config = fill(
            CONFIG,
            &[
                ("site", &page.address()),
                ("sockets", &sockets.address),
                ("service", &service.address),
                ("gone", &gone.address()),
                ("plugin", &plugin("grpc-web").display()),
            ],
        );
        let issued = Authority::new("the tests").issue(1, &["localhost"]);
        let gateway = TestGateway::start_in(&config, &[], |folder| {
            fs::write(folder.join("a.crt"), &issued.cert).unwrap();
            fs::write(folder.join("a.key"), &issued.key).unwrap();
        });
        Some(Site { gateway, page, _service: service, _sockets: sockets, _gone: gone })
    }

    /// What a browser that opens the page says it was spoken to by; fails with what went wrong there.
    fn opened_by(&self, browser: &Path, page: &str) -> String {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(browser);
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--remote-debugging-port=0", "--ignore-certificate-errors"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(page);
        let _running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let report =
            || self.page.requests().into_iter().find(|request| request.target().starts_with("/report"));
        eventually!(report().is_some(), "the page does not report; it asked for {:?}", self.asked());
        let report = report().unwrap();
        let problems = String::from_utf8_lossy(&report.body);
        assert!(problems.is_empty(), "{problems}");
        report.target().replace("/report?", "")
    }

    fn asked(&self) -> Vec<String> {
        self.page.requests().iter().map(|request| request.target().to_owned()).collect()
    }
}

/// Ends a program with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/web")
}

/// The folder, where what it needs is installed.
fn installed() -> Option<PathBuf> {
    let folder = folder();
    or_skip("grpc-web (by npm ci)", folder.join("node_modules/grpc-web").is_dir().then_some(folder))
}

/// Serves the page and what it asks for.
fn page() -> TestUpstream {
    let (see, seen) = mpsc::channel();
    let seen = Mutex::new(seen);
    TestUpstream::start(move |call| {
        let target = call.head.target().to_owned();
        match target.split('?').next().unwrap_or_default() {
            "/acknowledge" => {
                call.body()?;
                see.send(()).map_err(io::Error::other)?;
                call.write("HTTP/1.1 204 No Content\r\n\r\n")
            }
            "/report" => {
                call.body()?;
                call.write("HTTP/1.1 204 No Content\r\n\r\n")
            }
            "/pieces" => pieces(call, &seen),
            "/echo" => {
                let body = call.body()?.body.clone();
                answer(call, &format!("X-Target: {target}\r\n"), &body)
            }
            path => file(call, path),
        }
    })
}

/// Three events, each when the one before was seen.
fn pieces(call: &mut Call, seen: &Mutex<Receiver<()>>) -> io::Result<()> {
    call.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
    for number in 0..3 {
        call.write(format!("data: {number}\n\n"))?;
        seen.lock().unwrap().recv_timeout(PATIENCE).map_err(io::Error::other)?;
    }
    call.close()
}

fn file(call: &mut Call, path: &str) -> io::Result<()> {
    let (name, kind) = match path {
        "/page.html" => ("page.html", "text/html"),
        "/grpc-web.js" => ("node_modules/grpc-web/index.esm.js", "text/javascript"),
        "/page.mjs" => ("page.mjs", "text/javascript"),
        "/grpc_web.mjs" => ("grpc_web.mjs", "text/javascript"),
        _ => {
            return call
                .write("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nContent-Type: text/html\r\n\r\nno\n");
        }
    };
    answer(call, &format!("Content-Type: {kind}\r\n"), &fs::read(folder().join(name))?)
}

fn answer(call: &mut Call, fields: &str, body: &[u8]) -> io::Result<()> {
    call.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()))?;
    call.write(body)
}

#[test]
fn grpc_web_finds_nothing_wrong() {
    let (Some(folder), Some(node)) = (installed(), peer("node")) else { return };
    let Some(site) = Site::new() else { return };
    let mut command = Command::new(node);
    command.arg(folder.join("call.mjs")).arg(format!("http://{}", site.gateway.addr()));
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn a_page_finds_nothing_wrong() {
    let (Some(_), Some(browser)) = (installed(), peer("chromium")) else { return };
    let Some(site) = Site::new() else { return };
    let page = format!("http://localhost:{}/page.html", site.gateway.addr().port());
    assert_eq!(site.opened_by(&browser, &page), "http/1.1");
}

#[test]
fn a_page_finds_nothing_wrong_within_tls() {
    let (Some(_), Some(browser)) = (installed(), peer("chromium")) else { return };
    let Some(site) = Site::new() else { return };
    let page = format!("https://localhost:{}/page.html", site.gateway.listener("secure").port());
    assert_eq!(site.opened_by(&browser, &page), "h2");
}

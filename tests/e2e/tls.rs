//! TLS with clients: certificates by name, versions, tickets, reloads, certificates of clients.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use wasmgate_tests::{
    Authority, Client, Issued, Nginx, Reserved, TestGateway, TestUpstream, TlsClient, client_config,
    eventually, fill, peer,
};

const CONFIG: &str = r#"
access_log = { file = "access.log" }
{limits}
[[listener]]
name = "public"
address = "127.0.0.1:0"
[listener.tls]
{tls}
[admin]
address = "127.0.0.1:0"
[upstream.app]
endpoints = ["{app}"]
[[route]]
name = "all"
upstream = "app"
"#;

const ONE: &str = "certificates = [{ cert = \"a.crt\", key = \"a.key\" }]";

struct Site {
    authority: Authority,
    upstream: TestUpstream,
}

impl Site {
    fn new() -> Site {
        Site { authority: Authority::new("the tests"), upstream: TestUpstream::ok() }
    }

    fn config(&self, tls: &str) -> String {
        fill(CONFIG, &[("limits", &""), ("tls", &tls), ("app", &self.upstream.address())])
    }

    /// With the certificates `a` for a.test, and further ones.
    fn gateway(&self, tls: &str, more: &[(&str, &Issued)]) -> TestGateway {
        let own = self.authority.issue(1, &["a.test"]);
        TestGateway::start_in(&self.config(tls), &[], |folder| {
            put(folder, "a", &own);
            more.iter().for_each(|(name, issued)| put(folder, name, issued));
        })
    }

    fn connect(&self, gateway: &TestGateway, name: &str) -> std::io::Result<TlsClient> {
        TlsClient::connect(gateway.addr(), name, &client_config(&self.authority, None))
    }
}

fn put(folder: &Path, name: &str, issued: &Issued) {
    fs::write(folder.join(format!("{name}.crt")), &issued.cert).unwrap();
    fs::write(folder.join(format!("{name}.key")), &issued.key).unwrap();
}

fn curl(address: SocketAddr, host: &str, arguments: &[&str]) -> Option<Output> {
    let program = peer("curl")?;
    let resolve = format!("{host}:{}:127.0.0.1", address.port());
    let url = format!("https://{host}:{}/", address.port());
    let fixed =
        ["--silent", "--show-error", "--insecure", "--write-out", "%{http_code}", "--resolve", &resolve];
    Some(Command::new(program).args(fixed).args(arguments).arg(url).output().unwrap())
}

#[test]
fn the_name_decides_which_certificate_is_shown() {
    let site = Site::new();
    let b = site.authority.issue(2, &["b.test", "*.c.test", "exact.c.test"]);
    let exact = site.authority.issue(3, &["exact.d.test"]);
    let wild = site.authority.issue(4, &["*.d.test"]);
    let tls = "certificates = [\n\
        { cert = \"a.crt\", key = \"a.key\" },\n{ cert = \"b.crt\", key = \"b.key\" },\n\
        { cert = \"wild.crt\", key = \"wild.key\" },\n{ cert = \"exact.crt\", key = \"exact.key\" }]";
    let gateway = site.gateway(tls, &[("b", &b), ("exact", &exact), ("wild", &wild)]);
    let shown = |name: &str| site.connect(&gateway, name).map(|client| client.certificate());
    for name in ["a.test", "b.test", "x.c.test", "exact.c.test", "exact.d.test", "y.d.test"] {
        shown(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_ne!(shown("exact.d.test").unwrap(), shown("y.d.test").unwrap());
    assert_eq!(shown("b.test").unwrap(), shown("x.c.test").unwrap());
    for name in ["other.test", "x.y.c.test", "c.test"] {
        let error = shown(name).err().unwrap_or_else(|| panic!("{name}")).to_string();
        assert!(error.contains("a.test"), "{name} gets the first one: {error}");
    }
    eventually!(gateway.metric("wasmgate_tls_handshake_failures_total{listener=\"public\"}") == 3.0);
}

#[test]
fn a_request_for_another_certificate_is_misdirected() {
    let site = Site::new();
    let b = site.authority.issue(2, &["b.test", "both.test", "127.0.0.1"]);
    let exact = site.authority.issue(3, &["exact.d.test"]);
    let wild = site.authority.issue(4, &["*.d.test", "both.test"]);
    let tls = "certificates = [\n\
        { cert = \"a.crt\", key = \"a.key\" },\n{ cert = \"b.crt\", key = \"b.key\" },\n\
        { cert = \"wild.crt\", key = \"wild.key\" },\n{ cert = \"exact.crt\", key = \"exact.key\" }]";
    let gateway = site.gateway(tls, &[("b", &b), ("exact", &exact), ("wild", &wild)]);
    for (name, host, expected) in [
        ("a.test", "a.test", 200),
        ("a.test", "A.test.", 200),
        ("a.test", "a.test:1", 200),
        ("a.test", "b.test", 421),
        ("a.test", "B.TEST.:443", 421),
        ("a.test", "x.d.test", 421),
        ("x.d.test", "y.d.test", 200),
        ("x.d.test", "exact.d.test", 200),
        ("exact.d.test", "x.d.test", 421),
        ("b.test", "both.test", 200),
        ("x.d.test", "both.test", 200),
        ("exact.d.test", "both.test", 421),
        // No certificate has these.
        ("a.test", "other.test", 200),
        ("a.test", "x.y.d.test", 200),
        ("a.test", "127.0.0.1", 200),
        ("a.test", "[::1]", 200),
    ] {
        let mut client = site.connect(&gateway, name).unwrap();
        let answer = client.ask(host, "/", "").unwrap();
        assert_eq!(answer.status, expected, "{host} on a connection for {name}");
        if expected == 421 {
            assert_eq!(answer.code(), "misdirected_request");
            assert_eq!(client.ask(name, "/", "").unwrap().status, 200, "the connection goes on");
        }
    }
    for version in ["--http1.1", "--http2"] {
        for (host, expected) in [("b.test", 421), ("a.test", 200), ("other.test", 200)] {
            let field = format!("Host: {host}");
            let Some(output) = curl(gateway.addr(), "a.test", &[version, "--header", &field]) else { return };
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(shown.ends_with(&expected.to_string()), "{version} {host}: {output:?}");
        }
    }
    // Who asks for no name takes what there is.
    let unnamed = |host: &str| {
        let program = peer("curl")?;
        let (url, field) = (format!("https://{}/", gateway.addr()), format!("Host: {host}"));
        let fixed = ["--silent", "--insecure", "--write-out", "%{http_code}", "--header", &field, &url];
        let output = Command::new(program).args(fixed).output().unwrap();
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(unnamed("b.test").as_deref(), Some("ok200"));
}

#[test]
fn a_listener_with_one_certificate_misdirects_nobody() {
    let site = Site::new();
    let gateway = site.gateway(ONE, &[]);
    let mut client = site.connect(&gateway, "a.test").unwrap();
    assert_eq!(client.ask("b.test", "/", "").unwrap().status, 200);
    // A second one holds for connections that are there already.
    let b = site.authority.issue(2, &["b.test"]);
    put(&gateway.directory(), "b", &b);
    let two = ONE.replace("}]", "}, { cert = \"b.crt\", key = \"b.key\" }]");
    gateway.reloads_after(|| gateway.write_config(&site.config(&two)));
    assert_eq!(client.ask("b.test", "/", "").unwrap().status, 421);
    assert_eq!(client.ask("a.test", "/", "").unwrap().status, 200);
}

#[test]
fn strict_sni_lets_in_who_asks_for_a_name_that_a_certificate_has() {
    let site = Site::new();
    let b = site.authority.issue(2, &["*.b.test"]);
    let two = ONE.replace("}]", "}, { cert = \"b.crt\", key = \"b.key\" }]");
    let gateway = site.gateway(&format!("{two}\nstrict_sni = true"), &[("b", &b)]);
    for name in ["a.test", "A.test", "x.b.test"] {
        let mut client = site.connect(&gateway, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(client.ask(name, "/", "").unwrap().text(), "ok", "{name}");
    }
    // An address is no name to ask for.
    for name in ["other.test", "b.test", "x.y.b.test", "127.0.0.1"] {
        let error = site.connect(&gateway, name).err().unwrap_or_else(|| panic!("{name}")).to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    eventually!(gateway.metric("wasmgate_tls_handshake_failures_total{listener=\"public\"}") == 4.0);
    let Some(openssl) = peer("openssl") else { return };
    let address = gateway.addr().to_string();
    for (version, arguments) in
        [("-tls1_2", &["-noservername"][..]), ("-tls1_3", &["-servername", "other.test"])]
    {
        let fixed = ["s_client", "-connect", &address, version];
        let output = Command::new(&openssl).args(fixed).args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("unrecognized name"), "{version}: {told}");
    }
}

#[test]
fn requests_come_through_and_upstreams_learn_of_it() {
    let site = Site::new();
    let gateway = site.gateway(ONE, &[]);
    let mut client = site.connect(&gateway, "a.test").unwrap();
    // What a target claims of the scheme is not believed.
    for target in ["/", "http://a.test/", "https://a.test/"] {
        assert_eq!(client.get(target, "").unwrap().text(), "ok");
    }
    for request in site.upstream.requests() {
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    }
    assert_eq!(site.upstream.connections(), 1);
    for (arguments, expected) in [
        (&["--tlsv1.2", "--tls-max", "1.2"][..], "ok200"),
        (&["--tlsv1.3"], "ok200"),
        (&["--http2"], "ok200"),
    ] {
        let Some(output) = curl(gateway.addr(), "a.test", arguments) else { return };
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{arguments:?}: {output:?}");
    }
    let newer = site.gateway(&format!("{ONE}\nmin_version = \"1.3\""), &[]);
    let output = curl(newer.addr(), "a.test", &["--tlsv1.2", "--tls-max", "1.2"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "000", "{output:?}");
}

#[test]
fn a_certificate_is_renewed_without_a_broken_connection_and_tickets_stay_good() {
    let site = Site::new();
    let gateway = site.gateway(ONE, &[]);
    // Tickets belong to the config of a client.
    let config = client_config(&site.authority, None);
    let connect = || {
        let mut client = TlsClient::connect(gateway.addr(), "a.test", &config).unwrap();
        // Tickets come behind the handshake.
        assert_eq!(client.get("/", "").unwrap().status, 200);
        client
    };
    let mut old = connect();
    assert!(!old.is_resumed());
    assert!(connect().is_resumed());
    let new = site.authority.issue(9, &["a.test"]);
    gateway.reloads_after(|| put(&gateway.directory(), "a", &new));
    assert_eq!(old.get("/", "").unwrap().status, 200, "on the connection from before");
    assert!(connect().is_resumed(), "a ticket from before");
    let fresh = site.connect(&gateway, "a.test").unwrap();
    assert_ne!(fresh.certificate(), old.certificate());
    let end = "wasmgate_listener_certificate_end_seconds{listener=\"public\",certificate=\"a.test\"}";
    assert!(gateway.metric(end) > 4e9, "rcgen's certificates are good for long");
    // What does not fit together changes nothing.
    let text = "not reloaded";
    fs::write(gateway.directory().join("a.key"), site.authority.issue(10, &["a.test"]).key).unwrap();
    eventually!(gateway.logged(text).len() == 1, "{}", gateway.log());
    assert!(gateway.log().contains("this is not the key of the certificate"), "{}", gateway.log());
    assert_eq!(site.connect(&gateway, "a.test").unwrap().certificate(), fresh.certificate());
}

#[test]
fn clients_show_certificates_and_upstreams_are_told() {
    let site = Site::new();
    let other = Authority::new("somebody else");
    let good = site.authority.issue(20, &["user.test", "spiffe://test/user;x=1"]);
    let gone = site.authority.issue(21, &["gone.test"]);
    let foreign = other.issue(22, &["foreign.test"]);
    let start = |rest: &str| {
        let tls = format!("{ONE}\nclients = {{ ca = \"ca.pem\", crl = \"gone.pem\"{rest} }}");
        let own = site.authority.issue(1, &["a.test"]);
        TestGateway::start_in(&site.config(&tls), &[], |folder| {
            put(folder, "a", &own);
            fs::write(folder.join("ca.pem"), &site.authority.pem).unwrap();
            fs::write(folder.join("gone.pem"), site.authority.revoke(&[&gone])).unwrap();
        })
    };
    // With TLS 1.3 a client learns only from the first answer that it was refused.
    let ask = |gateway: &TestGateway, shows: Option<&Issued>| {
        let config = client_config(&site.authority, shows);
        let mut client = TlsClient::connect(gateway.addr(), "a.test", &config)?;
        let forged = "X-Forwarded-Client-Cert: Hash=00;Subject=\"CN=root\"\r\n";
        client.get("/", forged).map(|response| response.status)
    };
    let told =
        || site.upstream.take_requests().remove(0).header("x-forwarded-client-cert").map(str::to_owned);

    let required = start(", header = true");
    for refused in [None, Some(&gone), Some(&foreign)] {
        ask(&required, refused).unwrap_err();
    }
    assert_eq!(ask(&required, Some(&good)).unwrap(), 200);
    let header = told().expect("a header");
    assert!(header.starts_with("Hash=") && header.contains(";Subject=\"CN=user.test\""), "{header}");
    assert!(header.ends_with(";DNS=user.test;URI=\"spiffe://test/user;x=1\""), "{header}");

    let optional = start(", required = false, header = true");
    assert_eq!((ask(&optional, None).unwrap(), told()), (200, None));
    assert_eq!(ask(&optional, Some(&good)).unwrap(), 200);
    assert_eq!(told(), Some(header));
    ask(&optional, Some(&gone)).unwrap_err();

    let silent = start("");
    assert_eq!((ask(&silent, Some(&good)).unwrap(), told()), (200, None), "a claim of the client's own");
}

#[test]
fn tickets_are_no_way_around_a_certificate() {
    let site = Site::new();
    let gateway = site.gateway(ONE, &[]);
    let config = client_config(&site.authority, None);
    let connect = || TlsClient::connect(gateway.addr(), "a.test", &config);
    assert_eq!(connect().unwrap().get("/", "").unwrap().status, 200);
    assert!(connect().unwrap().is_resumed());
    fs::write(gateway.directory().join("ca.pem"), &site.authority.pem).unwrap();
    let stricter = site.config(&format!("{ONE}\nclients = {{ ca = \"ca.pem\" }}"));
    gateway.reloads_after(|| gateway.write_config(&stricter));
    connect().and_then(|mut client| client.get("/", "")).unwrap_err();
}

#[test]
fn who_speaks_in_the_clear_is_told_so() {
    let site = Site::new();
    let gateway = site.gateway(ONE, &[]);
    let mut client = Client::connect(gateway.addr());
    let answer = client.get("/");
    let told = "This is a port for HTTPS: it does not take HTTP";
    assert_eq!((answer.status, answer.text().as_str()), (400, told));
    client.assert_closed();
    assert_eq!(site.upstream.count(), 0);
}

#[test]
fn a_handshake_has_its_time() {
    let site = Site::new();
    let own = site.authority.issue(1, &["a.test"]);
    let config = site.config(ONE).replacen("\n\n", "\n[limits]\nheader_time = \"300ms\"\n", 1);
    let gateway = TestGateway::start_in(&config, &[], |folder| put(folder, "a", &own));
    let mut silent = Client::connect(gateway.addr());
    silent.patience(Duration::from_secs(20));
    silent.assert_closed();
    let mut begun = Client::connect(gateway.addr());
    begun.send([22, 3, 1, 2]).assert_closed();
    eventually!(gateway.metric("wasmgate_tls_handshake_failures_total{listener=\"public\"}") == 2.0);
}

#[test]
fn what_is_no_certificate_is_refused_with_its_place() {
    let site = Site::new();
    let (one, other) = (site.authority.issue(1, &["a.test"]), site.authority.issue(2, &["b.test"]));
    for (name, content, place, text) in [
        ("a.crt", "nothing", "cert", "there is no certificate in it"),
        ("a.key", "nothing", "key", "there is no key in it"),
        ("a.key", &*other.key, "key", "this is not the key of the certificate"),
        ("ca.pem", "nothing", "ca", "there is no certificate in it"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "a", &one);
        fs::write(folder.path().join("ca.pem"), &site.authority.pem).unwrap();
        fs::write(folder.path().join(name), content).unwrap();
        let config = site.config(&format!("{ONE}\nclients = {{ ca = \"ca.pem\" }}"));
        fs::write(folder.path().join("gateway.toml"), config).unwrap();
        let output = wasmgate_tests::run_in(folder.path(), &["check", "gateway.toml"]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.err.contains(&format!("{place}: {text}")), "{name}: {output:?}");
    }
}

/// nginx with TLS on a port of its own, which tells what it learns of the gateway.
struct Secured {
    authority: Authority,
    folder: tempfile::TempDir,
    port: Reserved,
    nginx: Nginx,
}

impl Secured {
    fn start() -> Option<Secured> {
        let program = peer("nginx")?;
        let (authority, folder) = (Authority::new("the upstream's"), tempfile::tempdir().unwrap());
        put(folder.path(), "app", &authority.issue(1, &["app.test"]));
        put(folder.path(), "own", &authority.issue(2, &["gateway.test"]));
        fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
        fs::write(folder.path().join("other.pem"), Authority::new("somebody").pem).unwrap();
        let (port, files) = (Reserved::new(), folder.path().display());
        let server = format!(
            "listen {} ssl reuseport; ssl_certificate {files}/app.crt; ssl_certificate_key {files}/app.key;\n\
             ssl_client_certificate {files}/ca.pem; ssl_verify_client optional; ssl_protocols TLSv1.2 TLSv1.3;\n\
             location / {{ return 200 \"$ssl_server_name,$ssl_client_s_dn,$ssl_protocol,$connection\"; }}",
            port.address()
        );
        let nginx = Nginx::start(program, &server);
        Some(Secured { authority, folder, port, nginx })
    }

    fn config(&self, tls: &str) -> String {
        let config = "[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
            [upstream.app]\nendpoints = [\"{app}\"]\nretry = { attempts = 1 }\noutliers = { failures = 0 }\ntls = { {tls} }\n\
            [upstream.app.health]\ninterval = \"100ms\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n";
        let tls = tls.replace("FILES", &self.folder.path().display().to_string());
        fill(config, &[("app", &self.port.address()), ("tls", &tls)])
    }

    fn gateway(&self, tls: &str) -> TestGateway {
        TestGateway::start(&self.config(tls))
    }
}

#[test]
fn an_upstream_has_to_prove_who_it_is() {
    let Some(upstream) = Secured::start() else { return };
    let named = "ca = \"FILES/ca.pem\", name = \"app.test\"";
    for (tls, expected) in [
        (named, Some("app.test,,TLSv1.3,")),
        ("name = \"app.test\", verify = false", Some("app.test,,TLSv1.3,")),
        ("ca = \"FILES/ca.pem\", name = \"other.test\"", None),
        ("ca = \"FILES/ca.pem\"", None),
        ("ca = \"FILES/other.pem\", name = \"app.test\"", None),
        ("name = \"app.test\"", None),
        (
            "ca = \"FILES/ca.pem\", name = \"app.test\", certificate = { cert = \"FILES/own.crt\", key = \"FILES/own.key\" }",
            Some("app.test,CN=gateway.test,TLSv1.3,"),
        ),
    ] {
        let gateway = upstream.gateway(tls);
        let serves = || gateway.serves(&upstream.port.address());
        eventually!(gateway.endpoint("app", &upstream.port.address())["since"].is_string());
        let answer = gateway.get("/");
        match expected {
            Some(expected) => {
                assert_eq!(
                    (answer.status, answer.text().starts_with(expected)),
                    (200, true),
                    "{tls}: {}",
                    answer.text()
                );
                assert!(serves(), "checks are made within TLS, too");
            }
            None => {
                assert!(matches!(answer.status, 502 | 503), "{tls}: {}", answer.text());
                eventually!(!serves(), "{tls}");
            }
        }
    }
    assert_eq!(wasmgate_tests::get(upstream.nginx.address, "/").status, 200, "also in the clear");
}

#[test]
fn a_connection_does_not_outlive_what_it_was_trusted_for() {
    let Some(upstream) = Secured::start() else { return };
    let mut config = upstream.config("ca = \"FILES/ca.pem\", name = \"app.test\"");
    let gateway = TestGateway::start(&config);
    let mut client = Client::connect(gateway.addr());
    let first = client.get("/").text();
    assert_eq!(client.get("/").text(), first, "one connection serves both");
    let handed_out = fs::read_to_string(upstream.folder.path().join("ca.pem")).unwrap();
    assert_eq!(handed_out, upstream.authority.pem);
    config = config.replace("ca.pem", "other.pem");
    gateway.reloads_after(|| gateway.write_config(&config));
    assert!(matches!(client.get("/").status, 502 | 503));
}

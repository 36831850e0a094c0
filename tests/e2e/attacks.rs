//! Attacks on the plugins that let requests in. The rows are in attacks/rows.rs, and what becomes of each in
//! tests/golden/attacks.md, where people read it.

mod rows;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    path::Path,
};

use serde_json::{Value, json};
use wasmgate_tests::{Authority, Call, Client, TestGateway, TestUpstream, TlsClient, client_config, fill};

use rows::{Ask, Row, Way};

/// What a client says, and only plugins may: where one does, the upstream gets nothing of it.
const FORGED: &str = "X-Consumer-Id: forged\r\nX-Consumer-Username: forged\r\nX-Consumer-Custom-Id: forged\r\n\
    X-Consumer-Groups: forged\r\nX-Consumer-Anything: forged\r\nX-Credential-Identifier: forged\r\n\
    X-Anonymous-Consumer: forged\r\nX-User: forged\r\nX_Consumer_Id: forged\r\nX_Consumer_Groups: forged\r\n\
    x_credential_identifier: forged\r\nX-Consumer_Username: forged\r\nX_Anonymous_Consumer: forged\r\n\
    X_User: forged\r\nX-Role: forged\r\nX_Role: forged\r\n";

struct Site {
    authority: Authority,
    other: Authority,
    app: TestUpstream,
    gateway: TestGateway,
}

impl Site {
    fn new() -> Site {
        let (authority, other) = (Authority::new("the tests"), Authority::new("the tests"));
        let (app, service) = (TestUpstream::ok(), TestUpstream::start(serve));
        let text = include_str!("attacks/gateway.toml");
        let config = fill(text, &[("app", &app.address()), ("service", &service.address())]);
        let own = authority.issue(1, &["a.test"]);
        let gateway = TestGateway::start_in(&config, &[], |folder: &Path| {
            let files = [("a.crt", &*own.cert), ("a.key", &own.key), ("ca.pem", &authority.pem)];
            for (name, text) in files.into_iter().chain([("rsa.pem", rows::RSA_PEM)]) {
                fs::write(folder.join(name), text).unwrap();
            }
        });
        Site { authority, other, app, gateway }
    }

    /// The answer's status; none where there is no answer.
    fn send(&self, ask: &Ask, fields: &str) -> Option<u16> {
        let (address, both) = (self.gateway.addr(), self.gateway.listener("both"));
        let mapped = SocketAddr::from(([127, 0, 0, 1], both.port()));
        let mut client = match ask.way {
            Way::Plain => Client::connect(address),
            Way::From(source) => Client::connect_from(source, address),
            Way::Mapped(source) => Client::connect_from(source, mapped),
            Way::Certificate { names, ours } => return self.send_in_tls(ask, fields, names, ours),
        };
        client.try_send(ask.text(fields));
        let answer = client.reader.response(ask.method()).ok()?;
        Some(answer.status)
    }

    fn send_in_tls(&self, ask: &Ask, fields: &str, names: &[&str], ours: bool) -> Option<u16> {
        let authority = if ours { &self.authority } else { &self.other };
        let shows = (!names.is_empty()).then(|| authority.issue(20, names));
        let config = client_config(&self.authority, shows.as_ref());
        let mut client = TlsClient::connect(self.gateway.listener("secure"), "a.test", &config).ok()?;
        let answer = client.ask(ask.host, ask.target(), &format!("{fields}{}", ask.fields)).ok()?;
        Some(answer.status)
    }
}

/// A row that passes, so that others do not fail for another reason.
fn passes(site: &Site, row: &Row, consumer: &str) {
    let status = site.send(&row.asks[0], FORGED);
    assert_eq!(status, Some(200), "{}, {}: {}", row.plugin, row.what, site.gateway.log());
    let seen = site.app.take_requests().pop().expect("it is the upstream's");
    let fields = &seen.head.fields;
    if !consumer.is_empty() {
        assert_eq!(fields.all("x-consumer-id"), [consumer], "{}, {}", row.plugin, row.what);
    }
    let forged = fields.0.iter().find(|(name, value)| value == "forged" && row.owns(name));
    assert_eq!(forged, None, "{}, {}", row.plugin, row.what);
}

/// The answer to a row that must not pass.
fn fails(site: &Site, row: &Row) -> String {
    let (attack, before) = row.asks.split_last().expect("something is sent");
    for ask in before {
        let status = site.send(ask, "");
        assert_eq!(status, Some(200), "{}, {}: what comes before it", row.plugin, row.what);
    }
    site.app.take_requests();
    let status = site.send(attack, "");
    let is_refusal = |status| status >= 400 || (status == 302 && row.plugin == "forward-auth");
    let (count, refused) = (site.app.count(), status.is_none_or(is_refusal));
    assert!(count == 0 && refused, "{}, {}: {status:?}, {count} at the upstream", row.plugin, row.what);
    status.map_or("none, the connection ends".to_owned(), |status| status.to_string())
}

#[test]
fn attacks_do_not_reach_the_upstream() {
    let site = Site::new();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let file = wasmgate_build::workspace().join("tests/golden/attacks.md");
    let expected = fs::read_to_string(&file).unwrap();
    let (introduction, _) = expected.split_once("\n## ").unwrap_or((&expected, ""));
    let (mut told, mut plugin, mut names) = (introduction.to_owned(), "", BTreeSet::new());
    for row in rows::all(&trap.local_addr().unwrap()) {
        assert!(names.insert((row.plugin, row.what)), "{}, {}: twice", row.plugin, row.what);
        if let Some(consumer) = row.passes {
            passes(&site, &row, consumer);
            continue;
        }
        if plugin != row.plugin {
            plugin = row.plugin;
            told += &format!("\n## {plugin}\n\n| attack | answer |\n| --- | --- |\n");
        }
        told += &format!("| {} | {} |\n", row.what, fails(&site, &row));
    }
    let error = trap.accept().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "somebody has followed an address in a token");
    if told != expected {
        let ours = wasmgate_build::target_directory().join("attacks.md");
        fs::write(&ours, told).unwrap();
        panic!("if it is meant: cp {} {}", ours.display(), file.display());
    }
}

/// Keys, what is known of tokens, and who may pass.
fn serve(call: &mut Call) -> io::Result<()> {
    let request = call.body()?.clone();
    let form = String::from_utf8_lossy(&request.body).into_owned();
    // As behind CGI, `_` is the same as `-`, and the last one counts.
    let header = |wanted: &str| {
        let mut fields = request.head.fields.0.iter();
        let last = fields.rfind(|(name, _)| name.to_lowercase().replace('_', "-") == wanted);
        last.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (status, fields, body) = match request.target() {
        "/jwks.json" => (200, "", rows::set()),
        // As servers do, the last token of the form is the one that counts.
        "/introspect" => {
            (200, "", known(form.split('&').filter_map(|part| part.strip_prefix("token=")).next_back()))
        }
        _ if ["/forward/broken", "/open"].contains(&&*header("x-forwarded-uri")) => (500, "", String::new()),
        _ if header("cookie") == "session=good" => (200, "X-User: alice\r\n", String::new()),
        // Attackers would like to be taken for one of these.
        _ if header("x-forwarded-uri") == "/forward/public" || header("x-forwarded-for") == "10.1.1.1" => {
            (200, "", String::new())
        }
        _ if header("x-forwarded-method") == "OPTIONS" || header("x-forwarded-host") == "public.test" => {
            (200, "", String::new())
        }
        _ => (302, "Location: /login\r\n", String::new()),
    };
    call.write(format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
}

/// What is known of a token, in the words of RFC 7662.
fn known(token: Option<&str>) -> String {
    let good = json!({"active": true, "sub": "alice", "iss": "https://idp.test", "aud": "api", "exp": 4_102_444_800_u64});
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed.to_string()
    };
    match token.unwrap_or_default() {
        "alice" => good.to_string(),
        "words" => with("active", json!("true")),
        "number" => with("active", json!(1)),
        "expired" => with("exp", json!(1_300_819_380)),
        "early" => with("nbf", json!(4_102_444_800_u64)),
        "elsewhere" => with("aud", json!("other")),
        "issued-elsewhere" => with("iss", json!("https://evil.test")),
        "nobody" => with("sub", json!("")),
        "twice" => format!(r#"{{"active":false,{}"#, &good.to_string()[1..]),
        "deep" => format!(r#"{{"a":{}{},{}"#, "[".repeat(500), "]".repeat(500), &good.to_string()[1..]),
        "list" => format!("[{good}]"),
        "page" => "<html>active</html>".to_owned(),
        _ => json!({"active": false}).to_string(),
    }
}

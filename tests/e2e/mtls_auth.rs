//! Certificates of clients, and whose they are.

use std::fs;

use wasmgate_tests::{Authority, Issued, TestGateway, TestUpstream, TlsClient, client_config, fill};

const CONFIG: &str = r#"
[[listener]]
name = "public"
address = "127.0.0.1:0"
[listener.tls]
certificates = [{ cert = "a.crt", key = "a.key" }]
clients = { ca = "ca.pem", required = false }
[admin]
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[upstream.app]
endpoints = ["{app}"]
[[route]]
name = "either"
match = { path = "/either" }
upstream = "app"
plugins = [
    { name = "mtls-auth", config = { any = true, consumer_from = ["san_uri"] } },
    { name = "key-auth", config = { any = true, keys = [{ sha256 = "c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c", consumer = "alice" }] } },
    "auth-any",
]
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "mtls-auth"
[route.plugins.config]
rules = [
    { san_uri = "spiffe://corp/ns/*/sa/web", consumer = "web", groups = ["services"], plan = "pro" },
    { san_dns = "user.test", consumer = "user" },
]
"#;

struct Site {
    authority: Authority,
    upstream: TestUpstream,
    gateway: TestGateway,
}

impl Site {
    fn start() -> Site {
        let (authority, upstream) = (Authority::new("the tests"), TestUpstream::ok());
        let own = authority.issue(1, &["a.test"]);
        let config = fill(CONFIG, &[("app", &upstream.address())]);
        let gateway = TestGateway::start_in(&config, &[], |folder| {
            fs::write(folder.join("a.crt"), &own.cert).unwrap();
            fs::write(folder.join("a.key"), &own.key).unwrap();
            fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        });
        Site { authority, upstream, gateway }
    }

    /// Two requests of one connection that shows this: the status and code of both, and whose they were.
    fn ask(&self, shows: Option<&Issued>, target: &str, fields: &str) -> (u16, String, Option<String>) {
        let config = client_config(&self.authority, shows);
        let mut client = TlsClient::connect(self.gateway.addr(), "a.test", &config).unwrap();
        let mut ask = || {
            let answer = client.get(target, &format!("X-Consumer-Id: root\r\n{fields}")).unwrap();
            let seen = self.upstream.take_requests().pop();
            let consumer = seen.and_then(|seen| seen.header("x-consumer-id").map(str::to_owned));
            (answer.status, answer.code(), consumer)
        };
        let first = ask();
        assert_eq!(ask(), first);
        first
    }
}

#[test]
fn a_certificate_says_whose_a_request_is() {
    let site = Site::start();
    let refused = |code: &str| (403, code.to_owned(), None);
    let passed = |consumer: &str| (200, String::new(), Some(consumer.to_owned()));
    for (names, expected) in [
        (Some(&["x.test", "spiffe://corp/ns/a/sa/web"][..]), passed("web")),
        (Some(&["user.test"]), passed("user")),
        (Some(&["x.test", "spiffe://corp/ns/a/b/sa/web"]), refused("forbidden")),
        (Some(&["web"]), refused("forbidden")),
        (None, refused("client_certificate_required")),
    ] {
        let issued = names.map(|names| site.authority.issue(20, names));
        let claim = "X-Forwarded-Client-Cert: Subject=\"CN=user.test\";DNS=user.test\r\n";
        assert_eq!(site.ask(issued.as_ref(), "/", claim), expected, "{names:?}");
    }
}

#[test]
fn a_certificate_or_a_key_will_do() {
    let site = Site::start();
    let service = site.authority.issue(20, &["x.test", "spiffe://corp/web"]);
    let unknown = site.authority.issue(21, &["x.test"]);
    let key = "X-Api-Key: demo-key\r\n";
    let ask = |shows, fields| site.ask(shows, "/either", fields);
    assert_eq!(ask(Some(&service), key).2.as_deref(), Some("spiffe://corp/web"));
    assert_eq!(ask(Some(&unknown), key).2.as_deref(), Some("alice"));
    assert_eq!(ask(None, key).2.as_deref(), Some("alice"));
    for shows in [Some(&unknown), None] {
        assert_eq!(ask(shows, ""), (401, "unauthenticated".to_owned(), None));
    }
}

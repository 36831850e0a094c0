//! The plugin acl behind those that say whose a request is.

use wasmgate_tests::{TestGateway, TestUpstream, request};

/// SHA-256 of "demo-key" and of "second".
const DEMO: &str = "c48a01f49fd0f2cc404bc3cbbc80e91457a3d41bb429a695243de4c61794155c";
const SECOND: &str = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";

/// Alice, of the admins, has the key "demo-key", and bob "second".
fn gateway(upstream: &TestUpstream, more: &str, acl: &str) -> TestGateway {
    let rest = format!(
        r#"
[plugins]
directory = "{{plugins}}"
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "key-auth"
[route.plugins.config]
keys = [
    {{ sha256 = "{DEMO}", consumer = "alice", groups = ["staff", "admins"], plan = "pro" }},
    {{ sha256 = "{SECOND}", consumer = "bob", groups = ["staff"] }},
]
{more}
[[route.plugins]]
name = "acl"
[route.plugins.config]
{acl}
"#
    );
    TestGateway::before(upstream, &rest)
}

const ALICE: &str = "X-Api-Key: demo-key\r\n";
const BOB: &str = "X-Api-Key: second\r\n";

#[test]
fn groups_methods_and_paths_decide() {
    let upstream = TestUpstream::ok();
    let acl = r#"
allow = [{ groups = ["admins"] }, { consumers = ["bob"], methods = ["GET"], paths = ["/users/*"] }]
deny = [{ paths = ["/internal/*"] }]
"#;
    let gateway = gateway(&upstream, "", acl);
    for (method, target, headers, status) in [
        ("DELETE", "/users/7", ALICE, 200),
        ("GET", "/users/7", BOB, 200),
        ("HEAD", "/users/7", BOB, 200),
        ("DELETE", "/users/7", BOB, 403),
        ("GET", "/", BOB, 403),
        ("GET", "/users/../", BOB, 403),
        ("GET", "/internal/x", ALICE, 403),
        ("GET", "/%69nternal/x", ALICE, 403),
        ("GET", "//internal/x", ALICE, 403),
        ("GET", "/internal;a=b/x", ALICE, 403),
        ("GET", "/users/7", "", 401),
        ("GET", "/users/7", "X-Consumer-Id: alice\r\nX-Consumer-Groups: admins\r\n", 401),
        ("GET", "/", "X-Api-Key: second\r\nX-Consumer-Groups: admins\r\nX_Consumer_Groups: admins\r\n", 403),
    ] {
        let answer = request(gateway.addr(), method, target, headers);
        assert_eq!(answer.status, status, "{method} {target} {headers}");
        if status == 403 {
            assert_eq!(answer.code(), "acl_denied");
        }
    }
    let seen = upstream.requests();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].header("x-consumer-groups"), Some("staff, admins"));
}

#[test]
fn whoever_may_not_and_is_nobody_is_asked_who_it_is() {
    let upstream = TestUpstream::ok();
    let acl = "allow = [{ plans = [\"pro\"] }, { consumers = [\"guest\"], paths = [\"/public/*\"] }]\nhide_groups_header = true\n";
    let gateway = gateway(&upstream, "anonymous = \"guest\"", acl);
    let refused = request(gateway.addr(), "GET", "/", "");
    assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"));
    assert_eq!(refused.header("www-authenticate"), Some("Key realm=\"gateway\""));
    assert_eq!(request(gateway.addr(), "GET", "/public/x", "").status, 200);
    assert_eq!(request(gateway.addr(), "GET", "/", BOB).status, 403);
    assert_eq!(request(gateway.addr(), "GET", "/", ALICE).status, 200);
    assert!(upstream.requests().iter().all(|seen| seen.header("x-consumer-groups").is_none()));
}

#[test]
fn without_anybody_before_it_nobody_passes() {
    let upstream = TestUpstream::ok();
    let route = "[plugins]\ndirectory = \"{plugins}\"\n[[route]]\nname = \"all\"\nupstream = \"app\"\n\
                 plugins = [{ name = \"acl\", config = { deny = [{ groups = [\"banned\"] }] } }]\n";
    let gateway = TestGateway::before(&upstream, route);
    assert_eq!(request(gateway.addr(), "GET", "/", ALICE).status, 401);
    assert!(upstream.requests().is_empty());
}

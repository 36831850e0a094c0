use wasmgate_sdk::testing::{Host, Outcome, Request};

use super::*;

fn send(config: &str, request: Request) -> Outcome {
    Host::new().load::<Acl>(config).unwrap().send(request)
}

fn alice() -> Request {
    of_alice("GET", "/")
}

fn of_alice(method: &str, path: &str) -> Request {
    let claims = r#"{"sub": "alice", "age": 30, "admin": false, "mail": true, "scope": "read write", "name": "root user",
        "realm_access": {"roles": ["admin", "user"]}, "a.b": "dotted", "a": {"b": "nested", "c": null}}"#;
    let request = Request::new(method, path).var("consumer", "alice").var("groups", "staff,eu west");
    request.var("plan", "pro").var("claims", claims)
}

fn allow(rule: &str) -> String {
    format!(r#"{{"allow": [{rule}]}}"#)
}

fn deny(rule: &str) -> String {
    format!(r#"{{"deny": [{rule}]}}"#)
}

/// 403 as it has to be.
fn is_forbidden(outcome: &Outcome) -> bool {
    let detail = outcome.answer.as_ref().and_then(|answer| answer.detail.as_deref());
    (outcome.response().status(), outcome.code.as_deref(), detail)
        == (403, Some("acl_denied"), Some("You cannot consume this service"))
}

#[test]
fn all_parts_of_a_rule_have_to_fit() {
    for (rule, fits) in [
        (r#"{"consumers": ["bob", "alice"]}"#, true),
        (r#"{"consumers": ["bob"]}"#, false),
        (r#"{"consumers": ["Alice"]}"#, false),
        (r#"{"consumers": ["alic", "alice2", "*"]}"#, false),
        (r#"{"groups": ["admins", "staff"]}"#, true),
        (r#"{"groups": ["eu west"]}"#, true),
        (r#"{"groups": ["eu"]}"#, false),
        (r#"{"groups": ["STAFF"]}"#, false),
        (r#"{"plans": ["free", "pro"]}"#, true),
        (r#"{"plans": ["free"]}"#, false),
        (r#"{"methods": ["GET"]}"#, true),
        (r#"{"methods": ["POST"]}"#, false),
        (r#"{"paths": ["/"]}"#, true),
        (r#"{"paths": ["/x", "/*"]}"#, true),
        (r#"{"paths": ["/x"]}"#, false),
        (
            r#"{"consumers": ["alice"], "groups": ["staff"], "plans": ["pro"], "methods": ["GET"], "paths": ["/"]}"#,
            true,
        ),
        (r#"{"consumers": ["alice"], "groups": ["admins"]}"#, false),
        (r#"{"consumers": ["alice"], "methods": ["PUT"]}"#, false),
        (r#"{"claims": {"sub": "alice"}}"#, true),
        (r#"{"claims": {"sub": ["bob", "alice"]}}"#, true),
        (r#"{"claims": {"sub": "Alice"}}"#, false),
        (r#"{"claims": {"age": 30}}"#, true),
        (r#"{"claims": {"age": "30"}}"#, false),
        (r#"{"claims": {"sub": true, "mail": true}}"#, true),
        (r#"{"claims": {"admin": true}}"#, false),
        (r#"{"claims": {"admin": false}}"#, true),
        (r#"{"claims": {"nothing": true}}"#, false),
        (r#"{"claims": {"a.c": true}}"#, false),
        (r#"{"claims": {"realm_access.roles": ["admin"]}}"#, true),
        (r#"{"claims": {"realm_access.roles": "user"}}"#, true),
        (r#"{"claims": {"realm_access.roles": ["adm"]}}"#, false),
        (r#"{"claims": {"realm_access": true}}"#, true),
        (r#"{"claims": {"a.b": "dotted"}}"#, true),
        (r#"{"claims": {"a.b": "nested"}}"#, false),
        (r#"{"claims": {"scope": ["write"]}}"#, true),
        (r#"{"claims": {"scope": "read"}}"#, true),
        (r#"{"claims": {"scope": "rea"}}"#, false),
        (r#"{"claims": {"name": "root"}}"#, false),
        (r#"{"claims": {"sub": "alice", "realm_access.roles": ["owner"]}}"#, false),
    ] {
        let allowed = send(&allow(rule), alice());
        assert_eq!((allowed.sent, is_forbidden(&allowed)), (fits, !fits), "{rule}");
        let denied = send(&deny(rule), alice());
        assert_eq!((denied.sent, is_forbidden(&denied)), (!fits, fits), "{rule}");
    }
}

#[test]
fn deny_comes_first_and_any_rule_will_do() {
    let config = r#"{"allow": [{"groups": ["admins"]}, {"consumers": ["alice"]}], "deny": [{"methods": ["DELETE"]}, {"paths": ["/a/*"]}]}"#;
    assert!(send(config, alice()).sent);
    assert!(is_forbidden(&send(config, of_alice("DELETE", "/"))));
    assert!(is_forbidden(&send(config, of_alice("GET", "/a/b"))));
    assert!(is_forbidden(&send(config, Request::get("/").var("consumer", "bob"))));
    assert!(send(config, Request::get("/").var("consumer", "bob").var("groups", "admins")).sent);
}

#[test]
fn nobody_is_401_with_a_challenge() {
    for config in
        [allow(r#"{"methods": ["GET"]}"#), deny(r#"{"methods": ["GET"]}"#), allow(r#"{"paths": ["/*"]}"#)]
    {
        for request in [
            Request::get("/"),
            Request::get("/").var("consumer", ""),
            Request::get("/").var("groups", "staff"),
        ] {
            let outcome = send(&config, request);
            assert_eq!(
                (outcome.response().status(), outcome.code.as_deref()),
                (401, Some("unauthenticated"))
            );
            let challenge = outcome.response().header_str("www-authenticate");
            assert_eq!(challenge.as_deref(), Some("Key realm=\"gateway\""));
        }
    }
    let config =
        r#"{"allow": [{"consumers": ["alice"]}], "challenge": "Bearer realm=\"api\", Basic realm=\"api\""}"#;
    let challenge = send(config, Request::get("/")).response().header_str("www-authenticate");
    assert_eq!(challenge.as_deref(), Some("Bearer realm=\"api\", Basic realm=\"api\""));
}

#[test]
fn an_anonymous_consumer_that_may_not_is_asked_who_it_is() {
    let guest = || Request::get("/").var("consumer", "guest").header("x-anonymous-consumer", "true");
    assert_eq!(send(&allow(r#"{"consumers": ["alice"]}"#), guest()).response().status(), 401);
    assert_eq!(send(&deny(r#"{"consumers": ["guest"]}"#), guest()).response().status(), 401);
    assert!(send(&allow(r#"{"consumers": ["guest"]}"#), guest()).sent);
}

/// Everything that a client itself says of whose its request is: only variables count, which plugins set.
#[test]
fn nobody_talks_himself_into_it() {
    let config = allow(
        r#"{"groups": ["admins"]}, {"consumers": ["root"]}, {"plans": ["max"]}, {"claims": {"role": "admin"}}"#,
    );
    for (name, value) in [
        ("x-consumer-groups", "admins"),
        ("X-Consumer-Groups", "staff, admins"),
        ("x_consumer_groups", "admins"),
        ("x-consumer-id", "root"),
        ("x-consumer-username", "root"),
        ("x-authenticated-groups", "admins"),
        ("x-plan", "max"),
        ("authorization", "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ."),
        ("cookie", "consumer=root; groups=admins"),
        ("x-http-method-override", "PUT"),
        ("x-anonymous-consumer", "false"),
    ] {
        let outcome = send(&config, alice().header(name, value).header(name, value));
        assert!(!outcome.sent, "{name}");
        assert!(
            !send(&config, Request::get("/?consumer=root&groups=admins").header(name, value)).sent,
            "{name}"
        );
    }
    for (variable, value) in [
        ("consumer", "root "),
        ("consumer", "Root"),
        ("consumer", "ro\u{43e}t"),
        ("consumer", "root\0"),
        ("consumer", "alice,root"),
        ("groups", "admin,s"),
        ("groups", "Admins"),
        ("groups", "staff;admins"),
        ("groups", "staff admins"),
        ("plan", "MAX"),
        ("plan", "pro,max"),
        ("claims", r#"{"role": "ADMIN"}"#),
        ("claims", r#"{"role": {"admin": true}}"#),
        ("claims", r#"{"role": "admin "}"#),
        ("claims", r#"{"role": [["admin"]]}"#),
        ("claims", r#"{"roles": "admin"}"#),
    ] {
        assert!(!send(&config, alice().var(variable, value)).sent, "{variable} {value}");
    }
    let many = (0..8000).map(|number| format!("g{number}")).collect::<Vec<_>>().join(",");
    assert!(!send(&config, alice().var("groups", &many)).sent);
}

/// What another plugin has set wrong must not pass a rule by that denies.
#[test]
fn variables_that_cannot_be_read_are_failures() {
    let config = deny(r#"{"groups": ["banned"]}, {"claims": {"role": "banned"}}"#);
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for (variable, value) in [
        ("consumer", &b"\xff"[..]),
        ("groups", b"banned\xff"),
        ("plan", b"\xff"),
        ("claims", b"{\"role\": \"banned\""),
        ("claims", b"[\"banned\"]"),
        ("claims", b"null"),
        ("claims", b"\xff"),
        ("claims", deep.as_bytes()),
    ] {
        let outcome = send(&config, alice().var(variable, value));
        assert!(!outcome.sent && outcome.error.is_some(), "{variable}");
    }
    assert!(
        send(&deny(r#"{"groups": ["banned"]}"#), alice().var("claims", "{")).sent,
        "not read where no rule asks"
    );
}

#[test]
fn a_path_that_some_server_takes_for_another_is_denied_and_not_allowed() {
    let config = |list: &str| {
        format!(r#"{{"{list}": [{{"paths": ["/admin/*", "/users/me", "/caf%c3%a9", "/~bob"]}}]}}"#)
    };
    for path in [
        "/admin",
        "/admin/",
        "/admin/x?y",
        "/users/me",
        "/users/me?/x",
        "/%61dmin",
        "/caf%C3%A9",
        "/%7Ebob",
        "/admin/a%20b",
    ] {
        assert!(send(&config("allow"), of_alice("GET", path)).sent, "{path}");
        assert!(!send(&config("deny"), of_alice("GET", path)).sent, "{path}");
    }
    for path in [
        "//admin",
        "//admin//x",
        "/admin%2Fx",
        "/admin%2fx",
        "/%2Fadmin",
        "/admin;a=b",
        "/admin;/x",
        "/;x/admin/x",
        "/admin%3Bx",
        "/admin%5Cx",
        "/users//me",
        "/users/me/",
        "/users/me;x",
        "/users/;x/me",
        "/users%2Fme",
        "/users/me//",
    ] {
        assert!(!send(&config("allow"), of_alice("GET", path)).sent, "{path}");
        assert!(!send(&config("deny"), of_alice("GET", path)).sent, "{path}");
    }
    for path in [
        "/",
        "/adminx",
        "/ADMIN",
        "/x/admin",
        "/users",
        "/users/me/x",
        "/users/mee",
        "/?/admin",
        "/caf%C3",
        "/%2561dmin",
        "/%",
        "/%6",
    ] {
        assert!(!send(&config("allow"), of_alice("GET", path)).sent, "{path}");
        assert!(send(&config("deny"), of_alice("GET", path)).sent, "{path}");
    }
    for path in ["/", "/x", "//", "*", "/%2F", "/;"] {
        let all = r#"{"paths": ["/*"]}"#;
        assert!(send(&allow(all), of_alice("OPTIONS", path)).sent, "{path}");
        assert!(!send(&deny(all), of_alice("OPTIONS", path)).sent, "{path}");
    }
    let long = format!("/{}", "a/".repeat(30_000));
    assert!(send(&config("deny"), of_alice("GET", &long)).sent);
}

#[test]
fn get_stands_for_head() {
    for (rule, method, fits) in [
        (r#"{"methods": ["GET"]}"#, "HEAD", true),
        (r#"{"methods": ["HEAD"]}"#, "GET", false),
        (r#"{"methods": ["PURGE"]}"#, "PURGE", true),
        (r#"{"methods": ["POST"]}"#, "post", false),
    ] {
        assert_eq!(send(&allow(rule), of_alice(method, "/")).sent, fits, "{rule} {method}");
    }
}

#[test]
fn the_upstream_is_told_the_groups() {
    let config = |more: &str| format!(r#"{{"allow": [{{"consumers": ["alice"]}}] {more}}}"#);
    let told = |config: &str, request: Request| {
        let outcome = send(config, request);
        assert!(outcome.sent);
        outcome.request().header_all("x-consumer-groups").concat()
    };
    let forged = || alice().header("x-consumer-groups", "admins").header("X-Consumer-Groups", "root");
    assert_eq!(told(&config(""), forged()), b"staff, eu west");
    assert_eq!(told(&config(""), forged().var("groups", "")), b"");
    assert_eq!(told(&config(r#", "hide_groups_header": true"#), forged()), b"");
}

#[test]
fn preflights_pass_unless_told_otherwise() {
    let options =
        || Request::new("OPTIONS", "/").header("origin", "https://a.test").header("x-consumer-groups", "a");
    let preflight = || options().header("access-control-request-method", "PUT");
    let config = |more: &str| format!(r#"{{"allow": [{{"consumers": ["alice"]}}] {more}}}"#);
    let outcome = send(&config(""), preflight());
    assert_eq!((outcome.sent, outcome.request().header("x-consumer-groups")), (true, None));
    assert_eq!(send(&config(""), options()).response().status(), 401);
    assert_eq!(send(&config(r#", "run_on_preflight": true"#), preflight()).response().status(), 401);
}

#[test]
fn mistakes_are_named() {
    let refusal = |config: &str| Host::new().load::<Acl>(config).err().unwrap().to_string();
    let path = "expected a path such as \"/users\", or \"/users/*\" for those below, too";
    for (rule, expected) in [
        ("{}", ": is empty, which every request fits"),
        (r#"{"claims": {}}"#, ": is empty, which every request fits"),
        (r#"{"groups": []}"#, ".groups: is empty, which no request fits"),
        (r#"{"paths": []}"#, ".paths: is empty, which no request fits"),
        (r#"{"consumers": ["a", ""]}"#, ".consumers[1]: is empty, or has spaces around it"),
        (r#"{"plans": [" a"]}"#, ".plans[0]: is empty, or has spaces around it"),
        (r#"{"groups": ["a,b"]}"#, ".groups[0]: holds a comma, which no group does"),
        (r#"{"methods": ["GET", "put"]}"#, ".methods[1]: is not in upper case"),
        (r#"{"paths": ["/a", "b"]}"#, &format!(".paths[1]: {path}")),
        (r#"{"paths": ["/a*"]}"#, &format!(".paths[0]: {path}")),
        (r#"{"paths": ["/*/a"]}"#, &format!(".paths[0]: {path}")),
        (r#"{"paths": ["/a?b"]}"#, &format!(".paths[0]: {path}")),
        (r#"{"claims": {"a": null}}"#, ".claims.a: expected a text, a number, a boolean or a list of such"),
        (r#"{"claims": {"a": []}}"#, ".claims.a: expected a text, a number, a boolean or a list of such"),
        (
            r#"{"claims": {"a": {"b": 1}}}"#,
            ".claims.a: expected a text, a number, a boolean or a list of such",
        ),
    ] {
        assert_eq!(refusal(&allow(&format!(r#"{{"plans": ["a"]}}, {rule}"#))), format!("allow[1]{expected}"));
        assert_eq!(refusal(&deny(rule)), format!("deny[0]{expected}"));
    }
    assert_eq!(refusal("null"), "allow, deny: nothing is given, so everybody would pass");
    assert!(refusal(&deny(r#"{"group": ["a"]}"#)).contains("unknown field `group`"));
    let challenge = "challenge: is empty, longer than 1024 bytes or holds a control character";
    assert_eq!(refusal(r#"{"deny": [{"plans": ["a"]}], "challenge": "a\nb"}"#), challenge);
}

#[test]
fn the_audit_is_told_why() {
    let config = r#"{"allow": [{"groups": ["staff"]}], "deny": [{"methods": ["PUT"]}, {"paths": ["/no"]}]}"#;
    for (request, reason) in [
        (Request::get("/"), Why::NOBODY.into()),
        (of_alice("GET", "/no"), Reason::new(Why::DENIED).detail("deny[1]")),
        (Request::get("/").var("consumer", "bob"), Why::NOT_ALLOWED.into()),
    ] {
        assert_eq!(send(config, request).reason, Some(reason));
    }
    assert_eq!(send(config, alice()).reason, None);
}

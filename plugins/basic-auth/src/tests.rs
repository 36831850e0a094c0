use std::time::Duration as Time;

use wasmgate_sdk::auth::Identity;
use wasmgate_sdk::consumers::Consumer;
use wasmgate_sdk::log::Level;
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request};

use super::*;

/// Hashes of "password".
const BCRYPT: &str = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
const ARGON2: &str = "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$FqGkmHNGCd0BRW2kBt6fPZ2pPmyGwwChL8FGUhTOSSI";
const SHA: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
const APR1: &str = "$apr1$abcdefgh$FBwExRW4dCc8aL.OvjpIE1";

/// Of "demo".
const SLOWER: &str = "$2b$10$zfvqYtPLadSWh2JXlGDsc.18VyfA7mf1VN29Go8XC9h0Oq5gYB1SW";

const CHALLENGE: &str = "Basic realm=\"gateway\", charset=\"UTF-8\"";

fn config(more: &str) -> String {
    format!(r#"{{"users": ["alice:{BCRYPT}", "bob:{ARGON2}", "jürgen:{SHA}"] {more}}}"#)
}

fn plugin(more: &str) -> Loaded<BasicAuth> {
    Host::new().load(&config(more)).expect("a good config")
}

fn bearing(credentials: impl AsRef<[u8]>) -> Request {
    Request::get("/").header("authorization", format!("Basic {}", STANDARD.encode(credentials)))
}

fn consumer(outcome: &Outcome) -> Option<String> {
    outcome.sent.then(|| outcome.request().header_str("x-consumer-id")).flatten()
}

fn assert_refused(outcome: &Outcome, detail: &str, what: &str) {
    assert!(!outcome.sent && outcome.error.is_none(), "{what}: {:?}", outcome.error);
    let response = outcome.response();
    assert_eq!((response.status(), outcome.code.as_deref()), (401, Some("unauthenticated")), "{what}");
    assert_eq!(response.header_str("www-authenticate").as_deref(), Some(CHALLENGE), "{what}");
    assert_eq!(outcome.answer.as_ref().and_then(|answer| answer.detail.as_deref()), Some(detail), "{what}");
    assert_eq!(outcome.request().var("consumer"), None, "{what}");
    assert_eq!(outcome.request().header("x-consumer-id"), None, "{what}");
}

#[test]
fn a_user_with_the_right_password_passes() {
    let plugin = plugin("");
    for user in ["alice", "bob", "jürgen"] {
        let outcome = plugin.send(bearing(format!("{user}:password")).header("x-consumer-id", "root"));
        assert_eq!(consumer(&outcome).as_deref(), Some(user));
        let request = outcome.request();
        assert_eq!(request.header_all("x-consumer-id").len(), 1);
        assert_eq!(request.header_str("x-credential-identifier").as_deref(), Some(user));
        assert_eq!(request.var_str("consumer").as_deref(), Some(user));
        assert_eq!(request.header("authorization"), None, "hidden");
        assert_eq!(request.header("x-consumer-groups"), None);
    }
    let kept = self::plugin(r#", "hide_credentials": false"#).send(bearing("alice:password"));
    assert!(kept.sent && kept.request().header("authorization").is_some());
}

#[test]
fn the_config_says_more_of_some() {
    let more = r#", "identities": {"alice": {"consumer": "acme", "groups": ["a", "b"], "plan": "pro"}}"#;
    let outcome = plugin(more).send(bearing("alice:password"));
    assert_eq!(consumer(&outcome).as_deref(), Some("acme"));
    let request = outcome.request();
    for (name, value) in [("credential", "alice"), ("groups", "a,b"), ("plan", "pro")] {
        assert_eq!(request.var_str(name).as_deref(), Some(value), "{name}");
    }
    let outcome = plugin(more).send(bearing("bob:password"));
    assert_eq!((consumer(&outcome).as_deref(), outcome.request().var("plan")), (Some("bob"), None));
}

#[test]
fn a_file_of_htpasswd_will_do() {
    let file = format!("# users\\n\\nalice:{BCRYPT}\\r\\n carol:{APR1} \\n");
    let host = Host::new();
    let plugin = host.load::<BasicAuth>(&format!(r#"{{"users": "{file}"}}"#)).unwrap();
    for user in ["alice", "carol"] {
        assert!(plugin.send(bearing(format!("{user}:password"))).sent, "{user}");
    }
    assert!(!plugin.send(bearing("bob:password")).sent);
    assert!(!plugin.send(bearing("# users:password")).sent);
}

#[test]
fn hashes_for_import_are_told_once() {
    let host = Host::new();
    for _ in 0..3 {
        host.load::<BasicAuth>(&config(r#", "identities": {}"#)).unwrap();
    }
    let log = host.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0].level, Level::Warn);
    assert!(
        log[0].message.starts_with("the hashes of 1 users are {SHA} or $apr1$, which are quickly guessed")
    );
    assert!(!log[0].message.contains("W6ph"));
    host.advance(Time::from_secs(3600));
    host.load::<BasicAuth>(&config("")).unwrap();
    assert_eq!(host.log().len(), 2);
}

#[test]
fn a_right_password_is_known_for_a_while() {
    let host = Host::new();
    let plugin = host.load::<BasicAuth>(&config(r#", "cache_ttl": "5s""#)).unwrap();
    let known = |credentials: &str| {
        let hash = if credentials.starts_with("alice") { BCRYPT } else { ARGON2 };
        host.enter(|| plugin.plugin().cache.knows(hash, credentials.as_bytes()))
    };
    assert!(!plugin.send(bearing("alice:wrong")).sent && !known("alice:wrong"));
    assert!(plugin.send(bearing("alice:password")).sent && known("alice:password"));
    assert!(plugin.send(bearing("alice:password")).sent);
    assert!(!known("alice:wrong") && !known("bob:password"));
    host.advance(Time::from_secs(5));
    assert!(!known("alice:password"));
    assert!(plugin.send(bearing("alice:password")).sent && known("alice:password"));
    let without = host.load::<BasicAuth>(&config(r#", "cache_ttl": "0s""#)).unwrap();
    assert!(without.send(bearing("alice:password")).sent);
    assert!(!host.enter(|| without.plugin().cache.knows(BCRYPT, b"alice:password")));
}

#[test]
fn an_unknown_name_gets_a_hash_of_its_own_and_never_passes() {
    let host = Host::new();
    let plugin = host.load::<BasicAuth>(&config("")).unwrap();
    let check = |name: &str| plugin.plugin().check(&Credentials(format!("{name}:password").into()));
    host.enter(|| {
        // Whatever hash stands in for them, all of which "password" is right for.
        for name in 0..20 {
            assert_eq!(check(&format!("user{name}")), Ok(Checked::Wrong(None)));
        }
        assert_eq!(check(""), Ok(Checked::Wrong(None)));
        assert!(matches!(check("alice"), Ok(Checked::Right(_))));
    });
}

/// Acme's user is "shop"; "alice" is the config's own.
fn with_consumers() -> Host {
    let acme = Consumer {
        groups: vec!["partners".to_string()],
        plan: Some("pro".to_string()),
        ..Consumer::new("acme")
    };
    Host::new()
        .consumer(acme)
        .credential(Kind::Password, "shop", BCRYPT, "acme")
        .credential(Kind::Password, "alice", SHA, "acme")
        .credential(Kind::Hmac, "k1", "a secret that signs", "acme")
}

#[test]
fn users_of_the_consumers_pass_behind_those_of_the_config() {
    let host = with_consumers();
    let plugin = host.load::<BasicAuth>(&config(r#", "consumers": true"#)).unwrap();
    for _ in 0..2 {
        let outcome = plugin.send(bearing("shop:password").header("x-consumer-id", "root"));
        assert_eq!(consumer(&outcome).as_deref(), Some("acme"));
        let request = outcome.request();
        for (name, value) in [("credential", "shop"), ("groups", "partners"), ("plan", "pro")] {
            assert_eq!(request.var_str(name).as_deref(), Some(value), "{name}");
        }
    }
    assert_eq!(consumer(&plugin.send(bearing("alice:password"))).as_deref(), Some("alice"), "the first");
    let alone = host.load::<BasicAuth>(r#"{"consumers": true}"#).unwrap();
    assert_eq!(consumer(&alone.send(bearing("alice:password"))).as_deref(), Some("acme"));
    assert!(!host.load::<BasicAuth>(&config("")).unwrap().send(bearing("shop:password")).sent);
}

/// What must never pass as Acme's. All of it looks the same from outside.
#[test]
fn attacks_on_consumers_fail() {
    let wrong = "The user name or the password is wrong.";
    let plugin = with_consumers().load::<BasicAuth>(r#"{"consumers": true}"#).unwrap();
    for (what, credentials) in [
        ("a wrong password", &b"shop:Password"[..]),
        ("no password", b"shop:"),
        ("the hash", format!("shop:{BCRYPT}").as_bytes()),
        ("the hash of another one", format!("shop:{SHA}").as_bytes()),
        ("the consumer's name", b"acme:password"),
        ("the name in another case", b"SHOP:password"),
        ("a space", b"shop :password"),
        ("the name of a secret", b"k1:a secret that signs"),
        ("the name of a secret with a password", b"k1:password"),
        ("no name", b":password"),
        ("a name that is no text", b"shop\xff:password"),
        ("another colon", b"sh:op:password"),
        ("a name of a key", b"__proto__:password"),
        ("a huge name", format!("{}:password", "shop".repeat(1500)).as_bytes()),
    ] {
        assert_refused(&plugin.send(bearing(credentials)), wrong, what);
    }
    assert!(plugin.send(bearing("shop:password")).sent, "and this is what they were made of");
}

#[test]
fn what_was_right_before_is_no_good_when_it_is_revoked_or_changed() {
    let host = with_consumers();
    let plugin = host.load::<BasicAuth>(r#"{"consumers": true}"#).unwrap();
    assert!(plugin.send(bearing("shop:password")).sent && plugin.send(bearing("alice:password")).sent);
    let host = host.credential(Kind::Password, "shop", SLOWER, "acme");
    assert!(!plugin.send(bearing("shop:password")).sent, "it has another one");
    assert!(plugin.send(bearing("shop:demo")).sent);
    let host = host.credential(Kind::Password, "shop", BCRYPT, "acme");
    assert!(!plugin.send(bearing("shop:demo")).sent);
    assert!(plugin.send(bearing("shop:password")).sent, "the first one again");
    host.revoke("shop");
    assert!(!plugin.send(bearing("shop:password")).sent);
    assert!(plugin.send(bearing("alice:password")).sent);
    host.revoke("acme");
    assert!(!plugin.send(bearing("alice:password")).sent);
}

/// A hash is made for each of them, of one kind or the other: which one depends on the name alone.
#[test]
fn a_name_that_nobody_has_costs_a_hash() {
    let host = with_consumers();
    let plugin =
        host.load::<BasicAuth>(&format!(r#"{{"users": ["bob:{ARGON2}"], "consumers": true}}"#)).unwrap();
    let hash = |name: &[u8]| {
        host.enter(|| {
            plugin.plugin().stored(name).map(|stored| stored.map(|stored| stored.hash.into_owned()))
        })
    };
    let names: Vec<_> =
        (0..40).map(|number| format!("user{number}")).chain(["user\u{fffd}".to_string()]).collect();
    let hashes: Vec<_> = names.iter().map(|name| hash(name.as_bytes()).unwrap().unwrap()).collect();
    let own = hashes.iter().filter(|hash| *hash == ARGON2).count();
    assert!((5..=36).contains(&own), "{own} of {}", hashes.len());
    assert!(hashes.iter().filter(|hash| *hash != ARGON2).all(|hash| hash.starts_with("$2b$04$")));
    for (name, first) in names.iter().zip(hashes) {
        assert_eq!(hash(name.as_bytes()), Ok(Some(first)));
    }
    assert!(hash(b"\xff").unwrap().is_some());
    let alone = host.load::<BasicAuth>(r#"{"consumers": true}"#).unwrap();
    assert!(host.enter(|| alone.plugin().stored(b"nobody")).is_ok_and(|stored| stored.is_some()));
}

#[test]
fn without_an_answer_it_is_503() {
    let host = with_consumers();
    let plugin = host.load::<BasicAuth>(&config(r#", "consumers": true"#)).unwrap();
    let host = host.consumers_fail(consumers::Failure::Unavailable);
    let outcome = plugin.send(bearing("shop:password"));
    assert_eq!((outcome.response().status(), outcome.code.as_deref()), (503, Some("consumers_unavailable")));
    assert!(plugin.send(bearing("alice:password")).sent, "that can be known");
    drop(host);
    let refused = Host::new().load::<BasicAuth>(r#"{"consumers": true}"#).err().unwrap().to_string();
    assert!(refused.starts_with("consumers: the plugin may not ask for these credentials"), "{refused}");
}

#[test]
fn without_credentials_one_may_be_anonymous() {
    let missing = "The request has no user name and password.";
    assert_refused(&plugin("").send(Request::get("/")), missing, "nothing");
    let more = r#", "anonymous": "guest""#;
    let outcome = plugin(more).send(Request::get("/").header("authorization", "Bearer x"));
    assert_eq!(consumer(&outcome).as_deref(), Some("guest"));
    assert!(!plugin(more).send(bearing("alice:wrong")).sent);
    let nobody = Host::new().load::<BasicAuth>(r#"{"anonymous": "guest"}"#).unwrap();
    assert!(nobody.send(Request::get("/")).sent && !nobody.send(bearing("a:b")).sent);
}

#[test]
fn one_of_several_refuses_nobody_by_itself() {
    let outcome = plugin(r#", "any": true"#).send(bearing("alice:wrong").header("x-consumer-id", "root"));
    assert_eq!((outcome.sent, consumer(&outcome)), (true, None));
    let outcome = plugin(r#", "any": true"#).send(bearing("alice:password"));
    assert_eq!(consumer(&outcome).as_deref(), Some("alice"));
}

#[test]
fn preflights_pass_unless_told_otherwise() {
    let preflight = || {
        let request = Request::new("OPTIONS", "/").header("origin", "https://a.test");
        request.header("access-control-request-method", "PUT")
    };
    assert!(plugin("").send(preflight()).sent);
    assert!(!plugin(r#", "run_on_preflight": true"#).send(preflight()).sent);
}

/// What must never pass, whatever it says. All of it looks the same from outside.
#[test]
fn attacks_fail() {
    let raw = |value: &str| Request::get("/").header("authorization", value);
    let right = STANDARD.encode("alice:password");
    for (what, request) in [
        ("a wrong password", bearing("alice:Password")),
        ("an empty password", bearing("alice:")),
        ("an unknown user", bearing("mallory:password")),
        ("an empty name", bearing(":password")),
        ("nothing but a colon", bearing(":")),
        ("another case of the name", bearing("Alice:password")),
        ("a space behind the name", bearing("alice :password")),
        ("a space behind the password", bearing("alice:password ")),
        ("no colon", bearing("alicepassword")),
        ("a colon too many", bearing("alice::password")),
        ("the hash as the password", bearing(format!("alice:{BCRYPT}"))),
        ("the line of the file", bearing(format!("alice:{BCRYPT}:password"))),
        // bcrypt goes round: it would be the same password to it.
        ("a zero byte and the password again", bearing("alice:password\0password")),
        ("a zero byte behind the name", bearing("alice\0:password")),
        ("a line behind the password", bearing("alice:password\n")),
        ("two users", bearing("alice:password\r\nbob:password")),
        ("bytes that are no text", bearing(b"alice:\xff\xfe")),
        ("a name that is no text", bearing(b"\xff:password")),
        ("a name composed in another way", bearing("ju\u{308}rgen:password")),
        ("a huge password", bearing(format!("alice:{}", "p".repeat(5000)))),
        ("a huge name", bearing(format!("{}:password", "a".repeat(5000)))),
        ("far too much", bearing("a".repeat(100_000))),
        ("nothing decoded", raw("Basic =")),
        ("no base64", raw("Basic alice:password")),
        (
            "base64 of URLs",
            raw(&format!("Basic {}", STANDARD.encode(b"alice:\xfb\xff").replace(['+', '/'], "-"))),
        ),
        ("no padding", raw("Basic YWxpY2U6cGFzc3dvcmQx".trim_end_matches('x').split_at(22).0)),
        ("something behind it", raw(&format!("Basic {right} x"))),
        ("two in one header", raw(&format!("Basic {right}, Basic {right}"))),
        ("twice, once wrong", raw(&format!("Basic {right}")).header("authorization", "Basic OnB3")),
    ] {
        let outcome = plugin("").send(request);
        assert_refused(&outcome, "The user name or the password is wrong.", what);
    }
    for (what, request) in [
        ("another header", Request::get("/").header("proxy-authorization", format!("Basic {right}"))),
        ("a header with _", Request::get("/").header("authorization_", format!("Basic {right}"))),
        ("another scheme", raw(&format!("Bearer {right}"))),
        ("no scheme", raw(&right)),
        ("a scheme that begins so", raw(&format!("Basics {right}"))),
        ("nothing behind the scheme", raw("Basic ")),
        ("the name of a consumer", Request::get("/").header("x_consumer_id", "alice")),
    ] {
        let outcome = plugin("").send(request);
        assert_refused(&outcome, "The request has no user name and password.", what);
    }
    for scheme in ["Basic", "basic", "BASIC", "Basic  "] {
        assert!(
            plugin("").send(raw(&format!("{scheme} {right}"))).sent,
            "and this is what they were made of"
        );
    }
}

#[test]
fn mistakes_are_named() {
    let name = "is empty, longer than 1024 bytes or holds a control character";
    let line = |line: &str| format!(r#"{{"users": ["a:{SHA}", "{line}"]}}"#);
    for (config, fault) in [
        ("null".to_string(), "users: none is given, so nobody could pass".to_string()),
        (line("alice"), "users[1]: is not a name and a hash with a colon between them".to_string()),
        (
            line("alice:password"),
            "users[1]: the hash is none of bcrypt, Argon2, {SHA} and $apr1$".to_string(),
        ),
        (line("alice:$2y$04$short"), "users[1]: the hash is not whole".to_string()),
        (
            line(&format!("alice:{}", BCRYPT.replace("$04", "$18"))),
            "users[1]: the hash costs too much".to_string(),
        ),
        (line(&format!(":{SHA}")), format!("users[1]: {name}")),
        (line(&format!("a:{BCRYPT}")), "users: `a` is there twice".to_string()),
        (
            r##"{"users": "# a\n\nalice"}"##.to_string(),
            "users: line 3: is not a name and a hash with a colon between them".to_string(),
        ),
        (r#"{"users": 7}"#.to_string(), "users: expected a list of lines, or a text with them".to_string()),
        (
            config(r#", "realm": "a\"b""#),
            "realm: holds a quote, a backslash or a control character".to_string(),
        ),
        (config(r#", "anonymous": """#), format!("anonymous: {name}")),
        (config(r#", "identities": {"alice": {"plan": ""}}"#), format!("identities.alice.plan: {name}")),
        (
            config(r#", "identities": {"alice": {"groups": ["a,b"]}}"#),
            "identities.alice.groups[0]: holds a comma".to_string(),
        ),
    ] {
        let refused = Host::new().load::<BasicAuth>(&config).err().expect("refused");
        assert_eq!(refused.to_string(), fault, "{config}");
    }
    let host = Host::new();
    host.load::<BasicAuth>(&format!(r#"{{"users": ["a:{BCRYPT}"], "identities": {{"b": {{}}}}}}"#)).unwrap();
    assert_eq!(host.log()[0].message, "identities.b: there is no such user");
}

#[test]
fn the_audit_is_told_why_and_no_name_that_nobody_has() {
    let more = r#", "identities": {"alice": {"consumer": "acme"}}"#;
    let alice = Identity { credential: Some("alice".to_string()), ..Identity::of("acme") };
    for (request, reason) in [
        (Request::get("/"), Why::MISSING.into()),
        (bearing("alice:wrong"), Reason::new(Why::WRONG_PASSWORD).whose(&alice)),
        (bearing("password:alice"), Why::UNKNOWN_USER.into()),
        (bearing("alice"), Why::MALFORMED.into()),
        (bearing("alice:password").header("authorization", "Basic eDp5"), Why::SEVERAL.into()),
    ] {
        assert_eq!(plugin(more).send(request).reason, Some(reason));
    }
}

#[test]
fn the_audit_is_told_whose_the_wrong_password_is() {
    let plugin = with_consumers().load::<BasicAuth>(r#"{"consumers": true}"#).unwrap();
    let reason = plugin.send(bearing("shop:guess")).reason.expect("a reason");
    assert_eq!((reason.why, reason.consumer.as_deref()), (Why::WRONG_PASSWORD, Some("acme")));
    assert_eq!(plugin.send(bearing("mallory:guess")).reason, Some(Why::UNKNOWN_USER.into()));
}

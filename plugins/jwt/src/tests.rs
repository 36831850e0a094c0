use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use wasmgate_sdk::consumers::Consumer;
use wasmgate_sdk::crypto::{Hash, hmac};
use wasmgate_sdk::http::{Answer, Failure};
use wasmgate_sdk::serde_json::{self, json};
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request};

use super::*;

const SECRET: &str = "a secret of the tests, of which nobody else knows";

/// The fake host's time: 2026-01-01.
const NOW: i64 = 1_767_225_600;

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signed with this secret, whatever the header says.
fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let tag = Host::new().enter(|| hmac(Hash::Sha256, secret, &signed));
    format!("{signed}.{}", encoded(tag))
}

fn token(claims: Value) -> String {
    signed(HS256, &claims.to_string(), SECRET.as_bytes())
}

fn good() -> Value {
    json!({"sub": "alice", "exp": NOW + 60})
}

/// The good claims with these in their place, or in addition.
fn with(claims: Value) -> String {
    let mut all = good();
    for (name, value) in claims.as_object().expect("claims") {
        all[name] = value.clone();
    }
    token(all)
}

fn plugin(more: &str) -> Loaded<Jwt> {
    let config = format!(r#"{{"issuers": [{{"secret": "{SECRET}", "algorithms": ["HS256"]}}] {more}}}"#);
    Host::new().load(&config).expect("a good config")
}

fn bearing(token: &str) -> Request {
    Request::get("/").header("authorization", format!("Bearer {token}"))
}

fn send(more: &str, token: &str) -> Outcome {
    plugin(more).send(bearing(token))
}

/// What a refusal says.
fn refusal(outcome: &Outcome) -> (u16, String, String) {
    assert!(!outcome.sent && outcome.reason.is_some());
    let response = outcome.response();
    let challenge = response.header_str("www-authenticate").unwrap_or_default();
    let detail = outcome.answer.as_ref().and_then(|answer| answer.detail.clone()).unwrap_or_default();
    (response.status(), challenge, detail)
}

#[test]
fn a_valid_token_passes_and_says_whose_it_is() {
    let claims = json!({
        "jti": "t1", "iss": "https://idp.test", "plan": "pro", "aud": ["other", "api"],
        "realm_access": {"roles": ["admin", "staff"]}, "https://a.test/x.y": 7, "nbf": NOW, "iat": NOW,
    });
    let more = r#", "groups_claim": "realm_access.roles", "plan_claim": "plan",
        "headers": {"x-roles": "realm_access.roles", "x-number": "https://a.test/x.y", "x-absent": "absent.claim"}"#;
    let request = bearing(&with(claims)).header("x-absent", "forged").header("x-consumer-id", "root");
    let outcome = plugin(more).send(request);
    assert!(outcome.sent, "{:?}", outcome.answer);
    let request = outcome.request();
    for (name, value) in [
        ("x-consumer-id", Some("alice")),
        ("x-consumer-groups", Some("admin, staff")),
        ("x-credential-identifier", Some("t1")),
        ("x-roles", Some("admin, staff")),
        ("x-number", Some("7")),
        ("x-absent", None),
        ("authorization", None),
    ] {
        assert_eq!(request.header_str(name).as_deref(), value, "{name}");
    }
    for (name, value) in
        [("consumer", "alice"), ("plan", "pro"), ("groups", "admin,staff"), ("credential", "t1")]
    {
        assert_eq!(request.var_str(name).as_deref(), Some(value), "{name}");
    }
    let claims: Value = serde_json::from_str(&request.var_str("claims").expect("the claims")).expect("JSON");
    assert_eq!(claims["iss"], "https://idp.test");
}

fn with_consumers(more: &str) -> (Host, Loaded<Jwt>) {
    let alice = Consumer {
        custom_id: Some("u-1".to_string()),
        groups: vec!["staff".to_string()],
        plan: Some("pro".to_string()),
        ..Consumer::new("alice")
    };
    let host = Host::new().consumer(alice).consumer(Consumer::new("bob"));
    let config = format!(r#"{{"issuers": [{{"secret": "{SECRET}", "algorithms": ["HS256"]}}] {more}}}"#);
    let plugin = host.load(&config).expect("a good config");
    (host, plugin)
}

#[test]
fn a_consumer_that_is_looked_up_brings_groups_and_plan() {
    let claims = r#", "groups_claim": "roles", "plan_claim": "plan""#;
    let (host, plugin) = with_consumers(&format!(r#", "consumer_lookup": "name" {claims}"#));
    let outcome =
        plugin.send(bearing(&with(json!({"roles": ["admin", "staff"], "plan": "free", "jti": "t1"}))));
    let request = outcome.request();
    for (name, value) in
        [("consumer", "alice"), ("groups", "staff,admin"), ("plan", "pro"), ("credential", "t1")]
    {
        assert_eq!(request.var_str(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(request.header_str("x-consumer-custom-id").as_deref(), Some("u-1"));
    let outcome = plugin.send(bearing(&with(json!({"sub": "bob", "plan": "free"}))));
    assert_eq!(outcome.request().var_str("plan").as_deref(), Some("free"), "the consumer has none");
    host.revoke("alice");
    assert_eq!(refusal(&plugin.send(bearing(&token(good())))).0, 401);

    let (_host, plugin) = with_consumers(r#", "consumer_lookup": "custom_id""#);
    let outcome = plugin.send(bearing(&with(json!({"sub": "u-1"}))));
    assert_eq!(outcome.request().var_str("consumer").as_deref(), Some("alice"));
}

#[test]
fn who_is_no_consumer_is_refused_as_any_bad_token_is() {
    let bad = refusal(&send("", "nonsense"));
    let (host, plugin) = with_consumers(r#", "consumer_lookup": "name""#);
    for sub in ["eve", "u-1", "ALICE", "alice ", "Alice", "alice\u{0}", "", &"x".repeat(8192)] {
        assert_eq!(refusal(&plugin.send(bearing(&with(json!({"sub": sub}))))), bad, "{sub:.20}");
    }
    for claims in [json!({"sub": ["alice", "bob"]}), json!({"sub": {"name": "alice"}}), json!({"sub": null})]
    {
        assert_eq!(refusal(&plugin.send(bearing(&with(claims)))), bad);
    }
    let (_host, by_id) = with_consumers(r#", "consumer_lookup": "custom_id""#);
    assert_eq!(refusal(&by_id.send(bearing(&token(good())))), bad, "a name is no custom_id");
    let host = host.consumers_fail(consumers::Failure::Unavailable);
    let outcome = plugin.send(bearing(&token(good())));
    assert_eq!((outcome.response().status(), outcome.code.as_deref()), (503, Some("consumers_unavailable")));
    host.consumers_fail(consumers::Failure::NotGranted);
    let config = format!(r#"{{"issuers": [{{"secret": "{SECRET}"}}], "consumer_lookup": "name"}}"#);
    let refused = Host::new().load::<Jwt>(&config).err().unwrap().to_string();
    assert!(refused.starts_with("consumer_lookup: the plugin may not ask"), "{refused}");
}

#[test]
fn tokens_stand_where_the_config_says() {
    let token = token(good());
    let more = r#", "cookie": "session", "query": "access_token""#;
    for request in [
        Request::get(&format!("/?a=b&access_token={token}")),
        Request::get("/").header("cookie", format!("a=b; session={token}")),
        Request::get("/").header("authorization", format!("BEARER   {token}")),
        // The same one twice is one.
        Request::get(&format!("/?access_token={token}")).header("authorization", format!("bearer {token}")),
    ] {
        let outcome = plugin(more).send(request);
        assert!(outcome.sent);
        let request = outcome.request();
        assert!(!request.path_with_query().contains("token") && request.header("authorization").is_none());
        assert!(!request.header_str("cookie").unwrap_or_default().contains("session"));
    }
    let kept = plugin(r#", "hide_credentials": false"#).send(bearing(&token));
    assert!(kept.request().header("authorization").is_some());
    let two = plugin(more)
        .send(bearing(&token).header("authorization", format!("Bearer {}", with(json!({"a": 1})))));
    assert_eq!(refusal(&two).2, "The request has more than one token.");
    assert_eq!(refusal(&two).0, 401);
}

#[test]
fn refusals_are_those_of_rfc_6750() {
    let missing = plugin("").send(Request::get("/"));
    assert_eq!(refusal(&missing).0, 401);
    assert_eq!(refusal(&missing).1, "Bearer realm=\"gateway\"", "no error where nothing was sent");
    let invalid = send("", "x");
    let said =
        "Bearer realm=\"gateway\", error=\"invalid_token\", error_description=\"The token is not valid.\"";
    assert_eq!(refusal(&invalid), (401, said.to_string(), "The token is not valid.".to_string()));
    assert_eq!(refusal(&send("", &with(json!({"exp": NOW - 31})))).2, "The token is not valid.");
    let more = r#", "scopes": ["read", "write"], "realm": "api""#;
    let insufficient = send(more, &with(json!({"scope": "read"})));
    let said = "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"read write\"";
    assert_eq!(refusal(&insufficient), (403, said.to_string(), "The token does not allow this.".to_string()));
    for outcome in [&missing, &invalid, &insufficient] {
        assert!(outcome.response_body.is_empty(), "the gateway writes the body");
    }
}

#[test]
fn nobody_and_preflights_pass_where_they_may() {
    let more = r#", "anonymous": "guest""#;
    let outcome = plugin(more).send(Request::get("/"));
    assert_eq!(outcome.request().header_str("x-anonymous-consumer").as_deref(), Some("true"));
    assert_eq!(outcome.request().var_str("consumer").as_deref(), Some("guest"));
    assert!(!send(more, "wrong").sent, "a wrong token is none the less wrong");
    let asks = || {
        let request = Request::new("OPTIONS", "/").header("origin", "https://a.test");
        request.header("access-control-request-method", "PUT")
    };
    assert!(plugin("").send(asks()).sent);
    assert!(!plugin(r#", "run_on_preflight": true"#).send(asks()).sent);
}

#[test]
fn claims_have_to_be_what_is_asked_for() {
    let audience = |aud: Value| {
        let config = format!(
            r#"{{"issuers": [{{"secret": "{SECRET}", "algorithms": ["HS256"], "audiences": ["api", "web"], "iss": "me"}}]}}"#
        );
        let plugin = Host::new().load::<Jwt>(&config).expect("a good config");
        plugin.send(bearing(&with(json!({"aud": aud, "iss": "me"})))).sent
    };
    assert!(audience(json!("web")) && audience(json!(["x", "api"])));
    for aud in [json!("other"), json!([]), json!({"api": 1}), json!(7), json!(["API"]), Value::Null] {
        assert!(!audience(aud.clone()), "{aud}");
    }
    for (rule, claims, expected) in [
        (r#""required_claims": {"a": true}"#, json!({"a": null}), false),
        (r#""required_claims": {"a": true}"#, json!({"a": false}), false),
        (r#""required_claims": {"a": true}"#, json!({"a": 0}), true),
        (r#""required_claims": {"a": true}"#, json!({}), false),
        (r#""required_claims": {"a.b": ["x", "y"]}"#, json!({"a": {"b": "y"}}), true),
        (r#""required_claims": {"a.b": ["x", "y"]}"#, json!({"a": {"b": ["z", "x"]}}), true),
        (r#""required_claims": {"a.b": ["x", "y"]}"#, json!({"a": {"b": "z"}}), false),
        (r#""required_claims": {"a.b": 7}"#, json!({"a.b": 7}), true),
        (r#""required_claims": {"a": "x"}"#, json!({"a": "X"}), false),
        (r#""scopes": ["a", "b"]"#, json!({"scope": "c b a"}), true),
        (r#""scopes": ["a", "b"]"#, json!({"scp": ["a", "b"]}), true),
        (r#""scopes": ["a", "b"]"#, json!({"scope": "ab"}), false),
        (r#""any_scope": ["a", "b"]"#, json!({"scope": "b"}), true),
        (r#""any_scope": ["a", "b"]"#, json!({}), false),
    ] {
        assert_eq!(send(&format!(", {rule}"), &with(claims.clone())).sent, expected, "{rule} {claims}");
    }
}

#[test]
fn one_of_several_refuses_nobody_by_itself() {
    let more = r#", "any": true, "headers": {"x-role": "role"}"#;
    for request in [Request::get("/"), bearing("x"), bearing(&with(json!({"role": "a\nb"})))] {
        let outcome = plugin(more).send(request.header("x-consumer-id", "root").header("x-role", "root"));
        assert!(outcome.sent);
        for name in ["x-consumer-id", "x-role"] {
            assert_eq!(outcome.request().header(name), None, "{name}");
        }
        assert_eq!(outcome.request().var("consumer"), None);
    }
    let outcome = plugin(more).send(bearing(&with(json!({"role": "user"}))).header("x-role", "root"));
    assert_eq!(outcome.request().header_all("x-role"), [b"user"]);
    assert_eq!(outcome.request().var_str("consumer").as_deref(), Some("alice"));
}

#[test]
fn claims_may_stand_in_place_of_the_consumer_s_name() {
    let more = r#", "headers": {"x-consumer-username": "name"}"#;
    let outcome = plugin(more).send(bearing(&with(json!({"name": "Alice A."}))));
    assert_eq!(outcome.request().header_str("x-consumer-username").as_deref(), Some("Alice A."));
    assert_eq!(outcome.request().header_str("x-consumer-id").as_deref(), Some("alice"));
}

#[test]
fn times_are_looked_at() {
    for (more, claims, expected) in [
        ("", json!({"exp": NOW + 1}), true),
        ("", json!({"exp": NOW - 29}), true),
        ("", json!({"exp": NOW - 30}), false),
        ("", json!({"exp": f64::from(NOW as u32) + 0.5}), true),
        ("", json!({"nbf": NOW + 30}), true),
        ("", json!({"nbf": NOW + 31}), false),
        ("", json!({"iat": NOW + 31}), false),
        (r#", "leeway": "0s""#, json!({"exp": NOW}), false),
        (r#", "max_lifetime": "1h""#, json!({"iat": NOW, "exp": NOW + 3600}), true),
        (r#", "max_lifetime": "1h""#, json!({"iat": NOW, "exp": NOW + 3601}), false),
        (r#", "max_lifetime": "1h""#, json!({}), false),
        ("", json!({"exp": "2099"}), false),
        ("", json!({"exp": null}), false),
        ("", json!({"exp": [NOW + 9]}), false),
        ("", json!({"nbf": true}), false),
        ("", json!({"exp": -1}), false),
    ] {
        assert_eq!(send(more, &with(claims.clone())).sent, expected, "{more} {claims}");
    }
    let endless = token(json!({"sub": "alice"}));
    assert!(!send("", &endless).sent);
    assert!(send(r#", "require_exp": false"#, &endless).sent);
}

#[test]
fn revoked_tokens_do_not_pass() {
    for list in [r#"["t0", "t1"]"#, r#""t2\n t1 \n\nt0""#] {
        let more = format!(r#", "revoked": {list}"#);
        assert!(!send(&more, &with(json!({"jti": "t1"}))).sent);
        assert!(send(&more, &with(json!({"jti": "t9"}))).sent);
        assert!(send(&more, &token(good())).sent);
    }
}

/// What must never pass, whatever it says.
#[test]
fn attacks_fail() {
    let claims = good().to_string();
    let head = |header: &str| signed(header, &claims, SECRET.as_bytes());
    let body = |claims: &str| signed(HS256, claims, SECRET.as_bytes());
    let whole = token(good());
    let (front, tail) = whole.rsplit_once('.').expect("three parts");
    let (first, middle) = front.split_once('.').expect("two parts");
    let nested =
        format!(r#"{{"sub":"alice","exp":{},"a":{}1{}}}"#, NOW + 60, "[".repeat(3000), "]".repeat(3000));
    let deep = format!(r#"{{"sub":"alice","exp":{},"a":{}1{}}}"#, NOW + 60, "[".repeat(16), "]".repeat(16));
    for (what, token) in [
        ("none", head(r#"{"alg":"none"}"#)),
        ("none, as some write it", head(r#"{"alg":"nOnE"}"#)),
        ("none, without a signature", format!("{}.{middle}.", encoded(r#"{"alg":"none"}"#))),
        ("no signature", format!("{front}.")),
        ("no signature, two parts", front.to_string()),
        ("another algorithm of the same kind", head(r#"{"alg":"HS512"}"#)),
        ("another kind of algorithm", head(r#"{"alg":"RS256"}"#)),
        ("the algorithm in lower case", head(r#"{"alg":"hs256"}"#)),
        ("the algorithm in a list", head(r#"{"alg":["HS256"]}"#)),
        ("no algorithm", head(r#"{"typ":"JWT"}"#)),
        ("two algorithms", head(r#"{"alg":"none","alg":"HS256"}"#)),
        (
            "a key of its own",
            signed(
                &format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, encoded([7; 32])),
                &claims,
                &[7; 32],
            ),
        ),
        (
            "an address of keys",
            signed(r#"{"alg":"HS256","jku":"https://evil.test/keys"}"#, &claims, &[7; 32]),
        ),
        (
            "a certificate's address",
            signed(r#"{"alg":"HS256","x5u":"https://evil.test/c"}"#, &claims, &[7; 32]),
        ),
        ("a file as key", signed(r#"{"alg":"HS256","kid":"../../dev/null"}"#, &claims, b"")),
        ("a query as key", signed(r#"{"alg":"HS256","kid":"x' UNION SELECT 'a"}"#, &claims, b"a")),
        ("a number as key", head(r#"{"alg":"HS256","kid":7}"#)),
        ("an empty secret", signed(HS256, &claims, b"")),
        ("what has to be understood", head(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#)),
        ("an empty crit", head(r#"{"alg":"HS256","crit":[]}"#)),
        ("a payload that is not encoded", head(r#"{"alg":"HS256","b64":false}"#)),
        ("another kind of token", head(r#"{"alg":"HS256","typ":"logout+jwt"}"#)),
        ("an encrypted one", "a.b.c.d.e".to_string()),
        ("claims that stand twice", body(&format!(r#"{{"sub":"root","sub":"alice","exp":{}}}"#, NOW + 60))),
        (
            "claims that stand twice, below",
            body(&format!(r#"{{"sub":"alice","exp":{},"a":{{"b":1,"b":2}}}}"#, NOW + 60)),
        ),
        ("claims that are a list", body("[1]")),
        ("claims that are no JSON", body("sub=alice")),
        ("something behind the claims", body(&format!("{claims} {{}}"))),
        ("claims that are not UTF-8", {
            let signed = format!("{first}.{}", encoded(b"{\"sub\":\"\xff\"}"));
            let tag = Host::new().enter(|| hmac(Hash::Sha256, SECRET, &signed));
            format!("{signed}.{}", encoded(tag))
        }),
        ("claims thousands deep", body(&nested)),
        ("claims too deep", body(&deep)),
        (
            "a huge one",
            body(&format!(r#"{{"sub":"alice","exp":{},"a":"{}"}}"#, NOW + 60, "x".repeat(20_000))),
        ),
        ("padding", format!("{front}.{tail}=")),
        ("the other alphabet", format!("{front}.{}", tail.replace(['-', '_'], "+") + "+")),
        ("spaces", format!("{first}. {middle}.{tail}")),
        ("another part", format!("{whole}.{tail}")),
        (
            "another payload",
            format!("{first}.{}.{tail}", encoded(json!({"sub": "root", "exp": NOW + 60}).to_string())),
        ),
        ("another header", format!("{}.{middle}.{tail}", encoded(r#"{"alg":"HS256"}"#))),
        ("a shortened signature", format!("{front}.{}", &tail[..tail.len() - 4])),
        ("no subject", token(json!({"exp": NOW + 60}))),
        ("an empty subject", with(json!({"sub": ""}))),
        ("a subject of two lines", with(json!({"sub": "alice\r\nx-admin: 1"}))),
    ] {
        let outcome = send("", &token);
        assert!(!outcome.sent, "{what}");
        assert!(outcome.error.is_none(), "{what}: {:?}", outcome.error);
        assert_eq!(outcome.response().status(), 401, "{what}");
        assert_eq!(outcome.request().var("consumer"), None, "{what}");
    }
    assert!(send("", &whole).sent, "and this is what they were made of");
}

/// RFC 7515, appendices A.1 to A.3; the first is RFC 7519, section 3.1, too. They have expired in 2011.
#[test]
fn the_tokens_of_the_rfcs_are_valid() {
    const PAYLOAD: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let rows = [
        (
            "HS256",
            r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            "RS256",
            r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "ES256",
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ];
    for (algorithm, jwk, header, signature) in rows {
        let config = format!(
            r#"{{"issuers": [{{"algorithms": ["{algorithm}"], "iss": "joe", "jwks": {{"keys": [{jwk}]}}}}],
                "leeway": "10000d", "consumer_claims": ["iss"]}}"#
        );
        let jwt = Host::new().load::<Jwt>(&config).expect("a good config");
        assert!(jwt.send(bearing(&format!("{header}.{PAYLOAD}.{signature}"))).sent, "{algorithm}");
        let other = format!("AAAA{}", &signature[4..]);
        assert!(!jwt.send(bearing(&format!("{header}.{PAYLOAD}.{other}"))).sent, "{algorithm}");
    }
}

/// RFC 7515, appendices A.4, A.5 and E, RFC 7519, section 6.1 and appendices A.1 and A.2, RFC 7520, section 4.4: signatures or not,
/// none of them is a signed token.
#[test]
fn what_is_no_token_in_the_rfcs_is_refused() {
    let keys = [
        r#"{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#,
        r#"{"kty":"oct","k":"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"}"#,
    ];
    let config = format!(
        r#"{{"issuers": [{{"algorithms": ["ES512", "HS256"], "jwks": {{"keys": [{}]}}}}],
            "require_exp": false, "leeway": "10000d", "consumer_claims": ["iss"]}}"#,
        keys.join(",")
    );
    let jwt = Host::new().load::<Jwt>(&config).expect("a good config");
    for (what, token) in [
        (
            "RFC 7515, A.4: its payload is no JSON",
            "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
        ),
        (
            "RFC 7515, A.5, and RFC 7519, 6.1: it is not signed",
            "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.",
        ),
        (
            "RFC 7515, E: it asks for what nobody understands",
            "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0.RkFJTA.",
        ),
        (
            "RFC 7519, A.1: it is encrypted",
            "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.QR1Owv2ug2WyPBnbQrRARTeEk9kDO2w8qDcjiHnSJflSdv1iNqhWXaKH4MqAkQtMoNfABIPJaZm0HaA415sv3aeuBWnD8J-Ui7Ah6cWafs3ZwwFKDFUUsWHSK-IPKxLGTkND09XyjORj_CHAgOPJ-Sd8ONQRnJvWn_hXV1BNMHzUjPyYwEsRhDhzjAD26imasOTsgruobpYGoQcXUwFDn7moXPRfDE8-NoQX7N7ZYMmpUDkR-Cx9obNGwJQ3nM52YCitxoQVPzjbl7WBuB7AohdBoZOdZ24WlN1lVIeh8v1K4krB8xgKvRU8kgFrEn_a1rZgN5TiysnmzTROF869lQ.AxY8DCtDaGlsbGljb3RoZQ.MKOle7UQrG6nSxTLX6Mqwt0orbHvAKeWnDYvpIAeZ72deHxz3roJDXQyhxx0wKaMHDjUEOKIwrtkHthpqEanSBNYHZgmNOV7sln1Eu9g3J8.fiK51VwhsxJ-siBMR-YFiA",
        ),
        (
            "RFC 7519, A.2: it is encrypted",
            "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2IiwiY3R5IjoiSldUIn0.g_hEwksO1Ax8Qn7HoN-BVeBoa8FXe0kpyk_XdcSmxvcM5_P296JXXtoHISr_DD_MqewaQSH4dZOQHoUgKLeFly-9RI11TG-_Ge1bZFazBPwKC5lJ6OLANLMd0QSL4fYEb9ERe-epKYE3xb2jfY1AltHqBO-PM6j23Guj2yDKnFv6WO72tteVzm_2n17SBFvhDuR9a2nHTE67pe0XGBUS_TK7ecA-iVq5COeVdJR4U4VZGGlxRGPLRHvolVLEHx6DYyLpw30Ay9R6d68YCLi9FYTq3hIXPK_-dmPlOUlKvPr1GgJzRoeC9G5qCvdcHWsqJGTO_z3Wfo5zsqwkxruxwA.UmVkbW9uZCBXQSA5ODA1Mg.VwHERHPvCNcHHpTjkoigx3_ExK0Qc71RMEParpatm0X_qpg-w8kozSjfNIPPXiTBBLXR65CIPkFqz4l1Ae9w_uowKiwyi9acgVztAi-pSL8GQSXnaamh9kX1mdh3M_TT-FZGQFQsFhu0Z72gJKGdfGE-OE7hS1zuBD5oEUfk0Dmb0VzWEzpxxiSSBbBAzP10l56pPfAtrjEYw-7ygeMkwBl6Z_mLS6w6xUgKlvW6ULmkV-uLC4FUiyKECK4e3WZYKw1bpgIqGYsw2v_grHjszJZ-_I5uM-9RA8ycX9KqPRp9gc6pXmoU_-27ATs9XCvrZXUtK2902AUzqpeEUJYjWWxSNsS-r1TJ1I-FMJ4XyAiGrfmo9hQPcNBYxPz3GQb28Y5CLSQfNgKSGt0A4isp1hBUXBHAndgtcslt7ZoQJaKe_nNJgNliWtWpJ_ebuOpEl8jdhehdccnRMIwAmU1n7SPkmhIl1HlSOpvcvDfhUN5wuqU955vOBvfkBOh5A11UzBuo2WlgZ6hYi9-e3w29bR0C2-pp3jbqxEDw3iWaf2dc5b-LnR0FEYXvI_tYk5rd_J9N0mg0tQ6RbpxNEMNoA9QWk5lgdPvbh9BaO195abQ.AVO9iT5AV4CzvDJCdhSFlQ",
        ),
        (
            "RFC 7520, 4.4: its payload is no JSON",
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4.s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
        ),
    ] {
        let refused = refusal(&jwt.send(bearing(token)));
        assert_eq!((refused.0, &*refused.2), (401, "The token is not valid."), "{what}");
    }
}

/// RFC 7517, appendix A.1: of its keys one is for encryption, and the other one for RS256.
#[test]
fn the_set_of_the_rfc_is_one() {
    let set = r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use": "enc", "kid": "1"}, {"kty": "RSA", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}]}"#;
    let config =
        |algorithm: &str| format!(r#"{{"issuers": [{{"algorithms": ["{algorithm}"], "jwks": {set}}}]}}"#);
    assert!(Host::new().load::<Jwt>(&config("RS256")).is_ok());
    for algorithm in ["ES256", "RS512", "PS256"] {
        assert!(Host::new().load::<Jwt>(&config(algorithm)).is_err(), "{algorithm}");
    }
}

/// A set with these keys, whose secrets are their names, long enough.
fn set(kids: &[&str]) -> String {
    let keys: Vec<Value> = kids
        .iter()
        .map(|kid| json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": encoded(secret_of(kid))}))
        .collect();
    json!({"keys": keys}).to_string()
}

fn secret_of(kid: &str) -> String {
    kid.repeat(32)
}

fn signed_by(kid: &str) -> String {
    let header = json!({"alg": "HS256", "kid": kid}).to_string();
    let claims = json!({"sub": "alice", "exp": NOW + 1_000_000}).to_string();
    signed(&header, &claims, secret_of(kid).as_bytes())
}

/// An issuer whose answers change.
struct Idp {
    host: Host,
    says: Rc<RefCell<Result<Answer, Failure>>>,
    asked: Rc<Cell<usize>>,
}

impl Idp {
    fn new(kids: &[&str]) -> Idp {
        let (says, asked) = (Rc::new(RefCell::new(answer(&set(kids)))), Rc::new(Cell::new(0)));
        let (said, count) = (says.clone(), asked.clone());
        let host = Host::new().answer(move |call| {
            assert_eq!((&*call.upstream, &*call.path_with_query), ("idp", "/jwks.json"));
            count.set(count.get() + 1);
            said.borrow().clone()
        });
        Idp { host, says, asked }
    }

    fn plugin(&self) -> Loaded<Jwt> {
        let remote =
            r#"{"upstream": "idp", "path": "/jwks.json", "ttl": "10m", "stale": "1h", "min_refresh": "10s"}"#;
        let config = format!(r#"{{"issuers": [{{"algorithms": ["HS256"], "remote": {remote}}}]}}"#);
        self.host.load(&config).expect("a good config")
    }

    fn says(&self, says: Result<Answer, Failure>) {
        *self.says.borrow_mut() = says;
    }
}

fn answer(body: &str) -> Result<Answer, Failure> {
    Ok(Answer { body: body.into(), ..Answer::new(200) })
}

#[test]
fn keys_are_fetched_once_and_again_when_they_change() {
    let idp = Idp::new(&["a"]);
    let jwt = idp.plugin();
    let status = |kid| jwt.send(bearing(&signed_by(kid))).response().status();
    assert_eq!([status("a"), status("a")], [200, 200]);
    assert_eq!(idp.asked.get(), 1);
    // A kid that nobody knows makes one fetch in ten seconds, however many ask.
    assert_eq!([status("b"), status("b"), status("c")], [401, 401, 401]);
    assert_eq!(idp.asked.get(), 1, "they have just been fetched");
    idp.says(answer(&set(&["a", "b"])));
    idp.host.advance(Duration::from_secs(11));
    assert_eq!([status("b"), status("b"), status("c"), status("a")], [200, 200, 401, 200]);
    assert_eq!(idp.asked.get(), 2);
    // Another instance takes them over.
    assert_eq!(idp.plugin().send(bearing(&signed_by("b"))).response().status(), 200);
    assert_eq!(idp.asked.get(), 2);
    // What is gone is no longer believed.
    idp.says(answer(&set(&["b"])));
    idp.host.advance(Duration::from_secs(700));
    assert_eq!([status("a"), status("b")], [401, 200]);
}

#[test]
fn known_keys_go_on_while_the_issuer_is_down() {
    let idp = Idp::new(&["a"]);
    let jwt = idp.plugin();
    let status = |kid| jwt.send(bearing(&signed_by(kid))).response().status();
    assert_eq!(status("a"), 200);
    for says in [Err(Failure::Unreachable), Ok(Answer::new(500)), Ok(Answer::new(404))] {
        idp.says(says);
        idp.host.advance(Duration::from_secs(700));
        assert_eq!([status("a"), status("b")], [200, 401]);
    }
    idp.host.advance(Duration::from_secs(3600));
    assert_eq!([status("a"), status("b")], [503, 503], "never 200");
    idp.says(answer(&set(&["a"])));
    idp.host.advance(Duration::from_secs(11));
    assert_eq!(status("a"), 200);
}

#[test]
fn answers_that_are_no_keys_are_of_no_use() {
    let idp = Idp::new(&["a"]);
    let jwt = idp.plugin();
    let status = |kid| jwt.send(bearing(&signed_by(kid))).response().status();
    assert_eq!(status("a"), 200);
    idp.says(answer("<html>soon</html>"));
    idp.host.advance(Duration::from_secs(700));
    assert_eq!(status("a"), 200, "what there was is still there");
    assert!(idp.host.log().iter().any(|line| line.message.contains("no JWK Set")));
}

#[test]
fn configs_that_cannot_be_meant_are_refused() {
    let public = r#"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"#;
    let issuer = |inner: &str| format!(r#"{{"issuers": [{{{inner}}}]}}"#);
    for (config, fault) in [
        (r#"{"issuers": []}"#.to_string(), "issuers: none is given, so nobody could pass"),
        (issuer(""), "issuers[0].jwks: exactly one of jwks, remote, public_key and secret has to be given"),
        (
            issuer(r#""secret": "a", "public_key": "b""#),
            "issuers[0].jwks: exactly one of jwks, remote, public_key and secret has to be given",
        ),
        (
            issuer(&format!(r#""secret": "{public}", "algorithms": ["HS256"]"#)),
            "issuers[0].secret: a public key or certificate, or a JWK, is no secret",
        ),
        (
            issuer(r#""secret": "short", "algorithms": ["HS256"]"#),
            "issuers[0].secret: the secret has 5 bytes, and at least 32 are needed",
        ),
        (
            issuer(&format!(r#""secret": "{SECRET}""#)),
            "issuers[0].secret: the key is a secret, which is not one for RS256",
        ),
        (
            issuer(&format!(r#""public_key": "{public}", "algorithms": ["EdDSA", "HS256"]"#)),
            "issuers[0].public_key: the key is Ed25519, which is not one for HS256",
        ),
        (issuer(r#""jwks": {"keys": []}"#), "issuers[0].jwks: is no JWK Set with a key for these algorithms"),
        (issuer(r#""jwks": "x""#), "issuers[0].jwks: is no JWK Set with a key for these algorithms"),
        (
            issuer(&format!(r#""secret": "{SECRET}", "algorithms": []"#)),
            "issuers[0].algorithms: none is given, so nobody could pass",
        ),
        (
            issuer(r#""remote": {"upstream": "a", "path": "b"}"#),
            "issuers[0].remote.path: has to begin with /",
        ),
    ] {
        let refused = Host::new().load::<Jwt>(&config).err().expect("refused");
        assert_eq!(refused.to_string(), fault, "{config}");
    }
    let remote = issuer(r#""remote": {"upstream": "a", "path": "/b"}"#);
    let refused = Host::new().load::<Jwt>(&remote).err().expect("refused").to_string();
    assert!(refused.starts_with("issuers[0].remote.upstream: the plugin may not call \"a\": "), "{refused}");
    let none = issuer(&format!(r#""secret": "{SECRET}", "algorithms": ["none"]"#));
    let refused = Host::new().load::<Jwt>(&none).err().expect("refused").to_string();
    assert!(refused.contains("unknown variant `none`"), "{refused}");
}

#[test]
fn the_audit_is_told_why() {
    let (front, signature) =
        token(good()).rsplit_once('.').map(|(a, b)| (a.to_string(), b.to_string())).unwrap();
    let forged = format!("{front}.{}", signature.chars().rev().collect::<String>());
    let of_alice = |claims: Value| with(claims);
    for (more, token, why, consumer) in [
        ("", "x".to_string(), Why::MALFORMED, None),
        ("", forged, Why::SIGNATURE, None),
        ("", signed(r#"{"alg":"none"}"#, "{}", b""), Why::ALGORITHM, None),
        ("", signed(r#"{"alg":"HS512"}"#, "{}", b""), Why::ALGORITHM, None),
        ("", of_alice(json!({"exp": NOW - 31})), Why::EXPIRED, Some("alice")),
        ("", of_alice(json!({"nbf": NOW + 31})), Why::NOT_YET, Some("alice")),
        (r#", "max_lifetime": "1h""#, of_alice(json!({"iat": 0})), Why::LIFETIME, Some("alice")),
        (r#", "revoked": ["t1"]"#, of_alice(json!({"jti": "t1"})), Why::REVOKED, Some("alice")),
        (r#", "scopes": ["read"]"#, token(good()), Why::SCOPE, Some("alice")),
        (r#", "required_claims": {"a": 1}"#, token(good()), Why::CLAIMS, Some("alice")),
        (r#", "consumer_claims": ["name"]"#, token(good()), Why::NO_CONSUMER, None),
    ] {
        let reason = send(more, &token).reason.expect("a reason");
        assert_eq!((reason.why, reason.consumer.as_deref()), (why, consumer), "{more}");
        assert!(reason.credential.is_none_or(|id| id == "t1"));
    }
    let config = format!(
        r#"{{"issuers": [{{"secret": "{SECRET}", "algorithms": ["HS256"], "iss": "me", "audiences": ["api"]}}]}}"#
    );
    let plugin = Host::new().load::<Jwt>(&config).unwrap();
    for (claims, why) in [(json!({"iss": "you"}), Why::ISSUER), (json!({"iss": "me"}), Why::AUDIENCE)] {
        assert_eq!(plugin.send(bearing(&with(claims))).reason.map(|reason| reason.why), Some(why));
    }
    let (host, plugin) = with_consumers(r#", "consumer_lookup": "custom_id""#);
    let why = |outcome: Outcome| outcome.reason.map(|reason| reason.why);
    assert_eq!(why(plugin.send(bearing(&token(good())))), Some(Why::UNKNOWN_CONSUMER));
    let _host = host.consumers_fail(consumers::Failure::Unavailable);
    assert_eq!(why(plugin.send(bearing(&token(good())))), Some(Why::UNAVAILABLE));
    assert_eq!(why(plugin.send(Request::get("/"))), Some(Why::MISSING));
}

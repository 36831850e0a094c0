use std::time::Duration;

use wasmgate_sdk::consumers::{self, Consumer, Kind};
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request};

use super::*;

/// The fake host's time: Thu, 01 Jan 2026 00:00:00 GMT.
const NOW: i64 = 1_767_225_600;
const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

const SECRET: &str = "a secret of the tests";

fn config(more: &str) -> String {
    format!(
        r#"{{"credentials": [
            {{"id": "k1", "secret": "{SECRET}", "consumer": "alice", "groups": ["a", "b"], "plan": "pro"}},
            {{"id": "k2", "secret": "base64:AAECAwQFBgcICQoLDA0ODw==", "consumer": "bob"}}
        ] {more}}}"#
    )
}

fn plugin(more: &str) -> Loaded<HmacAuth> {
    Host::new().load(&config(more)).expect("a good config")
}

fn send(more: &str, request: Request) -> Outcome {
    plugin(more).send(request)
}

fn status(more: &str, request: Request) -> u16 {
    send(more, request).response().status()
}

fn mac(hash: Hash, secret: impl AsRef<[u8]>, text: &str) -> String {
    STANDARD.encode(Host::new().enter(|| crypto::hmac(hash, secret, text)))
}

fn sha256(body: &str) -> String {
    STANDARD.encode(Host::new().enter(|| crypto::digest(Hash::Sha256, body)))
}

/// The request with a signature of Alice's over these components, as she knows them.
fn signed(request: Request, components: &[(&str, &str)], params: &str) -> Request {
    let names: Vec<_> = components.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let params = format!("({}){params}", names.join(" "));
    let lines: String = components.iter().map(|(name, value)| format!("\"{name}\": {value}\n")).collect();
    let signature = mac(Hash::Sha256, SECRET, &format!("{lines}\"@signature-params\": {params}"));
    request
        .header("signature-input", format!("sig={params}"))
        .header("signature", format!("sig=:{signature}:"))
}

fn params(more: &str) -> String {
    format!(";created={NOW};keyid=\"k1\"{more}")
}

/// What she signs by default.
const USUAL: [(&str, &str); 2] = [("@method", "GET"), ("@target-uri", "http://localhost/a?b=c")];

fn get() -> Request {
    Request::get("/a?b=c")
}

fn usual(more: &str) -> Request {
    signed(get(), &USUAL, &params(more))
}

/// Authorization as Kong and APISIX have it, signed by Alice over this text.
fn authorization(by: &str, headers: &str, text: &str) -> String {
    let signature = mac(Hash::Sha256, SECRET, text);
    format!(r#"{by}="k1", algorithm="hmac-sha256", headers="{headers}", signature="{signature}""#)
}

const LINES: &str = "date: Thu, 01 Jan 2026 00:00:00 GMT\nGET /a?b=c HTTP/1.1";

fn legacy() -> Request {
    let authorization = authorization("username", "date request-line", LINES);
    get().header("date", DATE).header("authorization", format!("hmac {authorization}"))
}

fn assert_refused(outcome: &Outcome, what: &str) {
    assert!(outcome.error.is_none(), "{what}: {:?}", outcome.error);
    assert!(!outcome.sent && outcome.reason.is_some(), "{what}");
    assert_eq!(outcome.response().status(), 401, "{what}");
    let detail = outcome.answer.as_ref().and_then(|answer| answer.detail.as_deref());
    assert_eq!(detail, Some("The signature is not valid."), "{what}");
}

#[test]
fn a_signed_request_passes_and_says_whose_it_is() {
    for request in [usual(""), legacy()] {
        let outcome = send("", request.header("x-consumer-id", "root"));
        assert!(outcome.sent, "{:?}", outcome.answer);
        let request = outcome.request();
        for (name, value) in [
            ("x-consumer-id", Some("alice")),
            ("x-consumer-groups", Some("a, b")),
            ("x-credential-identifier", Some("k1")),
            ("signature", None),
            ("signature-input", None),
            ("authorization", None),
        ] {
            assert_eq!(request.header_str(name).as_deref(), value, "{name}");
        }
        assert_eq!(request.var_str("plan").as_deref(), Some("pro"));
    }
    let kept = send(r#", "hide_credentials": false"#, usual(""));
    assert!(
        kept.request().header("signature").is_some() && kept.request().header("signature-input").is_some()
    );
    let other = send("", usual("").header("authorization", "Basic dTpw"));
    assert!(other.request().header("authorization").is_some(), "that is not the signature");
}

/// RFC 9421, appendix B.2.5.
#[test]
fn the_signature_of_the_rfc_is_valid() {
    let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    let config = format!(
        r#"{{"credentials": [{{"id": "test-shared-secret", "secret": "base64:{secret}", "consumer": "alice"}}],
            "required_components": ["@authority"], "clock_skew": "5000d", "replay": false}}"#
    );
    let plugin = Host::new().load::<HmacAuth>(&config).expect("a good config");
    let request = |content_type: &str| {
        Request::post("/foo?param=Value&Pet=dog", r#"{"hello": "world"}"#)
            .authority("example.com")
            .header("date", "Tue, 20 Apr 2021 02:07:55 GMT")
            .header("content-type", content_type)
            .header(
                "signature-input",
                r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
            )
            .header("signature", "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:")
    };
    assert!(plugin.send(request("application/json")).sent);
    assert_refused(&plugin.send(request("text/plain")), "another type");
}

#[test]
fn components_are_those_of_the_rfc() {
    for (components, expected) in [
        (&[("@method", "POST"), ("@target-uri", "https://api.test/a%20b?c=%20")][..], 200),
        (&[("@method", "POST"), ("@authority", "api.test"), ("@path", "/a%20b"), ("@query", "?c=%20")], 200),
        (&[("@method", "POST"), ("@authority", "api.test"), ("@request-target", "/a%20b?c=%20")], 200),
        (&[("@method", "POST"), ("@target-uri", "https://api.test/a%20b?c=%20"), ("@scheme", "https")], 200),
        (
            &[("@method", "POST"), ("@target-uri", "https://api.test/a%20b?c=%20"), ("host", "API.test:443")],
            200,
        ),
        (&[("@method", "POST"), ("@target-uri", "https://api.test/a%20b?c=%20"), ("x-a", "1, 2,, 3 4")], 200),
        (&[("@method", "POST"), ("@target-uri", "https://api.test:443/a%20b?c=%20")], 401),
        (&[("@method", "POST"), ("@authority", "api.test"), ("@path", "/a%20b")], 401),
        (&[("@method", "POST"), ("@request-target", "/a%20b?c=%20")], 401),
        (&[("@method", "POST"), ("@target-uri", "https://api.test/a%20b?c=%20"), ("x-a", "1")], 401),
    ] {
        let request = Request::new("POST", "/a%20b?c=%20").authority("API.test:443");
        let request = request.header("x-a", " 1").header("x-a", "2, ").header("x-a", "3 4\t");
        let request = signed(request, components, &params(""));
        assert_eq!(status(r#", "scheme": "https""#, request), expected, "{components:?}");
    }
    let no_query = signed(Request::get("/"), &[("@path", "/"), ("@query", "?")], &params(""));
    assert_eq!(status(r#", "required_components": ["@path", "@query"]"#, no_query), 200);
}

#[test]
fn without_a_signature_it_is_401_with_a_challenge() {
    for (more, challenge) in [
        ("", "Signature realm=\"gateway\""),
        (r#", "forms": ["legacy"], "realm": "api""#, "hmac realm=\"api\""),
    ] {
        for request in
            [get(), get().header("authorization", "Bearer x"), get().header("authorization", "hmac")]
        {
            let outcome = send(more, request);
            assert!(!outcome.sent && outcome.response_body.is_empty());
            assert_eq!(
                (outcome.response().status(), outcome.code.as_deref()),
                (401, Some("unauthenticated"))
            );
            assert_eq!(outcome.response().header_str("www-authenticate").as_deref(), Some(challenge));
            let detail = outcome.answer.as_ref().and_then(|answer| answer.detail.as_deref());
            assert_eq!(detail, Some("The request has no signature."));
        }
    }
}

#[test]
fn nobody_and_preflights_pass_where_they_may() {
    let more = r#", "anonymous": "guest""#;
    let outcome = send(more, get());
    assert_eq!(outcome.request().header_str("x-anonymous-consumer").as_deref(), Some("true"));
    assert_eq!(outcome.request().var_str("consumer").as_deref(), Some("guest"));
    assert_refused(&send(more, usual(";alg=\"\"")), "a wrong signature is none the less wrong");
    let asks = || {
        let request = Request::new("OPTIONS", "/").header("origin", "https://a.test");
        request.header("access-control-request-method", "PUT")
    };
    assert!(send("", asks()).sent);
    assert!(!send(r#", "run_on_preflight": true"#, asks()).sent);
}

/// What must never pass: changed on the way, used again, or made to be read in two ways.
#[test]
fn one_of_several_refuses_nobody_by_itself() {
    let unsigned = send(r#", "any": true"#, Request::get("/"));
    assert!(unsigned.sent && unsigned.request().var("consumer").is_none());
    let signed = send(r#", "any": true"#, usual(""));
    assert!(signed.sent && signed.request().var("consumer").is_some());
}

#[test]
fn attacks_on_signatures_fail() {
    let with = |components: &[(&str, &str)]| signed(get(), components, &params(""));
    let plus = |name, value| with(&[USUAL[0], USUAL[1], (name, value)]);
    let of = |params: String| signed(get(), &USUAL, &params);
    let raw =
        |input: &str, signature: &str| get().header("signature-input", input).header("signature", signature);
    let twice = || signed(usual(""), &USUAL, &params(""));
    let (many, bob) = ("\"x\" ".repeat(65), STANDARD.decode("AAECAwQFBgcICQoLDA0ODw==").expect("Base64"));
    let text = format!(
        "\"@method\": GET\n\"@target-uri\": http://localhost/a?b=c\n\"@signature-params\": (\"@method\" \"@target-uri\"){}",
        params("")
    );
    let input = format!("sig=(\"@method\" \"@target-uri\"){}", params(""));
    let good = format!("sig=:{}:", mac(Hash::Sha256, SECRET, &text));
    for (what, request) in [
        ("no key", of(format!(";created={NOW}"))),
        ("a key that nobody has", of(format!(";created={NOW};keyid=\"k3\""))),
        ("another one's key", of(format!(";created={NOW};keyid=\"k2\""))),
        ("a key that is no text", of(format!(";created={NOW};keyid=k1"))),
        ("no time", of(";keyid=\"k1\"".to_string())),
        ("a time that is text", of(format!(";created=\"{NOW}\";keyid=\"k1\""))),
        ("a time that is no whole number", of(format!(";created={NOW}.5;keyid=\"k1\""))),
        ("too old", of(format!(";created={};keyid=\"k1\"", NOW - 301))),
        ("of the future", of(format!(";created={};keyid=\"k1\"", NOW + 301))),
        ("of all times", of(";created=999999999999999;keyid=\"k1\"".to_string())),
        ("before all times", of(";created=-999999999999999;keyid=\"k1\"".to_string())),
        ("expired", of(params(&format!(";expires={NOW}")))),
        ("an end that is text", of(params(";expires=\"never\""))),
        ("another algorithm", of(params(";alg=\"hmac-sha512\""))),
        ("SHA-1", of(params(";alg=\"hmac-sha1\""))),
        ("an algorithm of public keys", of(params(";alg=\"rsa-v1_5-sha256\""))),
        ("no algorithm", of(params(";alg=\"\""))),
        ("an algorithm in other letters", of(params(";alg=\"HMAC-SHA256\""))),
        ("an algorithm that is no text", of(params(";alg=hmac-sha256"))),
        ("a nonce that is no text", of(params(";nonce=7"))),
        ("another method", with(&[("@method", "POST"), USUAL[1]])),
        ("a method in other letters", with(&[("@method", "get"), USUAL[1]])),
        ("another path", with(&[USUAL[0], ("@target-uri", "http://localhost/b?b=c")])),
        ("another query", with(&[USUAL[0], ("@target-uri", "http://localhost/a?b=d")])),
        ("no query", with(&[USUAL[0], ("@target-uri", "http://localhost/a")])),
        ("another host", with(&[USUAL[0], ("@target-uri", "http://other/a?b=c")])),
        ("another scheme", with(&[USUAL[0], ("@target-uri", "https://localhost/a?b=c")])),
        ("nothing is signed", with(&[])),
        ("the method is not signed", with(&USUAL[1..])),
        ("the target is not signed", with(&USUAL[..1])),
        ("the host is not signed", with(&[USUAL[0], ("@path", "/a"), ("@query", "?b=c")])),
        ("a header that is not there", plus("x-role", "")),
        ("a header with another value", plus("x-role", "user").header("x-role", "admin")),
        (
            "a header with another line",
            plus("x-role", "user").header("x-role", "user").header("x-role", "admin"),
        ),
        ("a component that stands twice", plus("@method", "GET")),
        (
            "a header that stands twice",
            with(&[USUAL[0], USUAL[1], ("date", DATE), ("date", DATE)]).header("date", DATE),
        ),
        ("a header in other letters", plus("X-Role", "user").header("x-role", "user")),
        ("a component of a response", plus("@status", "200")),
        ("a component of none", plus("@other", "")),
        ("the parameters themselves", plus("@signature-params", "")),
        ("a component without a name", plus("", "")),
        ("a component with a quote", plus("x\\\"", "")),
        ("a component with a parameter", raw(&input.replace("d\"", "d\";sf"), &good)),
        ("a component that is no text", raw(&input.replace("\"@method\"", "method"), &good)),
        (
            "components in another order",
            raw(&input.replace("\"@method\" \"@target-uri\"", "\"@target-uri\" \"@method\""), &good),
        ),
        (
            "parameters in another order",
            raw(&input.replace(&params(""), &format!(";keyid=\"k1\";created={NOW}")), &good),
        ),
        ("another parameter", raw(&format!("{input};nonce=\"1\""), &good)),
        ("too many components", raw(&format!("sig=({many}){}", params("")), &good)),
        ("two signatures", twice()),
        (
            "two signatures with names",
            raw(&format!("{input}, b={}", &input[4..]), &format!("{good}, b={}", &good[4..])),
        ),
        ("a name that stands twice", raw(&format!("{input}, {input}"), &good)),
        ("a signature that stands twice", raw(&input, &format!("{good}, {good}"))),
        ("another name", raw(&input, &good.replace("sig", "sag"))),
        ("a name in other letters", raw(&input.replace("sig", "Sig"), &good.replace("sig", "Sig"))),
        ("no signature", get().header("signature-input", &*input)),
        ("nothing about the signature", get().header("signature", &*good)),
        ("an empty one", raw("", "")),
        ("no list", raw("sig=1", &good)),
        ("a signature that is text", raw(&input, &good.replace(':', "\""))),
        ("a signature of no bytes", raw(&input, "sig=::")),
        ("a part of the signature", raw(&input, &format!("sig=:{}:", STANDARD.encode([7; 16])))),
        ("another signature", raw(&input, &format!("sig=:{}:", STANDARD.encode([7; 32])))),
        ("another one's secret", raw(&input, &format!("sig=:{}:", mac(Hash::Sha256, &bob, &text)))),
        (
            "a secret of zeros",
            raw(
                &input.replace("k1", "k3"),
                &format!("sig=:{}:", mac(Hash::Sha256, [0; 16], &text.replace("k1", "k3"))),
            ),
        ),
        ("something behind it", raw(&input, &format!("{good} x"))),
        ("no ASCII", raw(&input.replace("k1", "k\u{f6}"), &good)),
        ("a huge one", usual("").header("signature-input", format!("x=\"{}\"", "y".repeat(MAX)))),
        ("both forms", legacy().header("signature-input", &*input).header("signature", &*good)),
    ] {
        assert_refused(&send("", request), what);
    }
    assert_eq!(status("", raw(&input, &good)), 200, "and this is what they were made of");
}

const MAX: usize = signed::MAX_FIELD;

#[test]
fn attacks_on_signatures_of_old_fail() {
    let hmac = |params: &str| get().header("date", DATE).header("authorization", format!("hmac {params}"));
    let by = |headers: &str, text: &str| hmac(&authorization("username", headers, text));
    let good = authorization("username", "date request-line", LINES);
    let old = "Wed, 31 Dec 2025 23:54:59 GMT";
    let on = |date: &str| {
        let text = LINES.replace(DATE, date);
        let params = authorization("username", "date request-line", &text);
        get().header("date", date).header("authorization", format!("hmac {params}"))
    };
    for (what, request) in [
        ("a key that nobody has", hmac(&good.replace("k1", "k3"))),
        ("another one's key", hmac(&good.replace("k1", "k2"))),
        ("SHA-1", hmac(&good.replace("sha256", "sha1"))),
        ("another algorithm", hmac(&good.replace("sha256", "sha512"))),
        ("an algorithm in other letters", hmac(&good.replace("hmac-sha256", "HMAC-SHA256"))),
        ("no algorithm", hmac(&good.replace("algorithm=\"hmac-sha256\", ", ""))),
        ("no headers", hmac(&good.replace("headers=\"date request-line\", ", ""))),
        ("no signature", hmac(good.split(", signature").next().unwrap_or_default())),
        ("another signature", hmac(&format!("{}AAAA\"", &good[..good.len() - 5]))),
        ("a signature of the other alphabet", hmac(&good.replace(['+', '/', '='], "_"))),
        ("a parameter that stands twice", hmac(&format!("{good}, username=\"k2\""))),
        ("two names of the key", hmac(&format!("{good}, keyId=\"k1\""))),
        ("a parameter that nobody knows", hmac(&format!("{good}, created=\"1\""))),
        ("a parameter in other letters", hmac(&good.replace("username", "Username"))),
        ("no quotes", hmac(&good.replace('"', ""))),
        ("a backslash", hmac(&good.replace("k1", "k\\1"))),
        ("something behind it", hmac(&format!("{good} x"))),
        ("a comma behind it", hmac(&format!("{good},"))),
        ("no ASCII", hmac(&good.replace("k1", "k\u{f6}"))),
        ("no UTF-8", get().header("authorization", b"hmac username=\"\xff\"")),
        ("a huge one", hmac(&good.replace("k1", &"k".repeat(MAX)))),
        ("two of them", legacy().header("authorization", format!("hmac {good}"))),
        ("one beside another scheme", legacy().header("authorization", "Bearer x")),
        ("no date", get().header("authorization", format!("hmac {good}"))),
        ("a date that is not signed", by("request-line", "GET /a?b=c HTTP/1.1")),
        ("two dates", legacy().header("date", DATE)),
        ("another date", by("date request-line", &LINES.replace("00:00:00", "00:00:01"))),
        ("too old", on(old)),
        ("of the future", on("Thu, 01 Jan 2026 00:05:01 GMT")),
        ("a date of another form", on("Thursday, 01-Jan-26 00:00:00 GMT")),
        ("another date that is signed", {
            let params = authorization(
                "username",
                "x-date request-line",
                &LINES.replace("date", "x-date").replace(DATE, old),
            );
            get().header("date", DATE).header("x-date", old).header("authorization", format!("hmac {params}"))
        }),
        ("another method", by("date request-line", &LINES.replace("GET", "PUT"))),
        ("another path", by("date request-line", &LINES.replace("/a", "/b"))),
        ("another query", by("date request-line", &LINES.replace("b=c", "b=d"))),
        ("another version", by("date request-line", &LINES.replace("1.1", "0.9"))),
        ("the target is not signed", by("date", &LINES[..35])),
        ("a target of one's own", by("date @target-uri", &format!("{}\n@target-uri: x", &LINES[..35]))),
        ("a header that is not there", by("date request-line x-role", &format!("{LINES}\nx-role:"))),
        (
            "a header that is not there, and empty",
            by("date request-line x-role", &format!("{LINES}\nx-role: ")),
        ),
        ("a header that is signed twice", by("date request-line date", &format!("{LINES}\ndate: {DATE}"))),
        (
            "a header that is signed twice, in other letters",
            by("date request-line Date", &format!("{LINES}\nDate: {DATE}")),
        ),
        ("a header with another line", {
            by("date request-line x-role", &format!("{LINES}\nx-role: user"))
                .header("x-role", "user")
                .header("x-role", "admin")
        }),
        ("a header without a name", by("date  request-line", LINES)),
        ("too many headers", by(&format!("date request-line{}", " x".repeat(63)), LINES)),
        (
            "the line of another form",
            by("date @request-target", &LINES.replace("GET /a?b=c HTTP/1.1", "GET /a?b=c")),
        ),
        ("another host", {
            let more = r#"x"#;
            by("date request-line host", &format!("{LINES}\nhost: {more}"))
        }),
    ] {
        assert_refused(&send("", request), what);
    }
    assert_eq!(status("", hmac(&good)), 200, "and this is what they were made of");
    let host = r#", "required_components": ["@method", "@authority"]"#;
    assert_refused(&send(host, legacy()), "the host is not signed");
    let with_host = by("date request-line host", &format!("{LINES}\nhost: localhost"));
    assert_eq!(status(host, with_host), 200);
}

#[test]
fn signatures_of_old_are_those_of_kong_and_apisix() {
    let target = |line: &str| format!("date: {DATE}\n{line}");
    for (scheme, by, headers, text) in [
        ("hmac", "username", "date request-line", target("GET /a?b=c HTTP/1.1")),
        ("Hmac", "username", "date request-line", target("GET /a?b=c HTTP/2.0")),
        ("hmac", "username", "date @request-target", target("@request-target: get /a?b=c")),
        ("hmac", "keyId", "date request-line", target("GET /a?b=c HTTP/1.1")),
        ("Signature", "keyId", "date (request-target)", target("(request-target): get /a?b=c")),
        ("Signature", "keyId", "@request-target date", format!("k1\nGET /a?b=c\ndate: {DATE}\n")),
        ("hmac", "username", "Date request-line", format!("Date: {DATE}\nGET /a?b=c HTTP/1.1")),
        ("hmac", "username", "x-date request-line", format!("x-date: {DATE}\nGET /a?b=c HTTP/1.1")),
        ("hmac", "username", "date request-line x-a", target("GET /a?b=c HTTP/1.1\nx-a: 1, 2")),
    ] {
        let request = get().header("date", DATE).header("x-date", DATE).header("x-a", "1").header("x-a", "2");
        let params = authorization(by, headers, &text);
        let outcome = send("", request.header("authorization", format!("{scheme} {params}")));
        assert!(outcome.sent, "{scheme} {by} {headers}");
    }
    let strong = mac(Hash::Sha512, SECRET, LINES);
    let params = format!(
        r#"hmac username="k1",algorithm="hmac-sha512",headers="date request-line",signature="{strong}""#
    );
    let request = || get().header("date", DATE).header("authorization", &*params);
    assert_eq!(status("", request()), 200);
    assert_eq!(status(r#", "algorithms": ["hmac-sha256"]"#, request()), 401);
    assert_eq!(status(r#", "forms": ["signature"]"#, legacy()), 401);
    assert_eq!(status(r#", "forms": ["legacy"]"#, usual("")), 401);
}

#[test]
fn a_signature_is_good_once() {
    let host = Host::new();
    let load = |more| host.load::<HmacAuth>(&config(more)).expect("a good config");
    let (plugin, other) = (load(""), load(""));
    let status = |plugin: &Loaded<HmacAuth>, request| plugin.send(request).response().status();
    for request in [usual, |_: &str| legacy()] {
        assert_eq!(status(&plugin, request("")), 200);
        assert_refused(&plugin.send(request("")), "used again");
        assert_refused(&other.send(request("")), "used again, elsewhere");
    }
    assert_eq!(status(&plugin, usual(";nonce=\"1\"")), 200);
    assert_eq!(status(&plugin, usual(";nonce=\"2\"")), 200);
    let same = signed(get(), &USUAL, &format!(";created={};keyid=\"k1\";nonce=\"1\"", NOW + 1));
    assert_refused(&plugin.send(same), "the nonce has been used");
    assert_eq!(status(&load(r#", "replay": false"#), usual("")), 200);
    let changed = signed(get(), &[("@method", "PUT"), USUAL[1]], &params(";nonce=\"3\""));
    assert_refused(&plugin.send(changed), "changed on the way");
    assert_eq!(status(&plugin, usual(";nonce=\"3\"")), 200, "what is refused is not used");
    host.advance(Duration::from_secs(300));
    assert_refused(&plugin.send(usual("")), "used again, in the last second");
    host.advance(Duration::from_secs(1));
    assert_refused(&plugin.send(usual("")), "too old");
    let ahead = |nonce: &str| signed(get(), &USUAL, &format!(";created={};keyid=\"k1\"{nonce}", NOW + 601));
    assert_eq!(status(&plugin, ahead("")), 200);
    host.advance(Duration::from_secs(600));
    assert_refused(&plugin.send(ahead("")), "used again, ten minutes later");
}

/// Acme signs as "k3" with the secret of the tests, and as "k4" with another one.
fn with_consumers() -> Host {
    let acme = Consumer {
        groups: vec!["partners".to_string()],
        plan: Some("pro".to_string()),
        ..Consumer::new("acme")
    };
    Host::new()
        .consumer(acme)
        .credential(Kind::Hmac, "k3", SECRET, "acme")
        .credential(Kind::Hmac, "k4", "another secret of the tests", "acme")
        .credential(Kind::Hmac, "k1", "another secret of the tests", "acme")
        .credential(Kind::Password, "k5", SECRET, "acme")
}

fn by(id: &str, nonce: &str) -> Request {
    signed(get(), &USUAL, &format!(";created={NOW};keyid=\"{id}\";nonce=\"{nonce}\""))
}

#[test]
fn secrets_of_the_consumers_sign_behind_those_of_the_config() {
    let host = with_consumers();
    let plugin = host.load::<HmacAuth>(&config(r#", "consumers": true"#)).unwrap();
    let outcome = plugin.send(by("k3", "1").header("x-consumer-id", "root"));
    assert!(outcome.sent, "{:?}", outcome.answer);
    let request = outcome.request();
    for (name, value) in
        [("x-consumer-id", "acme"), ("x-consumer-groups", "partners"), ("x-credential-identifier", "k3")]
    {
        assert_eq!(request.header_str(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(request.var_str("plan").as_deref(), Some("pro"));
    let outcome = plugin.send(by("k1", "2"));
    assert_eq!(outcome.request().var_str("consumer").as_deref(), Some("alice"), "the config's comes first");
    assert_refused(&plugin.send(by("k3", "1")), "used again");
    host.revoke("k3");
    assert_refused(&plugin.send(by("k3", "3")), "revoked");
    let host = host.credential(Kind::Hmac, "k3", SECRET, "acme");
    assert!(plugin.send(by("k3", "4")).sent);
    host.revoke("acme");
    assert_refused(&plugin.send(by("k3", "5")), "the consumer is gone");
}

/// What must never pass as Acme's. All of it looks the same from outside.
#[test]
fn attacks_on_consumers_fail() {
    let plugin = with_consumers().load::<HmacAuth>(r#"{"consumers": true}"#).unwrap();
    for (what, id) in [
        ("another secret", "k4"),
        ("another secret under the config's name elsewhere", "k1"),
        ("a password", "k5"),
        ("nobody's", "k9"),
        ("no name", ""),
        ("the consumer's name", "acme"),
        ("another case", "K3"),
        ("a space", "k3 "),
        ("a huge name", &"k3".repeat(5000)),
    ] {
        assert_refused(&plugin.send(by(id, "1")), what);
    }
    let with = |secret: &[u8]| {
        let params = format!("(\"@method\" \"@target-uri\");created={NOW};keyid=\"k9\"");
        let text = format!(
            "\"@method\": GET\n\"@target-uri\": http://localhost/a?b=c\n\"@signature-params\": {params}"
        );
        let signature = mac(Hash::Sha256, secret, &text);
        get()
            .header("signature-input", format!("sig={params}"))
            .header("signature", format!("sig=:{signature}:"))
    };
    for secret in [&b""[..], &[0; 16], &[0; 32], b"a secret that nobody has signs nothing"] {
        assert_refused(&plugin.send(with(secret)), "what stands in for a secret");
    }
    assert!(plugin.send(by("k3", "1")).sent, "and this is what they were made of");
}

#[test]
fn without_an_answer_it_is_503() {
    let host = with_consumers();
    let plugin = host.load::<HmacAuth>(&config(r#", "consumers": true"#)).unwrap();
    host.consumers_fail(consumers::Failure::Unavailable);
    let outcome = plugin.send(by("k3", "1"));
    assert_eq!((outcome.response().status(), outcome.code.as_deref()), (503, Some("consumers_unavailable")));
    assert!(plugin.send(by("k1", "1")).sent, "that can be known");
    let refused = Host::new().load::<HmacAuth>(r#"{"consumers": true}"#).err().unwrap().to_string();
    assert!(refused.starts_with("consumers: the plugin may not ask for these credentials"), "{refused}");
}

#[test]
fn the_signature_with_the_tag_is_looked_at() {
    let more = r#", "tag": "api""#;
    let input =
        |label: &str, tag: &str| format!("{label}=(\"@method\" \"@target-uri\"){};tag=\"{tag}\"", params(""));
    assert_eq!(status(more, usual(";tag=\"api\"")), 200);
    assert_eq!(status("", usual(";tag=\"api\"")), 200);
    let missing = send(more, usual(";tag=\"other\""));
    assert_eq!(
        missing.answer.and_then(|answer| answer.detail).as_deref(),
        Some("The request has no signature.")
    );
    let beside = |tag| {
        let request = usual(";tag=\"api\"").header("signature-input", input("proxy", tag));
        request.header("signature", "proxy=:AAAA:")
    };
    assert_eq!(status(more, beside("proxy")), 200, "somebody else's does not matter");
    assert_refused(&send(more, beside("api")), "two with the tag");
}

#[test]
fn bodies_are_those_that_were_signed() {
    let body = r#"{"hello": "world"}"#;
    let content = format!("sha-256=:{}:", sha256(body));
    let post = |digest: &str, body: &str| {
        let components =
            [("@method", "POST"), ("@target-uri", "http://localhost/a"), ("content-digest", digest)];
        signed(Request::post("/a", body).header("content-digest", digest), &components, &params(""))
    };
    let unsigned = |body: &str| {
        let components = [("@method", "POST"), ("@target-uri", "http://localhost/a")];
        signed(Request::post("/a", body), &components, &params(""))
    };
    let of_old = |name: &str, digest: &str, body: &str| {
        let text = format!("date: {DATE}\nPOST /a HTTP/1.1\n{name}: {digest}");
        let params = authorization("username", &format!("date request-line {name}"), &text);
        let request = Request::post("/a", body).header("date", DATE).header(name, digest);
        request.header("authorization", format!("hmac {params}"))
    };
    let sha512 = STANDARD.encode(Host::new().enter(|| crypto::digest(Hash::Sha512, body)));
    for digest in [
        content.clone(),
        format!("sha-512=:{sha512}:"),
        format!("{content}, sha-512=:{sha512}:"),
        format!("md5=:AAAA:, {content}"),
    ] {
        assert_eq!(status("", post(&digest, body)), 200, "{digest}");
        assert_refused(&send("", post(&digest, "swapped")), &digest);
        assert_refused(&send("", post(&digest, "")), &digest);
    }
    for (what, request) in [
        ("no digest", unsigned(body)),
        ("a digest that is not signed", unsigned(body).header("content-digest", &*content)),
        ("another line of the digest", post(&content, body).header("content-digest", "md5=:AAAA:")),
        ("a digest of no known algorithm", post("md5=:AAAA:", body)),
        ("an empty digest", post("", body)),
        (
            "one that is right and one that is not",
            post(&format!("{content}, sha-512=:{}:", STANDARD.encode([7; 64])), body),
        ),
        ("one that stands twice", post(&format!("{content}, {content}"), body)),
        ("a part of a digest", post(&format!("sha-256=:{}:", STANDARD.encode([7; 16])), body)),
        ("a digest that is text", post(&content.replace(':', "\""), body)),
        ("a digest in other letters", post(&content.replace("sha", "SHA"), body)),
        ("one of old, another body", of_old("digest", &format!("SHA-256={}", sha256(body)), "swapped")),
        (
            "one of old that stands twice",
            of_old("digest", &format!("SHA-256={0},SHA-256={0}", sha256(body)), body),
        ),
        ("one of old that cannot be read", of_old("digest", "SHA-256=x", body)),
        ("one of old of no known algorithm", of_old("digest", "MD5=AAAA", body)),
    ] {
        assert_refused(&send("", request), what);
    }
    assert_eq!(status("", of_old("digest", &format!("SHA-256={}", sha256(body)), body)), 200);
    assert_eq!(
        status("", of_old("digest", &format!("sha-256={},SHA-512={sha512}", sha256(body)), body)),
        200
    );
    assert_eq!(status("", of_old("content-digest", &content, body)), 200);
    assert_eq!(status("", unsigned("")), 200, "nothing is there to be signed");
    let lax = r#", "required_components": []"#;
    assert_eq!([status(lax, unsigned(body)), status(lax, post(&content, "swapped"))], [200, 401]);
    let unseen = r#", "validate_body": false"#;
    assert_eq!([status(unseen, unsigned(body)), status(unseen, post(&content, "swapped"))], [200, 200]);
    assert_eq!(status(r#", "max_body": "17B""#, post(&content, body)), 413);
    assert_eq!(status(r#", "max_body": "18B""#, post(&content, body)), 200);
}

#[test]
fn mistakes_are_named() {
    let refused = |config: &str| Host::new().load::<HmacAuth>(config).err().expect("refused").to_string();
    let credential = |inner: &str| format!(r#"{{"credentials": [{{"id": "a", "consumer": "c", {inner}}}]}}"#);
    let name = "is empty, longer than 1024 bytes or holds a control character";
    for (config, fault) in [
        (
            r#"{"credentials": []}"#.to_string(),
            "credentials: none is given, so nobody could pass".to_string(),
        ),
        (config(r#", "forms": []"#), "forms: none is given, so nobody could pass".to_string()),
        (config(r#", "algorithms": []"#), "algorithms: none is given, so nobody could pass".to_string()),
        (
            credential(r#""secret": "short""#),
            "credentials[0].secret: has 5 bytes, and at least 16 are needed".to_string(),
        ),
        (
            credential(r#""secret": "base64:AAAA""#),
            "credentials[0].secret: has 3 bytes, and at least 16 are needed".to_string(),
        ),
        (credential(r#""secret": "base64:?""#), "credentials[0].secret: is no Base64".to_string()),
        (config("").replace("\"bob\"", "\"\""), format!("credentials[1].consumer: {name}")),
        (config("").replace("\"k2\"", "\"\""), format!("credentials[1].id: {name}")),
        (config("").replace("\"k2\"", "\"k1\""), "credentials[1].id: is there already".to_string()),
        (config("").replace("\"b\"]", "\"b,\"]"), "credentials[0].groups[1]: holds a comma".to_string()),
        (
            config(r#", "required_components": ["date", "@status"]"#),
            "required_components[1]: `@status` is neither a component nor a header in lower case".to_string(),
        ),
        (
            config(r#", "required_components": ["Date"]"#),
            "required_components[0]: `Date` is neither a component nor a header in lower case".to_string(),
        ),
        (
            config(r#", "clock_skew": "2d""#),
            "clock_skew: must be at most 1d, unless `replay` is false".to_string(),
        ),
        (config(r#", "anonymous": """#), format!("anonymous: {name}")),
        (
            config(r#", "realm": "\"""#),
            "realm: holds a quote, a backslash or a control character".to_string(),
        ),
    ] {
        assert_eq!(refused(&config), fault);
    }
    assert!(refused(&config(r#", "algorithms": ["hmac-sha1"]"#)).contains("unknown variant `hmac-sha1`"));
}

#[test]
fn the_audit_is_told_why() {
    let of = |params: String| signed(get(), &USUAL, &params);
    for (request, why, consumer) in [
        (get(), Why::MISSING, None),
        (get().header("signature", "x"), Why::MALFORMED, None),
        (of(format!(";created={};keyid=\"k1\"", NOW - 301)), Why::EXPIRED, Some("alice")),
        (of(format!(";created={};keyid=\"k1\"", NOW + 301)), Why::NOT_YET, Some("alice")),
        (of(format!(";created={NOW};keyid=\"k2\"")), Why::SIGNATURE, Some("bob")),
        (of(format!(";created={NOW};keyid=\"a secret by mistake\"")), Why::SIGNATURE, None),
        (signed(get(), &USUAL[1..], &params("")), Why::NOT_SIGNED, Some("alice")),
    ] {
        let reason = send("", request).reason.expect("a reason");
        assert_eq!((reason.why, reason.consumer.as_deref()), (why, consumer));
        assert!(reason.credential.is_none_or(|id| id == "k1" || id == "k2"));
    }
    let (plugin, once) = (plugin(""), || usual(";nonce=\"a\""));
    assert_eq!(plugin.send(once()).reason, None);
    assert_eq!(plugin.send(once()).reason.map(|reason| reason.why), Some(Why::REPLAYED));
    let with_body = |body: &str| {
        let digest = format!("sha-256=:{}:", sha256("a"));
        let request = Request::post("/a?b=c", body).header("content-digest", &digest);
        signed(request, &[("@method", "POST"), USUAL[1], ("content-digest", &digest)], &params(""))
    };
    assert_eq!(send("", with_body("a")).reason, None);
    assert_eq!(send("", with_body("b")).reason.map(|reason| reason.why), Some(Why::BODY));
}

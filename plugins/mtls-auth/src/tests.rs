use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};
use wasmgate_sdk::Tls;
use wasmgate_sdk::consumers::Consumer;
use wasmgate_sdk::testing::{Host, Loaded, Outcome, Request};

use super::*;

/// What a certificate is made of: its subject and its names.
#[derive(Default)]
struct Wanted<'a> {
    subject: &'a [(DnType, &'a str)],
    names: &'a [&'a str],
}

/// An "@" makes a name an address, "://" a URI.
fn issue(wanted: &Wanted) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in wanted.subject {
        params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*value).to_string()));
    }
    let name = |name: &&str| match *name {
        uri if uri.contains("://") => SanType::URI(uri.try_into().unwrap()),
        address if address.contains('@') => SanType::Rfc822Name(address.try_into().unwrap()),
        name => SanType::DnsName(name.try_into().unwrap()),
    };
    params.subject_alt_names = wanted.names.iter().map(name).collect();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn named(names: &[&str]) -> Vec<u8> {
    issue(&Wanted { names, ..Wanted::default() })
}

fn called(name: &str) -> Vec<u8> {
    issue(&Wanted { subject: &[(DnType::CommonName, name)], ..Wanted::default() })
}

fn tls(client_certificate: Option<Vec<u8>>) -> Tls {
    Tls {
        version: "TLSv1.3".to_string(),
        cipher: "TLS13_AES_256_GCM_SHA384".to_string(),
        sni: None,
        alpn: None,
        client_certificate,
    }
}

fn showing(certificate: &[u8]) -> Request {
    Request::get("/").tls(tls(Some(certificate.to_vec())))
}

fn plugin(config: &str) -> Loaded<MtlsAuth> {
    Host::new().load(config).expect("a good config")
}

/// With a rule of this condition.
fn rule(condition: &str) -> Loaded<MtlsAuth> {
    plugin(&format!(r#"{{"rules": [{{{condition}, "consumer": "alice"}}]}}"#))
}

fn consumer(outcome: &Outcome) -> Option<String> {
    outcome.sent.then(|| outcome.request().header_str("x-consumer-id")).flatten()
}

fn refused(outcome: &Outcome) -> (u16, Option<&str>) {
    assert!(!outcome.sent && outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.request().var("consumer"), None);
    assert_eq!(outcome.response().header("www-authenticate"), None);
    let missing = outcome.code.as_deref() == Some("client_certificate_required");
    let why = if missing { Why::MISSING } else { Why::UNKNOWN_CERTIFICATE };
    assert_eq!(outcome.reason, Some(why.into()));
    (outcome.response().status(), outcome.code.as_deref())
}

#[test]
fn every_kind_of_rule_knows_its_certificate() {
    let subject =
        [(DnType::CountryName, "FI"), (DnType::OrganizationName, "Acme, Inc"), (DnType::CommonName, "alice")];
    let names = ["spiffe://corp/ns/a/sa/web-1", "A.test", "Alice@Mail.Test", "other.test"];
    let certificate = issue(&Wanted { subject: &subject, names: &names });
    let fingerprint = Host::new().enter(|| Certificate::read(&certificate)).unwrap().fingerprint;
    let colons = fingerprint.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase());
    let colons = colons.collect::<Vec<_>>().join(":");
    for condition in [
        &format!(r#""fingerprint": "{fingerprint}""#),
        &format!(r#""fingerprint": "{colons}""#),
        r#""san_uri": "spiffe://corp/ns/a/sa/web-1""#,
        r#""san_uri": "spiffe://corp/ns/*/sa/web-*""#,
        r#""san_dns": "a.TEST""#,
        r#""san_dns": "other.test""#,
        r#""san_email": "Alice@mail.test""#,
        r#""subject_cn": "alice""#,
        r#""subject": "CN=alice,O=Acme\\, Inc,C=FI""#,
        r#""san_dns": "a.test", "subject_cn": "alice""#,
    ] {
        let outcome = rule(condition).send(showing(&certificate).header("x-consumer-id", "root"));
        assert_eq!(consumer(&outcome).as_deref(), Some("alice"), "{condition}");
        let credential = outcome.request().header_str("x-credential-identifier");
        assert_eq!(credential.as_deref(), Some(&*fingerprint));
    }
    for condition in [
        &format!(r#""fingerprint": "{}""#, "0".repeat(64)),
        r#""san_uri": "spiffe://corp/ns/a/sa/web""#,
        r#""san_dns": "test""#,
        r#""san_dns": "alice""#,
        r#""san_email": "alice@mail.test""#,
        r#""subject_cn": "Alice""#,
        r#""subject": "C=FI, O=Acme, Inc, CN=alice""#,
        r#""san_dns": "a.test", "subject_cn": "bob""#,
    ] {
        assert_eq!(
            refused(&rule(condition).send(showing(&certificate))),
            (403, Some("forbidden")),
            "{condition}"
        );
    }
}

#[test]
fn the_first_rule_that_fits_counts_and_names_come_after_them() {
    let config = r#"{
        "rules": [
            {"san_dns": "a.test", "consumer": "first", "groups": ["x", "y"], "plan": "pro"},
            {"san_dns": "b.test", "consumer": "second"}
        ],
        "consumer_from": ["san_uri", "san_dns", "subject_cn"]
    }"#;
    let plugin = plugin(config);
    for _ in 0..2 {
        let outcome = plugin.send(showing(&named(&["b.test", "a.test"])));
        assert_eq!(consumer(&outcome).as_deref(), Some("first"));
        assert_eq!(outcome.request().var_str("groups").as_deref(), Some("x,y"));
        assert_eq!(outcome.request().var_str("plan").as_deref(), Some("pro"));
    }
    for (certificate, expected) in [
        (named(&["b.test"]), "second"),
        (named(&["c.test", "spiffe://corp/web"]), "spiffe://corp/web"),
        (named(&["C.test"]), "c.test"),
        (called("carol"), "carol"),
    ] {
        assert_eq!(consumer(&plugin.send(showing(&certificate))).as_deref(), Some(expected));
    }
    assert_eq!(refused(&plugin.send(showing(&named(&["mail@c.test"])))), (403, Some("forbidden")));
}

/// Whose certificate has this name.
fn host(name: &str) -> Host {
    let acme = Consumer {
        groups: vec!["partners".to_string()],
        plan: Some("pro".to_string()),
        ..Consumer::new("acme")
    };
    Host::new().consumer(acme).credential(Kind::Certificate, name, "", "acme")
}

#[test]
fn every_name_of_a_certificate_may_be_a_consumer_s() {
    let subject = [(DnType::OrganizationName, "Acme"), (DnType::CommonName, "alice")];
    let names = ["spiffe://corp/web", "A.test", "Alice@Mail.Test", "other.test"];
    let certificate = issue(&Wanted { subject: &subject, names: &names });
    let fingerprint = Host::new().enter(|| Certificate::read(&certificate)).unwrap().fingerprint;
    for name in [
        &*format!("fingerprint:{fingerprint}"),
        "san_uri:spiffe://corp/web",
        "san_dns:a.test",
        "san_dns:other.test",
        "san_email:Alice@mail.test",
        "subject_cn:alice",
        "subject:CN=alice,O=Acme",
    ] {
        let host = host(name);
        let plugin = host.load::<MtlsAuth>(r#"{"consumers": true}"#).unwrap();
        for _ in 0..2 {
            let outcome = plugin.send(showing(&certificate).header("x-consumer-id", "root"));
            assert_eq!(consumer(&outcome).as_deref(), Some("acme"), "{name}");
            let request = outcome.request();
            for (variable, value) in [("credential", &*fingerprint), ("groups", "partners"), ("plan", "pro")]
            {
                assert_eq!(request.var_str(variable).as_deref(), Some(value), "{name}");
            }
        }
        host.revoke(name);
        assert_eq!(refused(&plugin.send(showing(&certificate))), (403, Some("forbidden")), "{name}");
    }
    let rules = r#"{"consumers": true, "rules": [{"san_dns": "a.test", "consumer": "own"}]}"#;
    let plugin = host("subject_cn:alice").load::<MtlsAuth>(rules).unwrap();
    assert_eq!(consumer(&plugin.send(showing(&certificate))).as_deref(), Some("own"), "rules come first");
    assert_eq!(consumer(&plugin.send(showing(&called("alice")))).as_deref(), Some("acme"));
    let both = host("subject_cn:alice").consumer(Consumer::new("web"));
    let both = both.credential(Kind::Certificate, "san_uri:spiffe://corp/web", "", "web");
    let plugin = both.load::<MtlsAuth>(r#"{"consumers": true}"#).unwrap();
    assert_eq!(consumer(&plugin.send(showing(&certificate))).as_deref(), Some("web"), "it says more");
}

/// What must never pass as Acme's. All of these are certificates that an authority has signed.
#[test]
fn attacks_on_consumers_fail() {
    let host = host("san_uri:spiffe://corp/web")
        .credential(Kind::Certificate, "san_dns:acme.test", "", "acme")
        .credential(Kind::Certificate, "san_email:shop@acme.test", "", "acme")
        .credential(Kind::Certificate, "subject_cn:acme", "", "acme")
        .credential(Kind::Password, "san_dns:password.test", "", "acme");
    let plugin = host.load::<MtlsAuth>(r#"{"consumers": true}"#).unwrap();
    let many: Vec<_> =
        (0..100).map(|number| format!("n{number}.test")).chain(["acme.test".to_string()]).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (what, certificate) in [
        ("no certificate", b"acme".to_vec()),
        ("another case", called("Acme")),
        ("a space", called("acme ")),
        ("a zero byte", called("acme\0")),
        ("the form of another name", called("san_dns:acme.test")),
        ("the common name as a DNS name", named(&["acme"])),
        ("the DNS name as the common name", called("acme.test")),
        ("the DNS name as a URI", named(&["san_dns:acme.test"])),
        ("a wildcard", named(&["*.test"])),
        ("a name below", named(&["x.acme.test"])),
        ("another mailbox", named(&["Shop@acme.test"])),
        ("another path", named(&["spiffe://corp/web/"])),
        ("a path that goes on", named(&["spiffe://corp/web2"])),
        ("a name of another kind of credential", named(&["password.test"])),
        ("a name behind too many", named(&many)),
    ] {
        assert_eq!(refused(&plugin.send(showing(&certificate))), (403, Some("forbidden")), "{what}");
    }
    for certificate in
        [called("acme"), named(&["ACME.test"]), named(&["spiffe://corp/web"]), named(&["shop@Acme.test"])]
    {
        assert!(plugin.send(showing(&certificate)).sent, "and this is what they were made of");
    }
}

#[test]
fn without_an_answer_it_is_503() {
    let host = host("subject_cn:acme");
    let rules = r#"{"consumers": true, "rules": [{"subject_cn": "own", "consumer": "own"}]}"#;
    let plugin = host.load::<MtlsAuth>(rules).unwrap();
    assert!(plugin.send(showing(&called("acme"))).sent);
    host.consumers_fail(Failure::Unavailable);
    let outcome = plugin.send(showing(&called("acme")));
    assert_eq!((outcome.response().status(), outcome.code.as_deref()), (503, Some("consumers_unavailable")));
    assert!(plugin.send(showing(&called("own"))).sent, "that can be known");
    let refused = Host::new().load::<MtlsAuth>(r#"{"consumers": true}"#).err().unwrap().to_string();
    assert!(refused.starts_with("consumers: the plugin may not ask for these credentials"), "{refused}");
}

#[test]
fn without_a_certificate_it_is_403_unless_one_may_be_anonymous() {
    let required = (403, Some("client_certificate_required"));
    let named = rule(r#""san_dns": "a.test""#);
    for request in [Request::get("/"), Request::get("/").tls(tls(None))] {
        assert_eq!(refused(&named.send(request)), required);
    }
    let guests = plugin(r#"{"anonymous": "guest", "rules": [{"san_dns": "a.test", "consumer": "alice"}]}"#);
    assert_eq!(consumer(&guests.send(Request::get("/"))).as_deref(), Some("guest"));
    assert_eq!(refused(&guests.send(showing(&called("bob")))), (403, Some("forbidden")));
    let preflight = || {
        let request = Request::new("OPTIONS", "/").header("origin", "https://a.test");
        request.header("access-control-request-method", "PUT")
    };
    assert!(named.send(preflight()).sent);
    let all = plugin(r#"{"consumer_from": ["san_dns"], "run_on_preflight": true}"#);
    assert_eq!(refused(&all.send(preflight())), required);
    let one_of_several = plugin(r#"{"consumer_from": ["san_dns"], "any": true}"#);
    for request in [Request::get("/"), showing(&called("bob"))] {
        let outcome = one_of_several.send(request.header("x-consumer-id", "root"));
        assert_eq!((outcome.sent, consumer(&outcome)), (true, None));
    }
}

#[test]
fn certificates_are_remembered_and_not_too_many() {
    let host = Host::new();
    let plugin = host.load::<MtlsAuth>(r#"{"consumer_from": ["subject_cn"]}"#).unwrap();
    let known = || plugin.plugin().known.borrow().len();
    let certificate = called("alice");
    for _ in 0..3 {
        assert_eq!(consumer(&plugin.send(showing(&certificate))).as_deref(), Some("alice"));
        assert_eq!(known(), 1);
    }
    for number in 0..MAX_KNOWN * 2 {
        assert!(!plugin.send(showing(&number.to_be_bytes())).sent);
        assert!(known() <= MAX_KNOWN);
    }
    assert_eq!(consumer(&plugin.send(showing(&certificate))).as_deref(), Some("alice"));
}

/// What must never pass as alice's. All of these are certificates that an authority has signed.
#[test]
fn attacks_fail() {
    let config = r#"{"rules": [
        {"san_uri": "spiffe://corp/ns/*/sa/web*", "consumer": "alice"},
        {"san_dns": "alice.test", "consumer": "alice"},
        {"san_email": "alice@mail.test", "consumer": "alice"},
        {"subject_cn": "alice", "consumer": "alice"},
        {"subject": "CN=root,O=Acme", "consumer": "alice"}
    ]}"#;
    let plugin = plugin(config);
    let common_name = || DnType::CustomDnType(vec![2, 5, 4, 3]);
    let cut = |bytes: Vec<u8>, to: usize| bytes[..to].to_vec();
    let good = called("alice");
    for (what, certificate) in [
        ("nothing", Vec::new()),
        ("no certificate", b"alice".to_vec()),
        ("a certificate that breaks off", cut(good.clone(), good.len() - 1)),
        ("a certificate with something behind it", [good.clone(), vec![0]].concat()),
        ("a huge one", vec![0x30; 1 << 20]),
        ("its name in PEM", b"-----BEGIN CERTIFICATE-----\nalice".to_vec()),
        ("another case", called("Alice")),
        ("a space", called("alice ")),
        ("a zero byte", called("alice\0")),
        ("a name that goes on", called("alice\0.evil.test")),
        ("a name with another part", called("root,O=Acme")),
        ("with a backslash", called("root\\,O=Acme")),
        (
            "several common names",
            issue(&Wanted {
                subject: &[(common_name(), "evil"), (DnType::CommonName, "alice")],
                ..Wanted::default()
            }),
        ),
        (
            "several common names, the other way",
            issue(&Wanted {
                subject: &[(DnType::CommonName, "alice"), (common_name(), "evil")],
                ..Wanted::default()
            }),
        ),
        (
            "a common name elsewhere",
            issue(&Wanted { subject: &[(DnType::OrganizationalUnitName, "alice")], ..Wanted::default() }),
        ),
        (
            "the subject with more",
            issue(&Wanted {
                subject: &[
                    (DnType::OrganizationName, "Acme"),
                    (DnType::OrganizationalUnitName, "x"),
                    (DnType::CommonName, "root"),
                ],
                ..Wanted::default()
            }),
        ),
        (
            "the subject the other way round",
            issue(&Wanted {
                subject: &[(DnType::CommonName, "root"), (DnType::OrganizationName, "Acme")],
                ..Wanted::default()
            }),
        ),
        ("the common name as a DNS name", named(&["alice"])),
        ("the DNS name as the common name", called("alice.test")),
        ("a wildcard", named(&["*.test"])),
        ("a name below", named(&["x.alice.test"])),
        ("a name with a dot", named(&["alice.test."])),
        ("a name with a zero byte", named(&["alice.test\0"])),
        ("an address as a DNS name", named(&["mail.test"])),
        ("another mailbox", named(&["Alice@mail.test"])),
        ("two at signs", named(&["alice@mail.test@evil.test"])),
        ("another trust domain", named(&["spiffe://evil/ns/a/sa/web"])),
        ("a trust domain that goes on", named(&["spiffe://corp.evil/ns/a/sa/web"])),
        ("another scheme", named(&["https://corp/ns/a/sa/web1"])),
        ("more segments in place of a star", named(&["spiffe://corp/ns/a/b/sa/web1"])),
        ("nothing in place of a star", named(&["spiffe://corp/ns//sa/web1"])),
        ("the end of a star left empty", named(&["spiffe://corp/ns/a/sa/web"])),
        ("dots in place of a star", named(&["spiffe://corp/ns/../sa/web1"])),
        ("an encoded slash", named(&["spiffe://corp/ns/a%2Fb/sa/web1"])),
        ("a query", named(&["spiffe://corp/ns/a/sa/web1?x"])),
        ("a fragment", named(&["spiffe://corp/ns/a/sa/web1#x"])),
        ("a segment behind", named(&["spiffe://corp/ns/a/sa/web1/"])),
        ("user information", named(&["spiffe://x@corp/ns/a/sa/web1"])),
        ("the pattern itself", named(&["spiffe://corp/ns/*"])),
    ] {
        let outcome = plugin.send(showing(&certificate).header("x_consumer_id", "alice"));
        assert_eq!(refused(&outcome), (403, Some("forbidden")), "{what}");
        assert_eq!(outcome.request().header("x_consumer_id"), None);
    }
    let claim = Request::get("/").header("x-forwarded-client-cert", "Subject=\"CN=alice\"");
    let outcome = plugin.send(claim.header("client-cert", ":AAAA:").tls(tls(None)));
    assert_eq!(refused(&outcome), (403, Some("client_certificate_required")), "what a header claims");
    for certificate in [good, named(&["alice.test"]), named(&["spiffe://corp/ns/a/sa/web1"])] {
        assert!(plugin.send(showing(&certificate)).sent, "and this is what they were made of");
    }
    // A name of the certificate's own choice must be one that a header can hold.
    let names = self::plugin(r#"{"consumer_from": ["subject_cn"]}"#);
    for name in ["", " ", "a\nx-admin: 1", "a\0", &"a".repeat(2000)] {
        assert_eq!(refused(&names.send(showing(&called(name)))), (403, Some("forbidden")), "{name:?}");
    }
}

#[test]
fn subjects_are_written_as_rfc_4514_has_them() {
    let kinds = [DnType::OrganizationName, DnType::CustomDnType(vec![1, 2, 3, 4]), DnType::CommonName];
    let [o, own, cn] = kinds;
    for (subject, expected) in [
        (
            vec![(o.clone(), "#1 \"A\" <b>; c+d\\"), (cn.clone(), " jürgen ")],
            r#"CN=\ jürgen\ ,O=\#1 \"A\" \<b\>\; c\+d\\"#,
        ),
        (vec![(own, "x"), (cn, "a\nb")], r"CN=a\0Ab,1.2.3.4=#78"),
        (vec![], ""),
    ] {
        let certificate = issue(&Wanted { subject: &subject, ..Wanted::default() });
        assert_eq!(Host::new().enter(|| Certificate::read(&certificate)).unwrap().subject, expected);
    }
}

#[test]
fn mistakes_are_named() {
    let name = "is empty, longer than 1024 bytes or holds a control character";
    let star = "rules[0].san_uri: a * may stand only at the end of a segment of the path";
    let rule = |rule: &str| format!(r#"{{"rules": [{{{rule}}}]}}"#);
    for (config, fault) in [
        ("null".to_string(), "rules: none is given, nor consumer_from, so nobody could pass".to_string()),
        (rule(r#""consumer": "a""#), "rules[0]: says nothing of what certificates have to be".to_string()),
        (rule(r#""san_dns": "a", "consumer": """#), format!("rules[0].consumer: {name}")),
        (rule(r#""san_dns": "", "consumer": "a""#), format!("rules[0].san_dns: {name}")),
        (rule(r#""san_dns": "a", "consumer": "a", "plan": """#), format!("rules[0].plan: {name}")),
        (
            rule(r#""san_dns": "a", "consumer": "a", "groups": ["a,b"]"#),
            "rules[0].groups[0]: holds a comma".to_string(),
        ),
        (
            rule(r#""fingerprint": "ab:cd", "consumer": "a""#),
            "rules[0].fingerprint: is not a SHA-256, 64 hex digits".to_string(),
        ),
        (rule(r#""san_uri": "spiffe://*/a", "consumer": "a""#), star.to_string()),
        (rule(r#""san_uri": "spiffe://a/*b", "consumer": "a""#), star.to_string()),
        (rule(r#""san_uri": "*", "consumer": "a""#), star.to_string()),
        (rule(r#""san_uri": "urn:a/b/c/*", "consumer": "a""#), star.to_string()),
        (r#"{"anonymous": """#.to_string() + "}", format!("anonymous: {name}")),
        (
            r#"{"consumers": true, "consumer_from": ["subject_cn"]}"#.to_string(),
            "consumer_from: with consumers = true a certificate that a consumer has no more would pass by its name"
                .to_string(),
        ),
    ] {
        let refused = Host::new().load::<MtlsAuth>(&config).err().expect("refused");
        assert_eq!(refused.to_string(), fault, "{config}");
    }
}

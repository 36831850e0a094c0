use wasmgate_sdk::testing::{Host, Outcome, Request};

use super::*;

fn host() -> Host {
    let blocked = ["203.0.113.0/24", "2001:db8:bad::/48"];
    Host::new().networks("blocked", &blocked).networks("offices", &["192.0.2.0/24"])
}

fn send(config: &str, request: Request) -> Outcome {
    host().load::<IpRestriction>(config).unwrap().send(request)
}

fn from(ip: &str) -> Request {
    Request::get("/").client_ip(ip)
}

#[test]
fn deny_wins_and_an_allow_list_denies_all_others() {
    let both =
        r#"{"allow": ["10.0.0.0/8", "::1", "2001:db8::/32"], "deny": ["10.0.0.66", "2001:db8:bad::/48"]}"#;
    let deny = r#"{"deny": ["10.0.0.0/8", "2001:db8::/32"]}"#;
    let sets = r#"{"allow_networks": ["offices"], "allow": ["203.0.113.7", "198.51.100.1"], "deny_networks": ["blocked"]}"#;
    for (config, ip, passes) in [
        (both, "10.1.2.3", true),
        (both, "10.0.0.66", false),
        (both, "11.0.0.0", false),
        (both, "::1", true),
        (both, "2001:db8::1", true),
        (both, "2001:db8:bad::1", false),
        (both, "::2", false),
        (deny, "10.255.255.255", false),
        (deny, "192.0.2.1", true),
        (deny, "2001:db8::", false),
        (deny, "::", true),
        (sets, "192.0.2.9", true),
        (sets, "198.51.100.1", true),
        (sets, "203.0.113.7", false),
        (sets, "198.51.100.2", false),
        (sets, "2001:db8:bad::7", false),
        (r#"{"allow": ["0.0.0.0/0"]}"#, "::1", false),
        (r#"{"allow": ["::/0"]}"#, "127.0.0.1", false),
    ] {
        let outcome = send(config, from(ip));
        assert_eq!(outcome.sent, passes, "{config} {ip}");
        if !passes {
            assert_eq!((outcome.response().status(), outcome.code.as_deref()), (403, Some("ip_denied")));
            let answer = outcome.answer.unwrap();
            assert_eq!(answer.detail.as_deref(), Some("IP address not allowed"));
        }
    }
}

/// What a client may try to be somebody else; only its address counts, which the gateway tells.
#[test]
fn nobody_gets_past_it() {
    let deny = r#"{"deny": ["192.0.2.0/24", "::ffff:198.51.100.0/120"], "deny_networks": ["blocked"]}"#;
    let allow = r#"{"allow": ["127.0.0.1", "10.0.0.0/8"]}"#;
    let spoofs = [
        ("x-forwarded-for", "127.0.0.1"),
        ("X-Forwarded-For", "10.0.0.1, 127.0.0.1"),
        ("x_forwarded_for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("true-client-ip", "127.0.0.1"),
        ("cf-connecting-ip", "127.0.0.1"),
        ("x-client-ip", "127.0.0.1"),
        ("client-ip", "10.0.0.1"),
        ("host", "127.0.0.1"),
    ];
    for ip in ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:0201", "0:0:0:0:0:ffff:192.0.2.1"] {
        for (name, value) in spoofs {
            assert!(!send(deny, from(ip).header(name, value)).sent, "{ip} {name}");
            assert!(!send(allow, from(ip).header(name, value)).sent, "{ip} {name}");
        }
        let twice = from(ip).header("x-forwarded-for", "10.0.0.1").header("x-forwarded-for", "127.0.0.1");
        assert!(!send(allow, twice).sent);
    }
    for ip in ["198.51.100.9", "::ffff:198.51.100.9", "203.0.113.200", "::ffff:203.0.113.200"] {
        assert!(!send(deny, from(ip)).sent, "{ip}: mapped in the list, in the set, in the request");
    }
    for ip in ["::192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::"] {
        assert!(send(deny, from(ip)).sent, "{ip}: an IPv6 address of its own");
        assert!(!send(allow, from(ip)).sent, "{ip}");
    }
    let long = "10.0.0.1, ".repeat(10_000);
    assert!(!send(allow, from("192.0.2.1").header("x-forwarded-for", long)).sent);
}

/// The gateway has always an address. Were there none, nobody would pass.
#[test]
fn what_is_no_address_does_not_pass() {
    for ip in ["", "unix", "unknown", "10.0.0.1:80", "[::1]", "10.0.0.1 ", "127.1", "0x7f.0.0.1", "010.0.0.1"]
    {
        let outcome = send(r#"{"deny": ["192.0.2.1"]}"#, from(ip));
        assert!(!outcome.sent && outcome.error.is_some(), "{ip:?}");
    }
}

#[test]
fn the_peer_may_count_instead_of_the_client() {
    // The fake host's peer is 127.0.0.1:50000.
    let config = r#"{"allow": ["127.0.0.1"], "source": "peer"}"#;
    assert!(send(config, from("192.0.2.1")).sent);
    assert!(!send(r#"{"deny": ["127.0.0.0/8"], "source": "peer"}"#, from("192.0.2.1")).sent);
}

#[test]
fn a_refusal_is_as_the_config_says() {
    let outcome =
        send(r#"{"deny": ["127.0.0.1"], "status": 404, "message": "Nothing here"}"#, Request::get("/"));
    assert_eq!(outcome.response().status(), 404);
    assert_eq!(outcome.answer.unwrap().detail.as_deref(), Some("Nothing here"));
}

#[test]
fn who_is_denied_is_counted_and_a_dry_run_does_nothing_else() {
    let host = host();
    let deny = r#"{"deny": ["10.0.0.0/8"], "deny_networks": ["blocked"], "allow": ["192.0.2.0/24"]"#;
    let real = host.load::<IpRestriction>(&format!("{deny}}}")).unwrap();
    let dry = host.load::<IpRestriction>(&format!(r#"{deny}, "dry_run": true}}"#)).unwrap();
    for ip in ["10.0.0.1", "192.0.2.1", "203.0.113.1", "198.51.100.1"] {
        assert_eq!(real.send(from(ip)).sent, ip == "192.0.2.1");
        assert!(dry.send(from(ip)).sent);
    }
    assert_eq!((host.metric("denied", &[]), host.metric("would_deny", &[])), (Some(3.0), Some(3.0)));
    let lines: Vec<_> = host.log().into_iter().map(|line| line.message).collect();
    for line in [
        "10.0.0.1 is denied: `deny` has 10.0.0.0/8",
        "10.0.0.1 would be denied: `deny` has 10.0.0.0/8",
        "203.0.113.1 would be denied: `blocked` has 203.0.113.0/24",
        "198.51.100.1 would be denied: nothing that is allowed has it",
    ] {
        assert!(lines.contains(&line.to_string()), "{line}: {lines:?}");
    }
}

#[test]
fn host_bits_are_told_once() {
    let host = host();
    let config = r#"{"allow": ["10.1.2.3/8"]}"#;
    let plugin = host.load::<IpRestriction>(config).unwrap();
    host.load::<IpRestriction>(config).unwrap();
    assert!(plugin.send(from("10.9.9.9")).sent, "as its network");
    let lines: Vec<_> = host.log().into_iter().map(|line| line.message).collect();
    let told = "allow[0]: 10.1.2.3/8 has bits set behind its length: it stands for 10.0.0.0/8";
    assert_eq!(lines, [told]);
}

#[test]
fn mistakes_are_named() {
    let refusal = |config: &str| host().load::<IpRestriction>(config).err().unwrap().to_string();
    let neither = "is neither an IP address nor a network";
    for (config, expected) in [
        ("null", "allow, deny: nothing is given, so everybody would pass"),
        (r#"{"allow": []}"#, "allow, deny: nothing is given, so everybody would pass"),
        (r#"{"deny": ["::1", "10.0.0.0/33"]}"#, &format!("deny[1]: \"10.0.0.0/33\" {neither}")),
        (r#"{"allow": ["localhost"]}"#, &format!("allow[0]: \"localhost\" {neither}")),
        (r#"{"allow": ["10.0.0.1-10.0.0.9"]}"#, &format!("allow[0]: \"10.0.0.1-10.0.0.9\" {neither}")),
        (r#"{"allow": [""]}"#, &format!("allow[0]: \"\" {neither}")),
        (
            r#"{"deny_networks": ["blocked", "others"]}"#,
            "deny_networks[1]: `others` is not among the `networks` of the plugin's table",
        ),
        (r#"{"deny": ["::1"], "status": 200}"#, "status: must be 400 to 599"),
    ] {
        assert_eq!(refusal(config), expected);
    }
    assert!(
        refusal(r#"{"deny": ["::1"], "source": "proxy"}"#).starts_with("source: unknown variant `proxy`")
    );
}

#[test]
fn the_audit_is_told_why() {
    let config = r#"{"allow": ["192.0.2.0/24"], "deny": ["192.0.2.7"], "deny_networks": ["blocked"]}"#;
    for (ip, why, detail) in [
        ("192.0.2.7", Why::DENIED, "`deny` has 192.0.2.7"),
        ("203.0.113.1", Why::DENIED, "`blocked` has 203.0.113.0/24"),
        ("198.51.100.1", Why::NOT_ALLOWED, "nothing that is allowed has it"),
    ] {
        assert_eq!(send(config, from(ip)).reason, Some(Reason::new(why).detail(detail)));
    }
    let dry = config.replace("{", r#"{"dry_run": true, "#);
    assert_eq!(send(&dry, from("192.0.2.7")).reason, None);
}

//! Names and passwords from a file that is watched.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use wasmgate_tests::{Response, TestGateway, TestUpstream, eventually, fill, request};

const CONFIG: &str = r#"
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[plugins]
directory = "{plugins}"
[upstream.app]
endpoints = ["{app}"]
[[route]]
name = "all"
upstream = "app"
[[route.plugins]]
name = "basic-auth"
[route.plugins.config]
users = "${file:users.htpasswd}"
identities = { alice = { groups = ["staff"] } }
"#;

/// Hashes of "password", of which the last one takes some time.
const BCRYPT: &str = "$2y$04$VpjDvTLHNuiiGnl4z8xqROkxQnt4yPkw0WIpsJ1RXXmACDkEREJoK";
const APR1: &str = "$apr1$abcdefgh$FBwExRW4dCc8aL.OvjpIE1";
const SLOW: &str = "$2b$10$zfvqYtPLadSWh2JXlGDsc.18VyfA7mf1VN29Go8XC9h0Oq5gYB1SW";

fn start(upstream: &TestUpstream, users: &str) -> TestGateway {
    let config = fill(CONFIG, &[("app", &upstream.address())]);
    TestGateway::start_in(&config, &[], |folder| fs::write(folder.join("users.htpasswd"), users).unwrap())
}

fn ask(gateway: &TestGateway, credentials: &str) -> Response {
    let fields = format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(credentials));
    request(gateway.addr(), "GET", "/", &fields)
}

#[test]
fn users_of_the_file_pass_and_go_with_it() {
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, &format!("alice:{BCRYPT}\ncarol:{APR1}\n"));
    for user in ["alice", "carol"] {
        for _ in 0..2 {
            assert_eq!(ask(&gateway, &format!("{user}:password")).status, 200, "{user}");
            let seen = upstream.take_requests().remove(0);
            assert_eq!((seen.header("x-consumer-id"), seen.header("authorization")), (Some(user), None));
        }
    }
    for credentials in ["alice:guess", "mallory:password", "alice", ""] {
        let refused = ask(&gateway, credentials);
        assert_eq!((refused.status, refused.code().as_str()), (401, "unauthenticated"), "{credentials}");
        let challenge = refused.header("www-authenticate");
        assert_eq!(challenge, Some("Basic realm=\"gateway\", charset=\"UTF-8\""));
    }
    assert_eq!(gateway.logged("which are quickly guessed").len(), 1, "{}", gateway.log());
    // A password that was right before is not: another file, another instance.
    gateway.reloads_after(|| {
        fs::write(gateway.directory().join("users.htpasswd"), format!("bob:{BCRYPT}\n")).unwrap();
    });
    assert_eq!(ask(&gateway, "alice:password").status, 401);
    assert_eq!(ask(&gateway, "bob:password").status, 200);
}

/// With a hash that takes tens of milliseconds on any machine.
#[test]
fn who_does_not_exist_takes_as_long_as_a_wrong_password() {
    let upstream = TestUpstream::ok();
    let gateway = start(&upstream, &format!("alice:{SLOW}\n"));
    let is_slow = |credentials: &str, expected: u16| {
        let asked = Instant::now();
        assert_eq!(ask(&gateway, credentials).status, expected);
        asked.elapsed() > Duration::from_millis(15)
    };
    for credentials in ["alice:guess", "mallory:guess", "mallory:demo"] {
        assert!((0..5).all(|_| is_slow(credentials, 401)), "{credentials}");
    }
    assert!(is_slow("alice:demo", 200));
    eventually!(!is_slow("alice:demo", 200));
}

/// With a hash that takes seconds, and more requests than are made at the same time.
#[test]
fn guessers_get_503_and_not_all_cores() {
    let upstream = TestUpstream::ok();
    let slow = "$argon2id$v=19$m=32768,t=100,p=1$c29tZXNhbHQ$FqGkmHNGCd0BRW2kBt6fPZ2pPmyGwwChL8FGUhTOSSI";
    let gateway = start(&upstream, &format!("alice:{slow}\nbob:{BCRYPT}\n"));
    let guesses = thread::available_parallelism().unwrap().get() * 3;
    let answers: Vec<_> = thread::scope(|scope| {
        let guess = |number| ask(&gateway, &format!("alice:guess{number}"));
        let guesses: Vec<_> = (0..guesses).map(|number| scope.spawn(move || guess(number))).collect();
        guesses.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status != 401).collect();
    assert!(!busy.is_empty() && busy.len() < answers.len(), "{} of {}", busy.len(), answers.len());
    for answer in busy {
        assert_eq!((answer.status, answer.code().as_str()), (503, "authentication_unavailable"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(ask(&gateway, "bob:password").status, 200);
}

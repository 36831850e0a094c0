//! Which endpoint gets a request, and what changes that while requests flow.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Write,
    os::unix::net::UnixListener,
    thread,
    time::{Duration, Instant},
};

use wasmgate_tests::{Client, Faulty, Load, Mood, TestGateway, before_all, eventually};

/// One worker, so that turns are exact.
const ONE: &str = "[server]\nworkers = 1\n";

/// Endpoints are looked at often, and once is enough.
const HEALTH: &str =
    "[upstream.app.health]\ninterval = \"50ms\"\ntimeout = \"2s\"\nsuccesses = 1\nfailures = 1\n";

fn gateway(endpoints: &[&Faulty], rest: &str) -> TestGateway {
    TestGateway::start(&config(endpoints, rest))
}

fn config(endpoints: &[&Faulty], rest: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|endpoint| *endpoint as _).collect();
    before_all(&endpoints, &format!("{rest}{ONE}"))
}

/// An endpoint as a table, with further keys.
fn with(endpoint: &Faulty, keys: &str) -> String {
    format!("{{ address = \"{endpoint}\", {keys} }}")
}

/// Who answered how often.
fn answers(gateway: &TestGateway, count: usize) -> HashMap<String, usize> {
    let (mut client, mut answers) = (Client::connect(gateway.addr()), HashMap::new());
    for _ in 0..count {
        let response = client.get("/");
        assert_eq!(response.status, 200, "{response:?}");
        *answers.entry(response.text()).or_default() += 1;
    }
    answers
}

fn of(answers: &HashMap<String, usize>, endpoint: &Faulty) -> usize {
    answers.get(&endpoint.to_string()).copied().unwrap_or_default()
}

/// Who answers a request with this target and these lines.
fn chosen(client: &mut Client, target: &str, lines: &str) -> String {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).response().text()
}

#[test]
fn turns_go_by_weight() {
    let [a, b, c, none] = &Faulty::several();
    let tables =
        [(a, 1), (b, 2), (c, 5), (none, 0)].map(|(one, weight)| with(one, &format!("weight = {weight}")));
    let gateway = TestGateway::start(&before_all(&tables.each_ref().map(|table| table as _), ONE));
    let answers = answers(&gateway, 80);
    assert_eq!([a, b, c, none].map(|endpoint| of(&answers, endpoint)), [10, 20, 50, 0]);
    assert_eq!(none.connections(), 0);
}

#[test]
fn chance_is_fair() {
    let endpoints: [Faulty; 4] = Faulty::several();
    let gateway = gateway(&endpoints.each_ref(), "[upstream.app.balance]\nmethod = \"random\"\n");
    let answers = answers(&gateway, 400);
    // Six standard deviations around a hundred.
    assert!(endpoints.iter().all(|endpoint| (48..=152).contains(&of(&answers, endpoint))), "{answers:?}");
}

#[test]
fn least_request_spares_a_slow_endpoint() {
    let endpoints: [Faulty; 4] = Faulty::several();
    endpoints[0].set(Mood::Slow(Duration::from_millis(100)));
    endpoints[1..].iter().for_each(|endpoint| endpoint.set(Mood::Slow(Duration::from_millis(5))));
    let gateway = gateway(&endpoints.each_ref(), "[upstream.app.balance]\nmethod = \"least-request\"\n");
    let answers = Load::get(gateway.addr(), "/", 500).connections(32).count(1500);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let share = endpoints[0].count() as f64 / answers.len() as f64;
    println!("of {} requests {:.1} % for the slow one of four", answers.len(), share * 100.0);
    assert!(share < 0.12, "{share}");
}

#[test]
fn a_key_stays_where_it_is() {
    const KEYS: usize = 3000;
    for table in ["maglev", "ring"] {
        let endpoints: [Faulty; 10] = Faulty::several();
        let balance = format!(
            "[upstream.app.balance]\nmethod = \"hash\"\nkey = \"header:x-user\"\ntable = \"{table}\"\n"
        );
        let gateway = gateway(&endpoints.each_ref(), &balance);
        let mut client = Client::connect(gateway.addr());
        let mut places = || -> Vec<String> {
            (0..KEYS).map(|user| chosen(&mut client, "/", &format!("X-User: {user}\r\n"))).collect()
        };
        let first = places();
        let gone = endpoints[3].to_string();
        let left: Vec<_> = endpoints.iter().filter(|one| one.to_string() != gone).collect();
        gateway.write_config(&config(&left, &balance));
        gateway.reload();
        let second = places();
        let moved = first.iter().zip(&second).filter(|(first, second)| first != second).count();
        let needless =
            first.iter().zip(&second).filter(|(first, second)| first != second && **first != gone).count();
        println!(
            "{table}: {:.1} % of the keys moved, {needless} of them needlessly",
            moved as f64 * 100.0 / KEYS as f64
        );
        assert!(!second.contains(&gone));
        assert!(needless * 100 <= KEYS * 2, "{needless}");
        gateway.write_config(&config(&endpoints.each_ref(), &balance));
        gateway.reload();
        assert_eq!(places(), first, "it is there again");
    }
}

#[test]
fn many_things_can_be_the_key() {
    let endpoints: [Faulty; 4] = Faulty::several();
    let trusted = "[forwarded]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    for (key, target, line) in [
        ("header:x-user", "/", "X-User: {}"),
        ("cookie:user", "/", "Cookie: a=b; user={}; c=d"),
        ("query:user", "/?a=b&user={}", "X-None: 1"),
        ("path", "/{}?a=b", "X-None: 1"),
        ("ip", "/", "X-Forwarded-For: 192.0.2.{}"),
    ] {
        let balance = format!("{trusted}[upstream.app.balance]\nmethod = \"hash\"\nkey = \"{key}\"\n");
        let gateway = gateway(&endpoints.each_ref(), &balance);
        let mut client = Client::connect(gateway.addr());
        let mut place = |user: usize| {
            let [target, line] = [target, line].map(|text| text.replace("{}", &user.to_string()));
            chosen(&mut client, &target, &format!("{line}\r\n"))
        };
        let places: Vec<_> = (0..40).map(&mut place).collect();
        assert_eq!(places, (0..40).map(place).collect::<Vec<_>>(), "{key}");
        let different: HashSet<_> = places.iter().collect();
        assert_eq!(different.len(), 4, "{key}: {places:?}");
        // Requests without a key go everywhere.
        if !["path", "ip"].contains(&key) {
            assert_eq!(answers(&gateway, 80).len(), 4, "{key}");
        }
    }
}

#[test]
fn a_consumer_stays_with_its_endpoint() {
    let endpoints: [Faulty; 4] = Faulty::several();
    // Of key-a to key-d.
    let digests = [
        "f10f781241e2246678b6b45c857069208152a53863e47fac33f607ab405006f4",
        "a30534a53b23547377ddccbd1ac85a8a84c13db43493c16e55a6abc7b0eba634",
        "49043acf9056472a214242c2d15f3087c2d024b0d39ee858c60712b2354f3926",
        "762e6ad0dcc69a239e15262882e6a8e08671002b9f355cba6da005e3a8f677ca",
    ];
    let keys = digests
        .iter()
        .enumerate()
        .map(|(n, digest)| format!("{{ sha256 = \"{digest}\", consumer = \"user-{}\" }}", n / 2));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let gateway = gateway(
        &endpoints.each_ref(),
        &format!(
            "[plugins]\ndirectory = \"{{plugins}}\"\n[upstream.app.balance]\nmethod = \"hash\"\nkey = \"consumer\"\n\
             [[route]]\nname = \"all\"\nupstream = \"app\"\nplugins = [{{ name = \"key-auth\", config = {{ keys = [{keys}] }} }}]\n"
        ),
    );
    let mut client = Client::connect(gateway.addr());
    let mut place = |key: &str| chosen(&mut client, "/", &format!("X-API-Key: key-{key}\r\n"));
    for _ in 0..10 {
        assert_eq!(place("a"), place("b"), "two keys of one consumer");
        assert_eq!(place("c"), place("d"));
    }
}

#[test]
fn a_cookie_keeps_a_client_at_its_endpoint() {
    let mut endpoints: [Faulty; 4] = Faulty::several();
    let sticky =
        "[upstream.app.balance]\nsticky = { cookie = \"route\", path = \"/app\", max_age = \"1h\" }\n";
    let gateway = gateway(&endpoints.each_ref(), &format!("{sticky}{HEALTH}"));
    let mut client = Client::connect(gateway.addr());
    let mut ask = |cookie: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{cookie}\r\n");
        let response = client.send(head).response();
        let set = response.header("set-cookie").map(str::to_owned);
        (response.text(), set)
    };
    let (own, set) = ask("");
    let set = set.expect("the first answer sets it");
    let (cookie, attributes) = set.split_once(';').unwrap();
    for attribute in ["Path=/app", "Max-Age=3600", "HttpOnly", "SameSite=Lax"] {
        assert!(attributes.contains(attribute), "{set}");
    }
    assert!(!attributes.contains("Secure"), "{set}");
    let value = cookie.strip_prefix("route=").expect("its name");
    assert!(!own.split([':', '.']).any(|part| part.len() > 2 && value.contains(part)), "{value} tells {own}");
    let line = format!("Cookie: a=b; {cookie}\r\n");
    for _ in 0..20 {
        assert_eq!(ask(&line), (own.clone(), None), "kept, and not set again");
    }

    // What nobody gave out is as no cookie.
    for forged in ["", "0", "zz", "ffffffffffffffff", "-1", &"f".repeat(4000)] {
        let (place, set) = ask(&format!("Cookie: route={forged}\r\n"));
        let set = set.unwrap_or_else(|| panic!("{forged:?} is kept"));
        let line = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
        assert_eq!(ask(&line), (place, None), "{forged:?}");
    }

    let gone = endpoints.iter_mut().find(|endpoint| endpoint.to_string() == own).unwrap();
    gone.kill();
    eventually!(!gateway.serves(gone));
    let (other, set) = ask(&line);
    assert_ne!(other, own);
    let set = set.expect("another one");
    let line = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    assert_eq!(ask(&line), (other, None));
}

#[test]
fn lower_priorities_step_in_and_back() {
    let [mut first, mut second, spare] = Faulty::several();
    let tables = [(&first, 0), (&second, 0), (&spare, 1)];
    let tables = tables.map(|(one, priority)| with(one, &format!("priority = {priority}")));
    let config = before_all(&tables.each_ref().map(|table| table as _), &format!("{ONE}{HEALTH}"));
    let gateway = TestGateway::start(&config);
    assert_eq!(of(&answers(&gateway, 40), &spare), 0);
    second.kill();
    eventually!(!gateway.serves(&second));
    // One of two bears 70 % (a factor of 1.4); six standard deviations around 30 of a hundred.
    let shared = answers(&gateway, 100);
    assert!((3..=57).contains(&of(&shared, &spare)), "{shared:?}");
    first.kill();
    eventually!(!gateway.serves(&first));
    assert_eq!(of(&answers(&gateway, 40), &spare), 40);
    first.restart();
    second.restart();
    eventually!(gateway.serves(&first) && gateway.serves(&second));
    let back = answers(&gateway, 40);
    assert_eq!([&first, &second, &spare].map(|endpoint| of(&back, endpoint)), [20, 20, 0]);
}

#[test]
fn the_own_zone_comes_first() {
    let [mut near, far] = Faulty::several();
    let tables = [with(&near, "zone = \"here\""), with(&far, "zone = \"there\"")];
    let server = "[server]\nworkers = 1\nzone = \"here\"\n";
    let config = before_all(&tables.each_ref().map(|table| table as _), &format!("{server}{HEALTH}"));
    let gateway = TestGateway::start(&config);
    assert_eq!(of(&answers(&gateway, 20), &near), 20);
    near.kill();
    eventually!(!gateway.serves(&near));
    assert_eq!(of(&answers(&gateway, 20), &far), 20);
    near.restart();
    eventually!(gateway.serves(&near));
    assert_eq!(of(&answers(&gateway, 20), &near), 20);
}

#[test]
fn health_does_not_count_where_hardly_anybody_is_healthy() {
    for (panic, everybody) in [(50, true), (0, false)] {
        let endpoints: [Faulty; 3] = Faulty::several();
        endpoints[1..].iter().for_each(|endpoint| endpoint.set(Mood::Status(503)));
        let rest = format!("[upstream.app.balance]\npanic = {panic}\n{HEALTH}");
        let gateway = gateway(&endpoints.each_ref(), &rest);
        eventually!(endpoints[1..].iter().all(|endpoint| !gateway.serves(endpoint)));
        let mut client = Client::connect(gateway.addr());
        let served = (0..30).filter(|_| client.get("/").status == 200).count();
        assert_eq!(served < 20, everybody, "panic = {panic}: {served} of 30");
    }
}

#[test]
fn nobody_is_left() {
    let mut endpoints: [Faulty; 2] = Faulty::several();
    let gateway = gateway(&endpoints.each_ref(), &format!("[upstream.app.balance]\npanic = 0\n{HEALTH}"));
    endpoints.iter_mut().for_each(Faulty::kill);
    eventually!(endpoints.iter().all(|endpoint| !gateway.serves(endpoint)));
    let response = gateway.get("/");
    assert_eq!((response.status, response.code().as_str()), (503, "no_healthy_upstream"));
    endpoints[0].restart();
    eventually!(gateway.get("/").status == 200);
}

#[test]
fn a_new_endpoint_starts_slowly() {
    let [old, new] = &Faulty::several();
    let slow = "[upstream.app.balance]\nslow_start = \"2s\"\n";
    let gateway = gateway(&[old], slow);
    // Until then the first one is new itself.
    let started = Instant::now();
    eventually!(started.elapsed() > Duration::from_secs(2));
    gateway.write_config(&config(&[old, new], slow));
    gateway.reload();
    let first = of(&answers(&gateway, 100), new);
    assert!((1..=40).contains(&first), "{first}");
    eventually!(of(&answers(&gateway, 100), new) == 50);
}

#[test]
fn a_unix_socket_is_an_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(1..) = std::io::Read::read(&mut stream, &mut buffer) {
                    let host = String::from_utf8_lossy(&buffer).to_lowercase();
                    let host = host.split("host: ").nth(1).unwrap().split('\r').next().unwrap().to_owned();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{host}", host.len());
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    for (host, seen) in [("preserve", "a.test"), ("upstream", "localhost"), ("b.test", "b.test")] {
        let path = format!("unix:{}", path.display());
        let gateway = TestGateway::start(&before_all(&[&path], &format!("host = \"{host}\"\n{HEALTH}")));
        eventually!(gateway.serves(&path));
        assert_eq!(gateway.get("/").text(), seen);
        let line = &gateway.access_lines(1)[0];
        assert_eq!(line["endpoint"], path);
    }
}

#[test]
fn a_weight_of_none_lets_requests_finish() {
    let [one, other] = &Faulty::several();
    one.set(Mood::Slow(Duration::from_secs(1)));
    let gateway = gateway(&[one], "");
    let mut client = Client::connect(gateway.addr());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually!(one.under_way() == 1);
    let drained = with(one, "weight = 0");
    gateway.write_config(&before_all(&[&drained, other], ONE));
    gateway.reload();
    assert_eq!(of(&answers(&gateway, 10), other), 10);
    assert_eq!(client.response().text(), one.to_string());
    assert_eq!(one.count(), 1);
}

#[test]
fn endpoints_of_a_file() {
    let [one, other] = &Faulty::several();
    let listed = |endpoints: &str| format!("endpoints = [{endpoints}]\n");
    let config = before_all(&[&"{ file = \"app.toml\" }"], &format!("{ONE}[reload]\ndebounce = \"20ms\"\n"));
    let gateway = TestGateway::start_in(&config, &[], |folder| {
        fs::write(folder.join("app.toml"), listed(&format!("\"{one}\""))).unwrap();
    });
    let file = gateway.directory().join("app.toml");
    assert_eq!(of(&answers(&gateway, 10), one), 10);
    let put = |text: &str| {
        let next = file.with_extension("next");
        fs::write(&next, text).unwrap();
        gateway.reloads_after(|| fs::rename(&next, &file).unwrap());
    };
    put(&listed(&format!("\"{other}\", {}", with(one, "weight = 3"))));
    let both = answers(&gateway, 40);
    assert_eq!([of(&both, one), of(&both, other)], [30, 10]);

    for (faulty, told) in [
        ("endpoints = [\n\"127.0.0.1\",\n]", "app.toml:2:"),
        ("endpoints = [", "app.toml:1: "),
        ("endpoints = []", "there is no endpoint"),
        ("endpoint = []", "app.toml:1: "),
        ("", "app.toml"),
    ] {
        let before = gateway.log().len();
        put(faulty);
        let log = gateway.log_from(before);
        assert!(log.contains("not reloaded") && log.contains(told), "{faulty:?}: {log}");
        assert_eq!(answers(&gateway, 4).len(), 2, "what was there stays");
    }
    put(&listed(&format!("\"{other}\"")));
    assert_eq!(of(&answers(&gateway, 10), other), 10);
}

#[test]
fn a_reload_keeps_connections_and_what_is_known_of_health() {
    let [well, mut ill, new] = Faulty::several();
    let gateway = gateway(&[&well, &ill], "[upstream.app.outliers]\nfailures = 1\n");
    assert_eq!(answers(&gateway, 4).len(), 2);
    ill.kill();
    let mut client = Client::connect(gateway.addr());
    // The connection that was kept is found closed, and another one refused.
    eventually!({
        client.get("/");
        !gateway.serves(&ill)
    });
    gateway.write_config(&config(&[&new, &well, &ill], "[upstream.app.outliers]\nfailures = 2\n"));
    gateway.reload();
    assert!(!gateway.serves(&ill));
    let after = answers(&gateway, 20);
    assert_eq!([of(&after, &well), of(&after, &new)], [10, 10]);
    assert_eq!(well.connections(), 1);
}

#[test]
fn endpoints_come_and_go_under_load() {
    let [stays, one, other] = &Faulty::several();
    let gateway = gateway(&[stays, one], "");
    let load = Load::get(gateway.addr(), "/", 500).start();
    for turn in 0..12 {
        let (comes, goes) = if turn % 2 == 0 { (other, one) } else { (one, other) };
        let before = comes.count();
        gateway.write_config(&config(
            &[comes, stays],
            &format!("keep_alive = {{ connections = {} }}\n", 10 + turn),
        ));
        gateway.reload();
        eventually!(comes.count() > before);
        eventually!(goes.open() == 0, "connections to who is gone end");
    }
    let answers = load.stop();
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

//! A store that several gateways share, in real Redis servers.

use wasmgate_tests::{Redis, peer, redis_cluster, redis_sentinel};

use super::*;

/// A gateway whose store is in this Redis.
fn sharing(redis: &str, stale: &str) -> TestGateway {
    let consumers =
        format!("redis = \"shared\"\nstale = \"{stale}\"\ngrace = \"1s\"\n[redis.shared]\n{redis}");
    start(&config("127.0.0.1:0", &consumers))
}

fn at(redis: &Redis) -> String {
    format!("endpoints = [\"{}\"]", redis.address)
}

/// One that has all again after it was killed.
fn keeping() -> Option<Redis> {
    Some(Redis::start(peer("redis-server")?, &["--appendonly", "yes"]))
}

/// How long it took.
fn until(started: Instant, is_so: impl FnMut() -> bool) -> Duration {
    assert!(wasmgate_tests::holds_in_time(is_so));
    started.elapsed()
}

fn revoke(gateway: &TestGateway, consumer: &str, id: &str) -> Response {
    gateway.order("DELETE", &format!("/consumers/{consumer}/keys/{id}"), Value::Null)
}

fn code(response: &Response) -> Value {
    json(response)["code"].clone()
}

#[test]
fn a_key_is_good_and_revoked_on_all_gateways() {
    let Some(redis) = keeping() else { return };
    let gateways = [(); 3].map(|()| sharing(&at(&redis), "1m"));
    let [first, second, third] = &gateways;
    let bob = json!({ "groups": ["partners"], "plan": "free", "custom_id": "u-2" });
    assert_eq!(first.order("PUT", "/consumers/bob", bob).status, 200);
    let mut keys = Vec::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let (key, id) = first.issue("/consumers/bob/keys", Value::Null);
        assert_eq!(told(&with_key(first, &key)), json!(["bob", "free", "partners", id]));
        for gateway in [second, third] {
            eventually!(status(gateway, &key) == 200);
        }
        let revoked = Instant::now();
        assert_eq!(revoke(second, "bob", &id).status, 204);
        assert_eq!(status(second, &key), 401);
        for gateway in [first, third] {
            slowest = slowest.max(until(revoked, || status(gateway, &key) == 401));
        }
        keys.push(key);
    }
    println!("a revoked key was refused by the last gateway after {slowest:?} at most");
    assert!(slowest <= Duration::from_secs(1), "{slowest:?}");
    assert!(keys.iter().all(|key| gateways.iter().all(|gateway| status(gateway, key) == 401)));

    let (old, id) = third.issue("/consumers/bob/keys", Value::Null);
    eventually!(status(first, &old) == 200);
    let (new, _) = first.issue(&format!("/consumers/bob/keys/{id}/rotate"), Value::Null);
    let rotated = Instant::now();
    for gateway in [second, third] {
        eventually!(status(gateway, &new) == 200);
        assert!(status(gateway, &old) == 200 || rotated.elapsed() >= Duration::from_secs(1));
        eventually!(status(gateway, &old) == 401);
        assert!(rotated.elapsed() >= Duration::from_millis(900), "in its grace: {:?}", rotated.elapsed());
        assert_eq!((status(gateway, &new), states(gateway, "bob")), (200, json!(["expired", "active"])));
    }
    let kept = redis.ask(&["hvals", "wasmgate:{consumers}:records"]);
    assert!(kept.contains("sha256") && kept.contains("bob"), "{kept}");
    keys.extend([old, new]);
    for secret in keys.iter().map(|key| &key[16..]) {
        assert!(!kept.contains(secret) && gateways.iter().all(|gateway| !gateway.log().contains(secret)));
    }
}

#[test]
fn a_gateway_that_starts_knows_all_of_it() {
    let Some(redis) = keeping() else { return };
    let first = sharing(&at(&redis), "1m");
    assert_eq!(first.order("PUT", "/consumers/bob", json!({ "plan": "free" })).status, 200);
    let keys: Vec<_> = (0..600).map(|_| first.issue("/consumers/bob/keys", Value::Null)).collect();
    assert_eq!(revoke(&first, "bob", &keys[1].1).status, 204);
    drop(first);
    let next = sharing(&at(&redis), "1m");
    assert_eq!([0, 1, 2, 599].map(|place| status(&next, &keys[place].0)), [200, 401, 200, 200], "at once");
    assert_eq!(states(&next, "bob").as_array().unwrap().len(), 599);
    // Another Redis, and none.
    let with = |consumers: &str| {
        next.write_config(&config("127.0.0.1:0", consumers));
        next.reload();
    };
    let shared = format!("redis = \"shared\"\n[redis.shared]\n{}", at(&redis));
    with(&format!("{shared}\nprefix = \"other:\""));
    assert_eq!(status(&next, &keys[0].0), 401);
    with(&format!("stale = \"5m\"\n{shared}"));
    assert_eq!(status(&next, &keys[0].0), 200);
    with("");
    assert_eq!(status(&next, &keys[0].0), 401);
}

#[test]
fn what_two_gateways_change_at_the_same_time_is_all_there() {
    let Some(redis) = keeping() else { return };
    let gateways = [sharing(&at(&redis), "1m"), sharing(&at(&redis), "1m")];
    let keys: Vec<_> = thread::scope(|scope| {
        let change = |place: usize| {
            let gateway = &gateways[place];
            move || {
                let mut keys = Vec::new();
                for turn in 0..40 {
                    let name = format!("/consumers/of-{place}-{turn}");
                    assert_eq!(gateway.order("PUT", &name, json!({})).status, 200);
                    keys.push(gateway.issue(&format!("{name}/keys"), Value::Null).0);
                    keys.push(gateway.issue("/consumers/alice/keys", Value::Null).0);
                }
                keys
            }
        };
        let changes = [scope.spawn(change(0)), scope.spawn(change(1))];
        changes.into_iter().flat_map(|change| change.join().unwrap()).collect()
    });
    assert_eq!(keys.len(), 160);
    for gateway in &gateways {
        for key in &keys {
            eventually!(status(gateway, key) == 200);
        }
        let all = json(&gateway.admin_request("GET", "/consumers", ""));
        assert_eq!(all.as_array().unwrap().len(), 81);
    }
}

#[test]
fn without_the_redis_what_is_known_is_good_for_a_while() {
    let Some(mut redis) = keeping() else { return };
    let stale = Duration::from_secs(3);
    let (brief, patient) = (sharing(&at(&redis), "3s"), sharing(&at(&redis), "1m"));
    let (key, id) = brief.issue("/consumers/alice/keys", Value::Null);
    let (other, other_id) = brief.issue("/consumers/alice/keys", Value::Null);
    eventually!(status(&patient, &other) == 200);
    assert_eq!(revoke(&patient, "alice", &other_id).status, 204);
    let elsewhere = sharing(&format!("{}\nprefix = \"other:\"", at(&redis)), "1m");
    let (unknown, _) = elsewhere.issue("/consumers/alice/keys", Value::Null);
    drop(elsewhere);

    let killed = Instant::now();
    redis.kill();
    for gateway in [&brief, &patient] {
        for (method, target) in [
            ("PUT", "/consumers/bob"),
            ("POST", "/consumers/alice/keys"),
            ("POST", &format!("/consumers/alice/keys/{id}/rotate")),
            ("DELETE", &format!("/consumers/alice/keys/{id}")),
        ] {
            let body = if method == "PUT" { json!({}) } else { Value::Null };
            let refused = gateway.order(method, target, body);
            let detail = "Nothing was changed: the Redis `shared` gives no answer";
            assert_eq!(refused.status, 503, "{method} {target}: {}", refused.text());
            assert!(refused.text().contains(detail), "{method} {target}: {}", refused.text());
        }
    }
    while killed.elapsed() < stale - Duration::from_millis(500) {
        assert_eq!([status(&brief, &key), status(&brief, ALICE_KEY)], [200, 200]);
        assert_eq!(status(&brief, &unknown), 401);
    }
    let ended = until(killed, || status(&brief, &key) == 503);
    println!("what is known for 3 s was good for {ended:?}");
    assert!(ended <= stale + Duration::from_secs(1), "{ended:?}");
    for key in [&key, &other, &unknown] {
        let refused = with_key(&brief, key);
        assert_eq!((refused.status, code(&refused)), (503, json!("consumers_unavailable")));
    }
    assert_eq!(
        [status(&brief, ALICE_KEY), status(&patient, &key), status(&patient, &other)],
        [200, 200, 401]
    );
    let unread = brief.admin_request("GET", "/consumers", "");
    assert_eq!(unread.status, 503);
    assert!(unread.text().contains("This cannot be told: "), "{}", unread.text());
    let told = "the Redis `shared` gives no answer, so consumers are not known";
    eventually!(brief.log().contains(told));

    redis.restart();
    let back = Instant::now();
    let took = until(back, || status(&brief, &key) == 200);
    println!("normal {took:?} after the Redis was back");
    assert!(took <= Duration::from_secs(2), "{took:?}");
    assert_eq!([status(&brief, &other), status(&brief, &unknown)], [401, 401]);
    eventually!(revoke(&patient, "alice", &id).status == 204);
    eventually!(status(&brief, &key) == 401);
    assert_eq!(brief.logged(told).len(), 1, "told once: {}", brief.log());
}

#[test]
fn a_redis_that_says_nothing_is_one_that_is_gone() {
    let Some(redis) = keeping() else { return };
    let gateway = sharing(&at(&redis), "1s");
    let (key, id) = gateway.issue("/consumers/alice/keys", Value::Null);
    redis.pause();
    let refused = revoke(&gateway, "alice", &id);
    assert_eq!(refused.status, 503, "{}", refused.text());
    eventually!(status(&gateway, &key) == 503);
    redis.resume();
    let took = until(Instant::now(), || status(&gateway, &key) == 200);
    println!("normal {took:?} after the Redis went on");
    assert!(took <= Duration::from_secs(2), "{took:?}");
    // Nor does the order hold now that nobody waits for any more.
    let (later, _) = gateway.issue("/consumers/alice/keys", Value::Null);
    assert_eq!([status(&gateway, &key), status(&gateway, &later)], [200, 200]);
}

#[test]
fn a_gateway_that_was_cut_off_catches_up() {
    let Some(redis) = keeping() else { return };
    let user = |name: &str, state: &str| {
        redis.ask(&["acl", "setuser", name, state, ">pass-word", "~*", "+@all"]);
    };
    user("b", "on");
    let first = sharing(&at(&redis), "1m");
    let second = sharing(&format!("{}\nusername = \"b\"\npassword = \"pass-word\"", at(&redis)), "1m");
    let (old, id) = first.issue("/consumers/alice/keys", Value::Null);
    eventually!(status(&second, &old) == 200);
    user("b", "off");
    redis.ask(&["client", "kill", "user", "b"]);
    eventually!(second.log().contains("Redis is lost"));
    assert_eq!(first.order("PUT", "/consumers/bob", json!({})).status, 200);
    assert_eq!(revoke(&first, "alice", &id).status, 204);
    let keys: Vec<_> = (0..20).map(|_| first.issue("/consumers/bob/keys", Value::Null)).collect();
    assert_eq!(revoke(&first, "bob", &keys[3].1).status, 204);
    assert_eq!(status(&second, &keys[0].0), 401, "it cannot know");
    user("b", "on");
    let back = Instant::now();
    let took = until(back, || status(&second, &keys[0].0) == 200);
    println!("caught up {took:?} after it was let in again");
    assert!(took <= Duration::from_secs(2), "{took:?}");
    assert_eq!((status(&second, &old), status(&second, &keys[3].0)), (401, 401));
    assert!(keys.iter().skip(4).all(|(key, _)| status(&second, key) == 200));
}

/// Also for the last requests of a gateway that is about to end.
#[test]
fn a_key_is_revoked_while_a_gateway_drains() {
    let Some(redis) = keeping() else { return };
    let (mut first, second) = (sharing(&at(&redis), "1m"), sharing(&at(&redis), "1m"));
    let (key, id) = second.issue("/consumers/alice/keys", Value::Null);
    eventually!(status(&first, &key) == 200);
    let mut begun: Vec<_> = (0..300).map(|_| Client::connect(first.addr())).collect();
    begun.iter_mut().for_each(|client| _ = client.send("GET / HTTP/1.1\r\nHost: a\r\n"));
    let mut finish = || {
        let mut client = begun.pop().expect("another request");
        client.send(format!("X-Api-Key: {key}\r\n\r\n"));
        client.response().status
    };
    assert_eq!(finish(), 200);
    first.terminate();
    eventually!(first.log().contains("draining"));
    assert_eq!(finish(), 200);
    assert_eq!(revoke(&second, "alice", &id).status, 204);
    eventually!(finish() == 401);
    drop(begun);
    first.wait();
}

#[test]
fn a_gateway_starts_without_its_redis() {
    let Some(mut redis) = keeping() else { return };
    let (key, _) = sharing(&at(&redis), "1m").issue("/consumers/alice/keys", Value::Null);
    redis.kill();
    let gateway = sharing(&at(&redis), "1m");
    assert_eq!([status(&gateway, &key), status(&gateway, ALICE_KEY), status(&gateway, "x")], [503, 200, 401]);
    redis.restart();
    let took = until(Instant::now(), || status(&gateway, &key) == 200);
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_cluster_keeps_them_as_well() {
    let Some(program) = peer("redis-server") else { return };
    let nodes = redis_cluster(program);
    let endpoints: Vec<_> = nodes.iter().map(|node| format!("\"{}\"", node.address)).collect();
    let redis = format!("mode = \"cluster\"\nendpoints = [{}]", endpoints.join(", "));
    let gateways = [sharing(&redis, "1m"), sharing(&redis, "1m")];
    let (key, id) = gateways[0].issue("/consumers/alice/keys", Value::Null);
    eventually!(status(&gateways[1], &key) == 200);
    let (new, _) = gateways[1].issue(&format!("/consumers/alice/keys/{id}/rotate"), json!({ "grace": "0s" }));
    let rotated = Instant::now();
    let took = until(rotated, || [status(&gateways[0], &key), status(&gateways[0], &new)] == [401, 200]);
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

/// What the new master has not is gone, and who has it in memory forgets it: a key that came back would be worse.
#[test]
fn a_new_master_has_the_word() {
    let Some(program) = peer("redis-server") else { return };
    let mut master = Redis::start(program.clone(), &[]);
    let port = master.address.port().to_string();
    let replica = Redis::start(program.clone(), &["--replicaof", "127.0.0.1", &port]);
    let sentinel = redis_sentinel(program, &master);
    eventually!(
        sentinel.ask(&["sentinel", "replicas", "main"]).contains(&replica.address.port().to_string())
    );
    let gateways = [(); 2]
        .map(|()| sharing(&format!("mode = \"sentinel\"\nmaster = \"main\"\n{}", at(&sentinel)), "1m"));
    let [first, second] = &gateways;
    let (key, id) = first.issue("/consumers/alice/keys", Value::Null);
    eventually!(status(second, &key) == 200);
    eventually!(replica.ask(&["hkeys", "wasmgate:{consumers}:records"]).contains(&id));
    // It is cut off, and not for so long that the Sentinel would not take it.
    sentinel.ask(&["sentinel", "set", "main", "down-after-milliseconds", "2000"]);
    master.ask(&["config", "set", "requirepass", "unknown"]);
    replica.ask(&["client", "kill", "type", "master"]);
    let (lost, _) = first.issue("/consumers/alice/keys", Value::Null);
    eventually!(status(second, &lost) == 200);
    master.kill();
    assert_eq!(status(first, &key), 200, "known");
    eventually!(gateways.iter().all(|gateway| status(gateway, &lost) == 401));
    let (later, _) = second.issue("/consumers/alice/keys", Value::Null);
    eventually!([&key, &later].iter().all(|key| status(first, key) == 200));
    assert_eq!(revoke(first, "alice", &id).status, 204);
    eventually!(status(second, &key) == 401);
}

/// config/examples/several-gateways.toml, as a reader copies it.
#[test]
fn the_example_of_several_gateways_runs() {
    let Some(redis) = keeping() else { return };
    let upstream = wasmgate_tests::TestUpstream::ok();
    let example = wasmgate_build::workspace().join("config/examples/several-gateways.toml");
    let example = fs::read_to_string(example)
        .unwrap()
        .replacen("[[listener]]", "[[listener]]\nname = \"public\"", 1)
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9901", "127.0.0.1:0")
        .replace("127.0.0.1:9001", &upstream.address().to_string())
        .replace("127.0.0.1:6379", &redis.address.to_string())
        .replace("timeout = \"50ms\"", "timeout = \"10s\"")
        .replace("../../target/plugins", "{plugins}")
        .replace("rate = 10, per = \"1s\"", "rate = 10, per = \"24h\"");
    let gateways = [(); 2].map(|()| TestGateway::start_with(&example, &[("WASMGATE_TOKEN", TOKEN)]));
    assert_eq!(gateways[0].order("PUT", "/consumers/acme", json!({})).status, 200);
    let (key, _) = gateways[0].issue("/consumers/acme/keys", Value::Null);
    eventually!(status(&gateways[1], &key) == 200);
    let good = (0..20).filter(|turn| status(&gateways[turn % 2], &key) == 200).count();
    assert_eq!(good, 9, "one before them");
    assert_eq!(status(&gateways[0], "nobody"), 401);
}

//! Against real servers.

use std::time::Duration;

use wasmgate_tests::{peer, redis_cluster};

use super::{
    ledger::{Named, Place, Written},
    *,
};
use crate::{
    capability::rate_limits::{Algorithm, Demand, Limit, State},
    config::{Login, RedisKind, Target},
};

const S: u64 = 1_000_000;
const ALL: [Algorithm; 5] = [
    Algorithm::FixedWindow,
    Algorithm::SlidingLog,
    Algorithm::SlidingCounter,
    Algorithm::TokenBucket,
    Algorithm::LeakyBucket,
];

fn to(kind: RedisKind, servers: &[wasmgate_tests::Redis]) -> Arc<Link> {
    let settings = config::Redis {
        name: "test".to_owned(),
        kind,
        endpoints: servers.iter().map(|server| Target::Address(server.address)).collect(),
        login: Login::default(),
        sentinel_login: Login::default(),
        database: 0,
        tls: None,
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        prefix: "wasmgate:".to_owned(),
    };
    Redis::new(settings, Arc::default()).link()
}

fn demand(key: &str, algorithm: Algorithm, amount: u32, cost: u32) -> Demand {
    let limit = Limit::new(algorithm, amount, Duration::from_secs(3), 4).expect("within bounds");
    Demand { key: key.to_owned(), limit, cost }
}

/// The same requests at the same times stand with the script where they stand with the gateway's own algorithms.
#[tokio::test]
async fn the_script_counts_as_the_gateway_does() {
    let Some(program) = peer("redis-server") else { return };
    let servers = [wasmgate_tests::Redis::start(program, &[])];
    let link = to(RedisKind::Single, &servers);
    // A generator of its own, so that a failure is one again.
    let mut seed = 7u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for algorithm in ALL {
        for round in 0..30 {
            let (key, amount) = (format!("{algorithm:?}{round}"), random(12) as u32);
            let (mut state, mut now) = (State::default(), 1_700_000_000 * S + random(S));
            for _ in 0..60 {
                now += [0, random(S / 5), random(4 * S)][random(3) as usize];
                let demand = demand(&key, algorithm, amount, random(4) as u32);
                let own = state.ask(&demand.limit, demand.cost, now * 1000, true);
                let told =
                    link.take_at("p", std::slice::from_ref(&demand), Some(now)).await.expect("it answers");
                let told = told[0];
                let near = |a: Duration, b: Duration| a.abs_diff(b) <= Duration::from_micros(2);
                assert_eq!(
                    (own.allowed, own.remaining),
                    (told.allowed, told.remaining),
                    "{demand:?} {own:?} {told:?}"
                );
                assert!(near(own.reset, told.reset), "{demand:?} {own:?} {told:?}");
                assert!(near(own.retry_after, told.retry_after), "{demand:?} {own:?} {told:?}");
                assert!(near(own.delay, told.delay), "{demand:?} {own:?} {told:?}");
            }
        }
    }
}

#[tokio::test]
async fn of_several_limits_all_or_none_is_taken() {
    let Some(program) = peer("redis-server") else { return };
    let servers = [wasmgate_tests::Redis::start(program.clone(), &[])];
    all_or_none(&to(RedisKind::Single, &servers)).await;
    let nodes = redis_cluster(program);
    all_or_none(&to(RedisKind::Cluster, &nodes)).await;
}

async fn all_or_none(link: &Arc<Link>) {
    let [minute, hour] = [2, 9].map(|amount| demand("alice", Algorithm::FixedWindow, amount, 1));
    let other = Demand { key: "house".to_owned(), ..hour.clone() };
    let hour =
        Demand { limit: Limit::new(Algorithm::SlidingLog, 9, Duration::from_secs(60), 0).unwrap(), ..hour };
    let now = Some(1_700_000_000 * S);
    let take = async || {
        let demands = [minute.clone(), hour.clone(), other.clone()];
        let standings = link.take_at("p", &demands, now).await.expect("it answers");
        standings.iter().map(|standing| (standing.allowed, standing.remaining)).collect::<Vec<_>>()
    };
    assert_eq!(take().await, [(true, 1), (true, 8), (true, 8)]);
    assert_eq!(take().await, [(true, 0), (true, 7), (true, 7)]);
    assert_eq!(take().await, [(false, 0), (true, 7), (true, 7)]);
}

#[tokio::test]
async fn values_and_numbers_are_kept_and_end() {
    let Some(program) = peer("redis-server") else { return };
    let servers = [wasmgate_tests::Redis::start(program, &[])];
    let link = to(RedisKind::Single, &servers);
    let hour = Duration::from_secs(3600);
    assert_eq!(link.get("p", "k").await, Ok(None));
    link.set("p", "k", b"v", hour).await.unwrap();
    assert_eq!(link.get("p", "k").await.unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(link.get("q", "k").await, Ok(None), "another plugin's");
    link.delete("p", "k").await.unwrap();
    assert_eq!(link.get("p", "k").await, Ok(None));
    assert_eq!(link.add("p", "k", b"v", hour).await, Ok(true));
    assert_eq!(link.add("p", "k", b"w", hour).await, Ok(false));
    assert_eq!(link.increment("p", "n", 2, hour).await, Ok(2));
    assert_eq!(link.increment("p", "n", -5, hour).await, Ok(-3));
}

#[tokio::test]
async fn who_asks_while_it_is_gone_is_told_at_once() {
    let Some(program) = peer("redis-server") else { return };
    let mut servers = [wasmgate_tests::Redis::start(program, &[])];
    let link = to(RedisKind::Single, &servers);
    assert_eq!(link.get("p", "k").await, Ok(None));
    servers[0].kill();
    // The first one may be who notices.
    let _ = link.get("p", "k").await;
    assert_eq!(link.get("p", "k").await, Err(Unavailable));
    servers[0].restart();
    let started = std::time::Instant::now();
    while link.get("p", "k").await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(10), "it is back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As who follows it has it.
#[derive(Default)]
struct Copy {
    place: Place,
    records: std::collections::BTreeMap<String, Vec<u8>>,
    /// How often all was read.
    whole: usize,
}

impl Copy {
    async fn follow(&mut self, link: &Arc<Link>) {
        let news = link.news("l", &self.place).await.unwrap();
        self.place = news.place;
        if news.whole {
            self.whole += 1;
            self.records.clear();
        }
        for (name, value) in news.records {
            match value {
                Some(value) => _ = self.records.insert(name, value),
                None => _ = self.records.remove(&name),
            }
        }
    }

    /// After it has learnt what there is.
    async fn write(&mut self, link: &Arc<Link>, records: &[Named]) {
        self.follow(link).await;
        assert!(matches!(link.write("l", &self.place, records).await, Ok(Written::At(_))));
        self.follow(link).await;
    }
}

fn named(name: usize, value: &str) -> Named {
    (format!("n{name}"), (!value.is_empty()).then(|| value.as_bytes().to_vec()))
}

#[tokio::test]
async fn a_ledger_is_followed_by_what_changes() {
    let Some(program) = peer("redis-server") else { return };
    let servers = [wasmgate_tests::Redis::start(program, &[])];
    let link = to(RedisKind::Single, &servers);
    let (mut writer, mut reader) = (Copy::default(), Copy::default());
    // More than are told at once, of which many belong to one version.
    for from in [0, 400, 2000, 4000, 6000] {
        let records: Vec<_> = (from..from + 1200).map(|name| named(name, "a")).collect();
        writer.write(&link, &records).await;
    }
    reader.follow(&link).await;
    assert_eq!((reader.records.len(), &reader.records), (5200, &writer.records));
    assert_eq!(reader.whole, 1);
    writer.write(&link, &[named(1, ""), named(2, "b"), named(9999, "c")]).await;
    writer.write(&link, &[named(1, "d"), named(3, "")]).await;
    reader.follow(&link).await;
    assert_eq!(reader.records, writer.records);
    assert_eq!((reader.records.get("n1"), reader.records.get("n3")), (Some(&b"d".to_vec()), None));
    assert_eq!(reader.whole, 1, "only what has changed");

    let known = writer.place.clone();
    assert!(matches!(link.write("l", &known, &[named(5, "e")]).await, Ok(Written::At(_))));
    assert_eq!(link.write("l", &known, &[named(6, "e")]).await, Ok(Written::Outdated));
    reader.follow(&link).await;
    assert_eq!([&reader.records["n5"], &reader.records["n6"]], [b"e", b"a"]);
}

#[tokio::test]
async fn who_was_away_for_long_or_knows_another_history_is_told_everything() {
    let Some(program) = peer("redis-server") else { return };
    let servers = [wasmgate_tests::Redis::start(program, &[])];
    let link = to(RedisKind::Single, &servers);
    let (mut writer, mut reader) = (Copy::default(), Copy::default());
    writer.write(&link, &[named(0, "a"), named(1, "a")]).await;
    reader.follow(&link).await;
    writer.write(&link, &[named(1, "")]).await;
    for _ in 0..1000 {
        writer.write(&link, &[named(2, "b")]).await;
    }
    assert_eq!(
        servers[0].ask(&["zcard", "wasmgate:{l}:gone"]).trim(),
        "1000",
        "marks; the removed one is forgotten"
    );
    assert_eq!(servers[0].ask(&["zcard", "wasmgate:{l}:changed"]).trim(), "2");
    reader.follow(&link).await;
    assert_eq!((&reader.records, reader.whole), (&writer.records, 2));
    // It comes back with an older state, and is changed again.
    let copy = |from: &str, to: &str| {
        for part in ["records", "changed", "gone", "head"] {
            let [from, to] = [from, to].map(|ledger| format!("wasmgate:{{{ledger}}}:{part}"));
            servers[0].ask(&["copy", &from, &to, "replace"]);
        }
    };
    copy("l", "before");
    writer.write(&link, &[named(3, "lost")]).await;
    reader.follow(&link).await;
    assert!(reader.records.contains_key("n3"));
    copy("before", "l");
    let mut other = Copy::default();
    other.write(&link, &[named(4, "c")]).await;
    reader.follow(&link).await;
    assert_eq!((&reader.records, reader.whole), (&other.records, 3));
    assert!(!reader.records.contains_key("n3"));
    servers[0].ask(&["flushall"]);
    reader.follow(&link).await;
    assert!(reader.records.is_empty());
    writer.write(&link, &[named(0, "z")]).await;
    reader.follow(&link).await;
    assert_eq!(reader.records.len(), 1);
}

/// What nobody waits for any more is not done when the server is back.
#[tokio::test]
async fn a_change_that_comes_late_is_none() {
    let Some(program) = peer("redis-server") else { return };
    let servers = [wasmgate_tests::Redis::start(program, &[])];
    let link = to(RedisKind::Single, &servers);
    let mut writer = Copy::default();
    writer.write(&link, &[named(0, "a")]).await;
    servers[0].pause();
    assert_eq!(link.write("l", &writer.place, &[named(0, "b")]).await, Err(Unavailable));
    servers[0].resume();
    // On the same connection, and so after it.
    while link.news("l", &writer.place).await.is_err() {}
    writer.follow(&link).await;
    assert_eq!(writer.records["n0"], b"a");
}

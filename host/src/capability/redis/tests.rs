//! Against real servers.

use std::time::Duration;

use wasmgate_tests::{peer, redis_cluster};

use super::*;
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
    let redis = Redis::new(config::Redis {
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
    });
    redis.link()
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

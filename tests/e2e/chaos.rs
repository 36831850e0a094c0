//! Endpoints fail at random under load, from a fixed seed.

use std::{
    thread,
    time::{Duration, Instant},
};

use wasmgate_tests::{Client, Faulty, Load, Mood, TestGateway, before_all, eventually};

const SEED: u64 = 20_261_122;
const TIME: Duration = Duration::from_secs(8);

/// Of the five endpoints one is always well, and so whatever can be tried again has somewhere to go. What cannot be helped is
/// an answer that broke off after its head; there are never more of these than endpoints have broken off.
#[test]
fn what_can_be_helped_does_not_fail() {
    let mut endpoints: [Faulty; 5] = Faulty::several();
    let rest = "[upstream.app.retry]\nattempts = 6\non = [\"connect-failure\", \"reset\", \"timeout\", \"5xx\"]\n\
                per_try = \"250ms\"\nback_off = \"5ms\"\nbudget = { percent = 1000, per_second = 1000 }\n\
                [upstream.app.outliers]\nfailures = 5\nejection = \"500ms\"\ninterval = \"500ms\"\nmax_ejected = 80\n\
                [upstream.app.health]\ninterval = \"200ms\"\ntimeout = \"200ms\"\nfailures = 2\nsuccesses = 1\n\
                [server]\nworkers = 2\n";
    let gateway = TestGateway::start(&before_all(&endpoints.each_ref().map(|one| one as _), rest));
    let load = Load::get(gateway.addr(), "/", 400).connections(64).start();
    let (mut random, end) = (Random(SEED), Instant::now() + TIME);
    while Instant::now() < end {
        // The first one stays well.
        let victim = &mut endpoints[1 + random.below(4)];
        match random.below(10) {
            0 | 1 => victim.kill(),
            2 | 3 if !victim.is_running() => victim.restart(),
            _ => victim.set(match random.below(12) {
                0 => Mood::Hangs,
                1 => Mood::Slow(Duration::from_millis(20)),
                2 => Mood::Status(503),
                3 => Mood::Sometimes(500, 30),
                4 => Mood::Resets,
                5 => Mood::Breaks,
                6 => Mood::Once,
                _ => Mood::Well,
            }),
        }
        thread::sleep(Duration::from_millis(20 + random.below(80) as u64));
    }
    for endpoint in &mut endpoints {
        endpoint.set(Mood::Well);
        if !endpoint.is_running() {
            endpoint.restart();
        }
    }
    let recovering = Instant::now();
    eventually!(endpoints.iter().all(|endpoint| gateway.serves(endpoint)));
    let recovered = recovering.elapsed();
    let answers = load.stop();

    let broken: usize = endpoints.iter().map(Faulty::broken).sum();
    let (lost, refused): (Vec<_>, Vec<_>) =
        answers.iter().filter(|answer| answer.status != 200).partition(|answer| answer.status == 0);
    let upstream = gateway.upstream("app");
    println!(
        "{} requests, {} further attempts; {broken} answers broken off, {} lost, {} refused; well again after {recovered:?}",
        answers.len(),
        upstream["retries"],
        lost.len(),
        refused.len(),
    );
    assert!(refused.is_empty(), "{:?} {refused:?}", refused.len());
    assert!(lost.len() <= broken, "{lost:?}");
    assert!(broken > 0 && upstream["retries"].as_u64() > Some(100), "it was no chaos: {upstream}");

    let before: Vec<_> = endpoints.iter().map(Faulty::count).collect();
    let mut client = Client::connect(gateway.addr());
    assert!((0..100).all(|_| client.get("/").status == 200));
    assert!(endpoints.iter().zip(before).all(|(endpoint, before)| endpoint.count() > before));
    eventually!(gateway.upstream("app")["in_flight"] == 0);
}

/// Numerical Recipes' generator: the same numbers wherever it runs.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound) as usize
    }
}

//! How many requests an upstream can have at a time, found from how long they take. Pure: time is an
//! argument.
//!
//! A gradient limiter: the limit follows the ratio of what a request takes without a queue (the baseline)
//! to what it takes now. Envoy's adaptive_concurrency finds the baseline by a periodic collapse to a
//! minimum of concurrency. Netflix' Gradient2 takes the long-term mean, which learns the queue of an
//! overload that lasts, so that its limit creeps up without an end. This one halves the limit for the time
//! of one measurement. That is enough: a limit of up to twice the capacity has no queue then, and one above
//! measures half of its latency, so it shrinks and the next measurement comes closer. And it costs little:
//! the limit of an upstream that keeps up grows to twice of what is in flight, where halving it refuses
//! nobody.

use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The limit's bounds; at least 1.
    pub min: u32,
    pub max: u32,
    /// The limit at first, and the one that idleness leaves.
    pub initial: u32,
    /// How long latencies are gathered for a new limit, at least.
    pub window: Duration,
    /// How many times the baseline a latency may be. What is above it is a queue.
    pub tolerance: f64,
    /// From one measurement of the baseline to the next, if that is not too much of the time. Above zero.
    pub probe_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            min: 3,
            max: 1000,
            initial: 20,
            window: Duration::from_millis(100),
            tolerance: 1.2,
            probe_every: Duration::from_secs(10),
        }
    }
}

/// A window is not closed with fewer latencies than this (as in Netflix' WindowedLimit).
const SAMPLES: u32 = 10;

/// How much of what a window says of the limit is believed: noise is averaged out.
const LIMIT_WEIGHT: f64 = 0.3;

/// What is left, after a window, of a limit that nobody uses.
const UNUSED: f64 = 0.99;

/// A probe is followed by this many times its length without one, or a slow upstream would have nothing else.
const REST: u32 = 20;

/// One upstream's limit on one worker.
#[derive(Debug)]
pub struct Limiter {
    settings: Settings,
    limit: f64,
    in_flight: u32,
    /// What a request takes where there is no queue, in seconds.
    baseline: Option<f64>,
    window: Window,
    /// Whether no more than half of the limit was used in the last window. A probe need not halve it then.
    quiet: bool,
    /// Probes happen at multiples of their interval from here.
    epoch: Instant,
    next_probe: Instant,
}

/// The time in which latencies are gathered, of the requests that began in it: those from before were let
/// in under another limit.
#[derive(Debug)]
struct Window {
    began: Instant,
    length: Duration,
    probe: bool,
    /// The most requests that were in flight when one came.
    peak: u32,
    samples: u32,
    /// The sum of the latencies in seconds.
    sum: f64,
}

impl Limiter {
    /// Limiters of one upstream probe together where they have the same `epoch`: what one of several
    /// workers would free, the others would fill.
    pub fn new(settings: Settings, epoch: Instant, now: Instant) -> Self {
        let window = Window::new(now, settings.window, false);
        let limit = f64::from(settings.initial.clamp(settings.min, settings.max));
        let next_probe = next(epoch, settings.probe_every, now);
        Limiter { settings, limit, in_flight: 0, baseline: None, window, quiet: true, epoch, next_probe }
    }

    /// Whether one more request may be sent; it is in flight then until [`Limiter::leave`]. False is an
    /// overload.
    pub fn enter(&mut self, now: Instant) -> bool {
        self.probe_if_due(now);
        if self.in_flight >= self.room() {
            return false;
        }
        self.in_flight += 1;
        self.window.peak = self.window.peak.max(self.in_flight);
        true
    }

    /// Ends a request that entered at `began`. `ok` is false where there was no answer. How soon that was
    /// says nothing then, unless it took longer than an answer does.
    pub fn leave(&mut self, began: Instant, now: Instant, ok: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.probe_if_due(now);
        if began < self.window.began {
            return;
        }
        // Never zero, for latencies are divided by.
        let took = now.saturating_duration_since(began).as_secs_f64().max(1e-9);
        if !ok && self.baseline.is_none_or(|baseline| took < baseline) {
            return;
        }
        self.window.samples += 1;
        self.window.sum += took;
        let over = now.saturating_duration_since(self.window.began) >= self.window.length;
        if over && self.window.samples >= SAMPLES {
            self.close(now);
        }
    }

    /// Requests at a time, from `min` to `max`. In a probe only half of it may be in flight.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn room(&self) -> u32 {
        let room = if self.window.probe && !self.quiet { self.limit() / 2 } else { self.limit() };
        room.max(1)
    }

    /// Draws the conclusion from a window and begins the next one.
    fn close(&mut self, now: Instant) {
        let latency = self.window.sum / f64::from(self.window.samples);
        let peak = f64::from(self.window.peak);
        self.quiet = peak <= self.limit / 2.0;
        let baseline = self.baseline.get_or_insert(latency);
        if self.window.probe {
            // The more it saw, the less is left of what was believed before.
            let samples = f64::from(self.window.samples);
            *baseline += samples / (samples + f64::from(SAMPLES)) * (latency - *baseline);
        } else {
            // Envoy's formula: the square root is room for a burst.
            let gradient = (self.settings.tolerance * *baseline / latency).clamp(0.5, 2.0);
            let wanted = self.limit * gradient + self.limit.sqrt();
            let moved = self.limit + LIMIT_WEIGHT * (wanted - self.limit);
            let (min, max) = (f64::from(self.settings.min), f64::from(self.settings.max));
            self.limit = if self.quiet {
                let used = (2.0 * peak).max(f64::from(self.settings.initial));
                moved.min(self.limit * UNUSED).max(used).min(self.limit)
            } else {
                moved.clamp(min, max)
            };
        }
        // Twice the latency, or only the quickest of the requests that began in it would be seen.
        let length = self.settings.window.max(Duration::from_secs_f64(2.0 * latency));
        self.window = Window::new(now, length, false);
    }

    fn probe_if_due(&mut self, now: Instant) {
        if now < self.next_probe {
            return;
        }
        self.window = Window::new(now, self.window.length, true);
        self.next_probe = next(self.epoch, self.settings.probe_every, now + REST * self.window.length);
    }
}

impl Window {
    fn new(began: Instant, length: Duration, probe: bool) -> Self {
        Window { began, length, probe, peak: 0, samples: 0, sum: 0.0 }
    }
}

/// The first multiple of the interval from the epoch that is after `now`.
fn next(epoch: Instant, interval: Duration, now: Instant) -> Instant {
    let passed = now.saturating_duration_since(epoch).as_secs_f64() / interval.as_secs_f64();
    epoch + interval.mul_f64(passed.floor() + 1.0)
}

#[cfg(test)]
mod tests {
    use std::{
        cmp::Reverse,
        collections::{BinaryHeap, VecDeque},
    };

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Arrival { worker: usize },
        Served { worker: usize, began: Instant },
    }

    /// A service behind the limiters of some workers: so many requests at a time, the others queue.
    struct World {
        now: Instant,
        rng: StdRng,
        events: BinaryHeap<Reverse<(Instant, Event)>>,
        queue: VecDeque<(usize, Instant)>,
        busy: usize,
        capacity: usize,
        service: Duration,
        /// Requests a second, of all workers together.
        load: f64,
        workers: Vec<Limiter>,
    }

    /// What came of a span of time.
    #[derive(Default)]
    struct Seen {
        latencies: Vec<Duration>,
        refused: usize,
        /// The sum of the workers' limits, a hundred times a second.
        limits: Vec<u32>,
    }

    impl Seen {
        fn p99(&mut self) -> Duration {
            self.latencies.sort();
            self.latencies[self.latencies.len() * 99 / 100]
        }

        fn limit(&self) -> f64 {
            f64::from(self.limits.iter().sum::<u32>()) / self.limits.len() as f64
        }

        fn refused(&self) -> f64 {
            self.refused as f64 / (self.refused + self.latencies.len()) as f64
        }
    }

    impl World {
        /// The load is relative to what the service can do.
        fn new(workers: usize, capacity: usize, service: Duration, load: f64) -> Self {
            let load = load * capacity as f64 / service.as_secs_f64();
            let now = Instant::now();
            let workers: Vec<_> = (0..workers).map(|_| Limiter::new(Settings::default(), now, now)).collect();
            let arrivals = (0..workers.len()).map(|worker| Reverse((now, Event::Arrival { worker })));
            World {
                now,
                rng: StdRng::seed_from_u64(1),
                events: arrivals.collect(),
                queue: VecDeque::new(),
                busy: 0,
                capacity,
                service,
                load,
                workers,
            }
        }

        fn exponential(&mut self) -> f64 {
            -(1.0 - self.rng.random::<f64>()).ln()
        }

        fn serve(&mut self) {
            while self.busy < self.capacity
                && let Some((worker, began)) = self.queue.pop_front()
            {
                self.busy += 1;
                // A part that is always needed and one that varies.
                let at = self.now + self.service.mul_f64(0.5 + 0.5 * self.exponential());
                self.events.push(Reverse((at, Event::Served { worker, began })));
            }
        }

        fn run(&mut self, time: Duration) -> Seen {
            let mut seen = Seen::default();
            let end = self.now + time;
            let mut look = self.now;
            while let Some(Reverse((at, event))) = self.events.pop() {
                self.now = at;
                if at >= look {
                    seen.limits.push(self.workers.iter().map(Limiter::limit).sum());
                    look += 10 * MS;
                }
                match event {
                    Event::Arrival { worker } => {
                        let wait = self.exponential() * self.workers.len() as f64 / self.load;
                        self.events.push(Reverse((at + S.mul_f64(wait), event)));
                        if self.workers[worker].enter(at) {
                            self.queue.push_back((worker, at));
                        } else {
                            seen.refused += 1;
                        }
                    }
                    Event::Served { worker, began } => {
                        self.busy -= 1;
                        self.workers[worker].leave(began, at, true);
                        seen.latencies.push(at - began);
                    }
                }
                self.serve();
                if at >= end {
                    break;
                }
            }
            seen
        }
    }

    fn around(value: f64, low: f64, high: f64) -> bool {
        (low..=high).contains(&value)
    }

    /// The settled world at twice the load that it can bear.
    #[track_caller]
    fn assert_settled(world: &mut World, most: f64) {
        let capacity = world.capacity as f64;
        let mut seen = world.run(30 * S);
        assert!(around(seen.limit(), capacity, most), "the limit is {}", seen.limit());
        assert!(around(seen.refused(), 0.48, 0.52), "{} are refused", seen.refused());
        assert!(seen.p99() < world.service * 4, "99 of 100 take up to {:?}", seen.p99());
    }

    #[test]
    fn the_limit_of_an_overloaded_upstream_is_its_capacity_and_a_small_queue() {
        for (capacity, service, most) in
            [(40, 20 * MS, 60.0), (400, 200 * MS, 520.0), (8, 50 * MS, 17.0), (40, S / 2, 60.0)]
        {
            let mut world = World::new(1, capacity, service, 2.0);
            world.run(60 * S);
            assert_settled(&mut world, most);
        }
    }

    #[test]
    fn an_overload_that_lasts_does_not_raise_the_limit() {
        let mut world = World::new(1, 40, 50 * MS, 2.0);
        world.run(600 * S);
        assert_settled(&mut world, 60.0);
    }

    #[test]
    fn workers_share_the_capacity() {
        let mut world = World::new(16, 160, 100 * MS, 2.0);
        world.run(60 * S);
        assert_settled(&mut world, 320.0);
        // Little enough for some of them to have all that they want, at the cost of the others.
        world.load *= 0.6;
        world.run(60 * S);
        let mut seen = world.run(60 * S);
        assert!(seen.p99() < world.service * 4, "99 of 100 take up to {:?}", seen.p99());
        assert!(around(seen.refused(), 0.14, 0.2), "{} are refused", seen.refused());
    }

    #[test]
    fn an_upstream_that_keeps_up_refuses_nobody() {
        for load in [0.3, 0.8, 0.9] {
            let mut world = World::new(1, 40, 50 * MS, load);
            world.run(10 * S);
            let seen = world.run(60 * S);
            assert!(seen.refused() < 0.001, "{} are refused", seen.refused());
        }
    }

    #[test]
    fn falls_with_a_slower_upstream_and_recovers() {
        let mut world = World::new(1, 40, 50 * MS, 2.0);
        // The next probe is some seconds away.
        world.run(63 * S);
        world.service *= 4;
        let seen = world.run(6 * S);
        let low = seen.limits.iter().min().unwrap();
        assert!(*low < 20, "the limit fell to {low}");
        // It is no queue, as the probes find out.
        world.run(60 * S);
        let seen = world.run(30 * S);
        assert!(around(seen.limit(), 40.0, 60.0), "the limit is {}", seen.limit());
        world.service /= 4;
        world.run(30 * S);
        assert_settled(&mut world, 60.0);
    }

    #[test]
    fn falls_with_the_capacity_and_recovers() {
        let mut world = World::new(1, 40, 50 * MS, 2.0);
        world.run(63 * S);
        world.capacity = 10;
        world.run(2 * S);
        let mut seen = world.run(30 * S);
        assert!(around(seen.limit(), 10.0, 20.0), "the limit is {}", seen.limit());
        assert!(seen.p99() < 200 * MS, "99 of 100 take up to {:?}", seen.p99());
        world.capacity = 40;
        world.run(5 * S);
        assert_settled(&mut world, 62.0);
    }

    /// Rounds of so many requests at once, all of the same latency.
    fn rounds(
        limiter: &mut Limiter,
        now: &mut Instant,
        rounds: u32,
        wanted: u32,
        latency: Duration,
        ok: bool,
    ) -> u32 {
        let mut entered = 0;
        for _ in 0..rounds {
            let began = *now;
            entered = (0..wanted).filter(|_| limiter.enter(began)).count() as u32;
            assert_eq!(limiter.in_flight(), entered);
            *now += latency;
            (0..entered).for_each(|_| limiter.leave(began, *now, ok));
        }
        entered
    }

    fn limiter(now: Instant) -> Limiter {
        Limiter::new(Settings { max: 50, ..Settings::default() }, now, now)
    }

    #[test]
    fn lets_in_what_the_limit_says() {
        let mut now = Instant::now();
        let mut limiter = limiter(now);
        assert_eq!(limiter.limit(), 20);
        assert_eq!(rounds(&mut limiter, &mut now, 1, 100, 10 * MS, true), 20);
        assert_eq!(limiter.in_flight(), 0);
    }

    #[test]
    fn grows_where_it_is_used_and_shrinks_where_it_is_not() {
        let mut now = Instant::now();
        let mut limiter = limiter(now);
        rounds(&mut limiter, &mut now, 100, 5, 100 * MS, true);
        assert_eq!(limiter.limit(), 20, "not used");
        rounds(&mut limiter, &mut now, 100, 15, 100 * MS, true);
        assert_eq!(limiter.limit(), 30, "twice of what is used");
        rounds(&mut limiter, &mut now, 100, 100, 100 * MS, true);
        assert_eq!(limiter.limit(), 50, "the maximum");
        rounds(&mut limiter, &mut now, 300, 5, 100 * MS, true);
        assert_eq!(limiter.limit(), 20, "given up");
    }

    #[test]
    fn only_failures_that_take_long_count() {
        let mut now = Instant::now();
        let mut limiter = limiter(now);
        rounds(&mut limiter, &mut now, 100, 15, 100 * MS, true);
        rounds(&mut limiter, &mut now, 1000, 100, MS, false);
        assert_eq!(limiter.limit(), 30);
        rounds(&mut limiter, &mut now, 5, 100, S, false);
        assert!(limiter.limit() < 30, "the limit is {}", limiter.limit());
    }

    #[test]
    fn a_request_from_before_a_probe_does_not_count_in_it() {
        let mut now = Instant::now();
        let mut limiter = limiter(now);
        let began = now;
        assert!((0..20).all(|_| limiter.enter(began)));
        now += 11 * S;
        limiter.quiet = false;
        (0..20).for_each(|_| limiter.leave(began, now, true));
        assert!(limiter.window.probe);
        assert_eq!(rounds(&mut limiter, &mut now, 1, 100, 100 * MS, true), 10);
        assert!(!limiter.window.probe && around(limiter.baseline.unwrap(), 0.099, 0.101));
        assert_eq!(rounds(&mut limiter, &mut now, 1, 100, 100 * MS, true), 20);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_no_harm() {
        let mut now = Instant::now() + 100 * S;
        let mut limiter = limiter(now);
        for _ in 0..100 {
            now += S;
            assert!(limiter.enter(now));
            limiter.leave(now, now - S, true);
            rounds(&mut limiter, &mut now, 1, 20, Duration::ZERO, true);
        }
        assert!(around(limiter.limit, 20.0, 50.0), "the limit is {}", limiter.limit);
    }
}

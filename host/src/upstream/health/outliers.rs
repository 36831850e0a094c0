//! Passive health of the endpoints of one upstream: those that do worse than they should are ejected for a
//! time. Pure: time and randomness are arguments. The algorithm is Envoy's (docs, "Outlier detection").

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::Instant,
};

use crate::config;

/// Rates that differ by less are the same: an endpoint that lies right at the threshold (as a single bad one
/// of five does with a factor of 2) must not be ejected for the last digit of a sum.
const PRECISION: f64 = 1e-9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer (not connected, reset, timed out), or 502, 503, 504.
    Gateway,
    /// Another status 5xx.
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    ConsecutiveFailures,
    Consecutive5xx,
    /// Both in 0..1.
    SuccessRate {
        rate: f64,
        threshold: f64,
    },
    FailurePercentage(f64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::ConsecutiveFailures => f.write_str("too many failures in a row"),
            Why::Consecutive5xx => f.write_str("too many 5xx in a row"),
            Why::SuccessRate { rate, threshold } => {
                write!(f, "{:.1} % succeed, less than {:.1} %", rate * 100.0, threshold * 100.0)
            }
            Why::FailurePercentage(percent) => write!(f, "{percent:.1} % fail"),
        }
    }
}

/// Failures in a row of one endpoint. Shared by all workers; who only succeeds writes nothing.
#[derive(Debug, Default)]
pub struct Consecutive {
    failures: AtomicU32,
    any_5xx: AtomicU32,
    /// Its last answer broke off. Until another comes to its end, the head of one is no success.
    doubtful: AtomicBool,
}

impl Consecutive {
    /// Says when the endpoint is to be ejected: with the failure that makes the row long enough, and again
    /// whenever the row has grown by as much, because it may not have been possible before.
    pub fn failure(&self, kind: Failure, settings: &config::Outliers) -> Option<Why> {
        let failures = match kind {
            Failure::Gateway => full(&self.failures, settings.failures),
            Failure::Server => {
                clear(&self.failures);
                false
            }
        };
        let any_5xx = full(&self.any_5xx, settings.errors);
        match (failures, any_5xx) {
            (true, _) => Some(Why::ConsecutiveFailures),
            (_, true) => Some(Why::Consecutive5xx),
            _ => None,
        }
    }

    /// An answer broke off.
    pub fn doubt(&self) {
        self.doubtful.store(true, Relaxed);
    }

    /// An answer came to its end.
    pub fn trust(&self) {
        if self.is_doubtful() {
            self.doubtful.store(false, Relaxed);
        }
    }

    pub fn is_doubtful(&self) -> bool {
        self.doubtful.load(Relaxed)
    }

    /// Ends the rows. Also to be called when the endpoint returns: what failed before must not count then.
    pub fn success(&self) {
        clear(&self.failures);
        clear(&self.any_5xx);
    }
}

/// Counts one more; whether the row is a multiple of the threshold.
fn full(row: &AtomicU32, threshold: u32) -> bool {
    threshold > 0 && row.fetch_add(1, Relaxed).wrapping_add(1).is_multiple_of(threshold)
}

/// A store would take the cache line from the other workers even where it changes nothing.
fn clear(row: &AtomicU32) {
    if row.load(Relaxed) != 0 {
        row.store(0, Relaxed);
    }
}

/// What became of the requests to one endpoint within an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub requests: u64,
    /// Those that were answered, with a status other than 5xx.
    pub successes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// It returns with the first interval from then on.
    pub until: Instant,
    /// How often it was ejected in a row.
    pub times: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    Ejected { id: u64, why: Why, ejection: Ejection },
    Returned { id: u64 },
}

/// Who is ejected. Shared by all workers under a mutex, which only failures and intervals take.
#[derive(Debug)]
pub struct Outliers {
    settings: config::Outliers,
    /// Endpoints whose ejections are not forgiven yet.
    records: BTreeMap<u64, Record>,
}

#[derive(Debug)]
struct Record {
    times: u32,
    until: Option<Instant>,
    returned: Option<Instant>,
}

impl Outliers {
    pub fn new(settings: config::Outliers) -> Self {
        Outliers { settings, records: BTreeMap::new() }
    }

    /// From now on; who is ejected stays so.
    pub fn set(&mut self, settings: config::Outliers) {
        self.settings = settings;
    }

    /// Lets an endpoint back in before its time; false where it is not ejected.
    pub fn pardon(&mut self, id: u64) -> bool {
        self.records.remove(&id).is_some_and(|record| record.until.is_some())
    }

    pub fn is_ejected(&self, id: u64) -> bool {
        self.records.get(&id).is_some_and(|record| record.until.is_some())
    }

    /// Ejects one of `members` endpoints. None where it is ejected already, or too many
    /// are. The ejected ones are among the members.
    pub fn eject(&mut self, id: u64, now: Instant, members: usize) -> Option<Ejection> {
        let ejected = self.records.values().filter(|record| record.until.is_some()).count();
        let allowed = (ejected + 1) * 100 <= usize::from(self.settings.max_ejected) * members;
        if !allowed || self.is_ejected(id) {
            return None;
        }
        let config::Outliers { ejection: base, max_ejection: max, .. } = self.settings;
        let record = self.records.entry(id).or_insert(Record { times: 0, until: None, returned: None });
        // Beyond the longest time there is nothing to count, only more to be forgiven.
        if base.saturating_mul(record.times) < max {
            record.times += 1;
        }
        let until = now + base.saturating_mul(record.times).min(max);
        record.until = Some(until);
        Some(Ejection { until, times: record.times })
    }

    /// To be called once per interval, with what became of its requests for each member, whether or not there
    /// were any. The worst are ejected first, in case not all can be.
    pub fn interval(&mut self, now: Instant, samples: &[(u64, Sample)]) -> Vec<Event> {
        let mut events = vec![];
        for (&id, record) in &mut self.records {
            if record.until.take_if(|until| *until <= now).is_some() {
                record.returned = Some(now);
                events.push(Event::Returned { id });
            }
        }
        for (id, why) in self.outliers(samples) {
            if let Some(ejection) = self.eject(id, now, samples.len()) {
                events.push(Event::Ejected { id, why, ejection });
            }
        }
        // Each interval that an endpoint got through forgives one ejection.
        self.records.retain(|_, record| {
            if record.until.is_none() && record.returned < Some(now) {
                record.times = record.times.saturating_sub(1);
            }
            record.until.is_some() || record.times > 0
        });
        events
    }

    /// Forgets an endpoint that is no member any more.
    pub fn forget(&mut self, id: u64) {
        self.records.remove(&id);
    }

    /// Who is to be ejected for its rate.
    fn outliers(&self, samples: &[(u64, Sample)]) -> Vec<(u64, Why)> {
        let mut outliers = vec![];
        if let Some(rule) = &self.settings.success_rate {
            let rates = self.rates(samples, rule.requests);
            if rates.len() >= rule.endpoints {
                let threshold = threshold(&rates, rule.factor);
                let low = rates.into_iter().filter(|(_, rate)| *rate < threshold - PRECISION);
                outliers.extend(low.map(|(id, rate)| (id, Why::SuccessRate { rate, threshold })));
            }
        }
        if let Some(rule) = &self.settings.failure_rate {
            let failed = self.rates(samples, rule.requests).into_iter();
            let failed = failed.map(|(id, rate)| (id, (1.0 - rate) * 100.0));
            let many = failed.filter(|(_, percent)| *percent >= f64::from(rule.percent) - PRECISION);
            outliers.extend(many.map(|(id, percent)| (id, Why::FailurePercentage(percent))));
        }
        outliers
    }

    /// The rates of success of those in service that had enough requests, the lowest first.
    fn rates(&self, samples: &[(u64, Sample)], minimum: u64) -> Vec<(u64, f64)> {
        let valid = samples.iter().filter(|(id, sample)| {
            sample.requests > 0 && sample.requests >= minimum && !self.is_ejected(*id)
        });
        let rate = |sample: &Sample| sample.successes as f64 / sample.requests as f64;
        let mut rates: Vec<_> = valid.map(|(id, sample)| (*id, rate(sample))).collect();
        rates.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        rates
    }
}

/// The mean less so many standard deviations (of the whole population, as in Envoy).
fn threshold(rates: &[(u64, f64)], factor: f64) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - factor * variance.sqrt()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn defaults() -> config::Outliers {
        config::Outliers {
            failures: 5,
            errors: 0,
            success_rate: None,
            failure_rate: None,
            interval: 10 * S,
            ejection: 30 * S,
            max_ejection: 300 * S,
            max_ejected: 50,
        }
    }

    fn outliers(change: impl FnOnce(&mut config::Outliers)) -> Outliers {
        let mut settings = defaults();
        change(&mut settings);
        Outliers::new(settings)
    }

    /// Samples of members 0, 1, ..., each of so many requests.
    fn samples(requests: u64, successes: &[u64]) -> Vec<(u64, Sample)> {
        (0..).zip(successes.iter().map(|&successes| Sample { requests, successes })).collect()
    }

    fn ejected(events: &[Event]) -> Vec<u64> {
        let id = |event: &Event| match event {
            Event::Ejected { id, .. } => Some(*id),
            Event::Returned { .. } => None,
        };
        events.iter().filter_map(id).collect()
    }

    #[test]
    fn rows_of_failures_speak_up_at_every_multiple() {
        use Failure::{Gateway, Server};
        let settings = config::Outliers { failures: 2, errors: 3, ..defaults() };
        let rows = Consecutive::default();
        let fail = |kind| rows.failure(kind, &settings);
        let (failures, any) = (Some(Why::ConsecutiveFailures), Some(Why::Consecutive5xx));
        assert_eq!([fail(Gateway), fail(Gateway), fail(Gateway)], [None, failures, any]);
        assert_eq!([fail(Gateway), fail(Server), fail(Gateway)], [failures, None, any]);
        rows.success();
        assert_eq!([fail(Gateway), fail(Server), fail(Gateway)], [None, None, any]);
        assert_eq!([fail(Server), fail(Server)], [None; 2]);
        rows.success();
        assert_eq!([fail(Server), fail(Gateway), fail(Gateway)], [None, None, failures]);
        let off = config::Outliers { failures: 0, ..defaults() };
        assert!((0..20).all(|_| rows.failure(Gateway, &off).is_none()));
    }

    #[test]
    fn threads_together_cross_each_threshold_once() {
        let rows = Consecutive::default();
        let settings = defaults();
        let fail = || (0..1000).filter(|_| rows.failure(Failure::Gateway, &settings).is_some()).count();
        let crossed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(fail)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(crossed, 4000 / 5);
    }

    #[test]
    fn the_time_grows_with_each_ejection_in_a_row_up_to_the_maximum() {
        grow(100, [(1, 30), (2, 60), (3, 90), (4, 100), (4, 100)]);
        grow(90, [(1, 30), (2, 60), (3, 90), (3, 90), (3, 90)]);
    }

    fn grow(max: u32, ejections: [(u32, u32); 5]) {
        let mut outliers = outliers(|settings| settings.max_ejection = max * S);
        let mut now = Instant::now();
        for (times, wait) in ejections {
            let ejection = outliers.eject(7, now, 2).unwrap();
            assert_eq!(ejection, Ejection { until: now + wait * S, times });
            assert_eq!(outliers.eject(7, now, 9), None, "ejected already");
            assert_eq!(outliers.interval(now + wait * S - S, &[]), []);
            now += wait * S;
            assert_eq!(outliers.interval(now, &[]), [Event::Returned { id: 7 }]);
        }
        for _ in 0..2 {
            now += 10 * S;
            outliers.interval(now, &[]);
        }
        let times = ejections[4].0 - 1;
        let ejection = Ejection { until: now + times * 30 * S, times };
        assert_eq!(outliers.eject(7, now, 2), Some(ejection), "two forgiven, one more");
    }

    #[test]
    fn what_is_forgiven_or_gone_is_forgotten() {
        let mut outliers = outliers(|_| ());
        let now = Instant::now();
        outliers.eject(1, now, 2).unwrap();
        assert_eq!(outliers.interval(now + 30 * S, &[]).len(), 1);
        assert_eq!(outliers.records.len(), 1);
        outliers.interval(now + 40 * S, &[]);
        assert_eq!(outliers.records.len(), 0);
        outliers.eject(1, now, 2).unwrap();
        outliers.forget(1);
        assert!(!outliers.is_ejected(1));
        assert!(outliers.eject(2, now, 2).is_some(), "it takes no place any more");
    }

    #[test]
    fn shares() {
        let now = Instant::now();
        for (percent, members, most) in [
            (50, 1, 0),
            (50, 2, 1),
            (50, 3, 1),
            (99, 4, 3),
            (100, 3, 3),
            (100, 1, 1),
            (10, 9, 0),
            (29, 100, 29),
        ] {
            let mut outliers = outliers(|settings| settings.max_ejected = percent);
            let all = 0..members as u64;
            let count = all.filter(|id| outliers.eject(*id, now, members).is_some()).count();
            assert_eq!(count, most, "{percent} % of {members}");
        }
    }

    #[test]
    fn rates_of_success() {
        let rate = |factor| {
            let rule = config::SuccessRate { factor, endpoints: 5, requests: 100 };
            outliers(|settings| settings.success_rate = Some(rule))
        };
        let judge = |factor, requests, successes: &[u64]| {
            let now = Instant::now();
            ejected(&rate(factor).interval(now, &samples(requests, successes)))
        };
        // The example of Envoy's source: mean 90, deviation 20, threshold 52.
        assert_eq!(judge(1.9, 100, &[100, 100, 50, 100, 100]), [2]);
        assert_eq!(judge(2.0, 100, &[100, 100, 50, 100, 100]), [0; 0], "right at the threshold");
        assert_eq!(judge(1.9, 99, &[99, 99, 0, 99, 99]), [0; 0], "too few requests");
        assert_eq!(judge(1.0, 100, &[100, 0, 100, 100]), [0; 0], "too few endpoints");
        assert_eq!(judge(1.0, 100, &[100, 0, 100, 100, 100]), [1]);
        for same in 0..=100 {
            assert_eq!(judge(0.0, 100, &[same; 6]), [0; 0]);
        }
    }

    #[test]
    fn the_ejected_are_not_among_those_compared() {
        let mut outliers = outliers(|settings| {
            settings.success_rate = Some(config::SuccessRate { factor: 1.5, endpoints: 5, requests: 100 })
        });
        let now = Instant::now();
        outliers.eject(5, now, 6).unwrap();
        let events = outliers.interval(now, &samples(100, &[100, 100, 50, 100, 100, 0]));
        let [Event::Ejected { id: 2, why: Why::SuccessRate { rate, threshold }, .. }] = events[..] else {
            panic!("{events:?}")
        };
        assert!((rate - 0.5).abs() < 1e-9 && (threshold - 0.6).abs() < 1e-9);
        let events = outliers.interval(now, &samples(100, &[100, 100, 50, 100, 50, 0]));
        assert_eq!(events, [], "four of six are left");
    }

    #[test]
    fn percentages_of_failures_eject_the_worst_first() {
        let mut outliers = outliers(|settings| {
            settings.failure_rate = Some(config::FailureRate { percent: 40, requests: 50 });
        });
        let now = Instant::now();
        assert_eq!(outliers.interval(now, &samples(49, &[0; 4])), []);
        let events = outliers.interval(now, &samples(50, &[30, 31, 20, 10]));
        assert_eq!(ejected(&events), [3, 2], "no more than half");
        let events = outliers.interval(now + 30 * S, &samples(50, &[30, 31, 50, 50]));
        assert_eq!(events[..2], [Event::Returned { id: 2 }, Event::Returned { id: 3 }]);
        assert_eq!(ejected(&events), [0], "at the threshold");
    }

    proptest! {
        #[test]
        fn success_rates_are_compared_exactly(
            successes in prop::collection::vec(0u64..=1000, 5..12),
            tenths in 0u64..30,
        ) {
            let rule = config::SuccessRate { factor: tenths as f64 / 10.0, endpoints: 5, requests: 100 };
            let mut outliers = outliers(|settings| {
                settings.success_rate = Some(rule);
                settings.max_ejected = 100;
            });
            let events = outliers.interval(Instant::now(), &samples(1000, &successes));
            // In whole numbers: n x < sum - factor * sqrt(n * squares - sum²).
            let count = successes.len() as i128;
            let sum: i128 = successes.iter().map(|&x| i128::from(x)).sum();
            let squares: i128 = successes.iter().map(|&x| i128::from(x).pow(2)).sum();
            let variance = count * squares - sum * sum;
            let below = |x: u64| {
                let distance = sum - count * i128::from(x);
                distance > 0 && 100 * distance.pow(2) > i128::from(tenths).pow(2) * variance
            };
            let expected = (0u64..).zip(&successes).filter(|(_, x)| below(**x)).map(|(id, _)| id);
            let ejected: BTreeSet<_> = ejected(&events).into_iter().collect();
            prop_assert_eq!(ejected, expected.collect::<BTreeSet<_>>());
        }

        #[test]
        fn bounds_are_kept_and_all_return(
            members in 1usize..8,
            percent in 0u8..=100,
            // Who fails in a row, and after how many seconds there is an interval, with which successes.
            steps in prop::collection::vec((0u64..8, 0u64..40, prop::collection::vec(0u64..=100, 8)), 1..60),
        ) {
            let mut outliers = outliers(|settings| {
                settings.max_ejected = percent;
                let rule = config::FailureRate { percent: 95, requests: 100 };
                settings.failure_rate = Some(rule);
            });
            let mut now = Instant::now();
            // Who is out, until when.
            let mut out = BTreeMap::new();
            let mut times = BTreeMap::<u64, u32>::new();
            for (failing, seconds, successes) in steps {
                let mut events = vec![];
                let failing = failing % members as u64;
                if let Some(ejection) = outliers.eject(failing, now, members) {
                    events.push(Event::Ejected { id: failing, why: Why::ConsecutiveFailures, ejection });
                }
                let ejected_at = now;
                now += Duration::from_secs(seconds);
                let before = events.len();
                events.extend(outliers.interval(now, &samples(100, &successes[..members])));
                for (place, event) in events.into_iter().enumerate() {
                    match event {
                        Event::Ejected { id, ejection, .. } => {
                            prop_assert!(out.insert(id, ejection.until).is_none(), "twice");
                            prop_assert!(out.len() * 100 <= percent as usize * members);
                            prop_assert!(percent == 100 || out.len() < members, "the last one");
                            let at = if place < before { ejected_at } else { now };
                            let wait = ejection.until - at;
                            prop_assert_eq!(wait, 30 * S * ejection.times.min(10));
                            let last = times.insert(id, ejection.times).unwrap_or(0);
                            prop_assert!(ejection.times <= (last + 1).min(10) && ejection.times > 0);
                        }
                        Event::Returned { id } => {
                            let until = out.remove(&id);
                            prop_assert!(until.is_some_and(|until| until <= now), "too early");
                        }
                    }
                }
                prop_assert!(out.values().all(|until| *until > now), "too late");
                let all = 0..members as u64;
                prop_assert!(all.clone().all(|id| outliers.is_ejected(id) == out.contains_key(&id)));
            }
            let returned = outliers.interval(now + 301 * S, &samples(0, &[0; 8][..members]));
            prop_assert_eq!(returned, out.keys().map(|&id| Event::Returned { id }).collect::<Vec<_>>());
            for number in 1..=10 {
                outliers.interval(now + (301 + number) * S, &[]);
            }
            prop_assert!(outliers.records.is_empty(), "all is forgiven");
        }
    }
}

//! A new version of a plugin beside the old one: which request gets which, and when the new one is
//! given up. Pure: time and randomness are arguments.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{
    config::{Rollback, Rollout as Plan},
    telemetry::{
        numbers::{VersionNumbers, call_bounds},
        tally::{Sheets, sum, total},
    },
};

/// Shares are counted in these.
const PARTS: u64 = 1_000_000;

/// Looks back that are kept per window.
const SAMPLES: u32 = 100;

/// A rate below this is noise, whatever the factor says.
const MIN_RATE: f64 = 0.01;

/// A call that takes less than this is fast enough, whatever the factor says.
const MIN_DURATION: Duration = Duration::from_micros(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    Old,
    New,
}

/// One roll-out, shared by all workers. It lives as long as the config has it: what was rolled back stays so.
pub struct Rollout {
    pub plan: Plan,
    /// Tells roll-outs apart, also those of the same plan.
    pub id: u64,
    /// Mixed into sticky choices, so that two roll-outs do not hit the same clients.
    salt: u64,
    /// Why it was given up.
    stopped: OnceLock<String>,
    pub numbers: Sheets<Version, VersionNumbers>,
    history: Mutex<VecDeque<(Instant, Sample, Sample)>>,
    /// When a difference of each kind was logged last.
    logged: Mutex<HashMap<&'static str, Instant>>,
}

/// What one version did up to some moment, or between two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    pub calls: u64,
    pub failures: u64,
    pub errors: u64,
    /// Calls by the bounds of [`call_bounds`].
    pub durations: Vec<u64>,
}

impl Rollout {
    pub fn new(plan: Plan, salt: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Rollout {
            id: NEXT.fetch_add(1, Relaxed),
            plan,
            salt,
            stopped: OnceLock::new(),
            numbers: Sheets::default(),
            history: Mutex::default(),
            logged: Mutex::default(),
        }
    }

    /// Which version a request gets, by what it is to stick to, or by chance.
    pub fn choose(&self, key: Option<&[u8]>, random: impl FnOnce() -> u64) -> Version {
        if self.is_stopped() {
            return Version::Old;
        }
        let point = match key {
            Some(key) => hash(key, self.salt),
            None => random(),
        };
        let share = (self.plan.percent / 100.0 * PARTS as f64) as u64;
        if point % PARTS < share { Version::New } else { Version::Old }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Why all traffic is the old version's again.
    pub fn reason(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }

    /// Gives the old version all the traffic; false where it has it already.
    pub fn stop(&self, reason: &str) -> bool {
        self.stopped.set(reason.to_owned()).is_ok()
    }

    /// Differences of a kind are logged once a second at most.
    pub fn may_log(&self, what: &'static str, now: Instant) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |last: &Instant| now.saturating_duration_since(*last) < Duration::from_secs(1);
        let due = !logged.get(what).is_some_and(recent);
        if due {
            logged.insert(what, now);
        }
        due
    }

    /// What a version did until now.
    pub fn sample(&self, version: Version) -> Sample {
        let sheets = self.numbers.get(&version);
        Sample {
            calls: sum(&sheets, |sheet| &sheet.calls),
            failures: sum(&sheets, |sheet| &sheet.failures),
            errors: sum(&sheets, |sheet| &sheet.errors),
            durations: total(&call_bounds(), &sheets, |sheet| &sheet.duration).counts,
        }
    }

    /// Looks at what happened within the window, and says why the new version has to go.
    pub fn judge(&self, now: Instant) -> Option<String> {
        if self.is_stopped() {
            return None;
        }
        let current = (now, self.sample(Version::Old), self.sample(Version::New));
        let rollback = &self.plan.rollback;
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        // The newest sample that is older than the window is where it begins.
        while history.get(1).is_some_and(|(at, ..)| now.saturating_duration_since(*at) >= rollback.window) {
            history.pop_front();
        }
        let (old, new) = match history.front() {
            Some((_, old, new)) => (current.1.since(old), current.2.since(new)),
            None => (current.1.clone(), current.2.clone()),
        };
        let step = rollback.window / SAMPLES;
        if history.back().is_none_or(|(at, ..)| now.saturating_duration_since(*at) >= step) {
            history.push_back(current);
        }
        verdict(rollback, &old, &new)
    }
}

impl Sample {
    fn since(&self, before: &Sample) -> Sample {
        let durations = self.durations.iter().zip(&before.durations);
        Sample {
            calls: self.calls.saturating_sub(before.calls),
            failures: self.failures.saturating_sub(before.failures),
            errors: self.errors.saturating_sub(before.errors),
            durations: durations.map(|(now, then)| now.saturating_sub(*then)).collect(),
        }
    }

    fn rate(&self, count: u64) -> f64 {
        if self.calls == 0 { 0.0 } else { count as f64 / self.calls as f64 }
    }

    /// The bound that 99 of 100 calls kept; zero without calls.
    pub fn p99(&self) -> Duration {
        let all: u64 = self.durations.iter().sum();
        if all == 0 {
            return Duration::ZERO;
        }
        let wanted = all - all / 100;
        let mut seen = 0;
        let place = self.durations.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let bounds = call_bounds();
        let last = bounds.last().copied().unwrap_or_default();
        // Beyond the last bound nothing is known but that.
        place.and_then(|place| bounds.get(place).copied()).unwrap_or(last * 2)
    }
}

/// Why the new version has to go, from what both did in the same time.
fn verdict(rollback: &Rollback, old: &Sample, new: &Sample) -> Option<String> {
    if new.calls < rollback.calls {
        return None;
    }
    let rates = [
        ("fails", new.rate(new.failures), old.rate(old.failures), rollback.failures),
        ("answers with errors", new.rate(new.errors), old.rate(old.errors), rollback.errors),
    ];
    for (what, new, old, factor) in rates {
        if new > (old * factor).max(MIN_RATE) {
            let (new, old) = (new * 100.0, old * 100.0);
            return Some(format!("it {what} in {new:.1} % of its calls, the old version in {old:.1} %"));
        }
    }
    let (new, old) = (new.p99(), old.p99());
    if !old.is_zero() && new > old.mul_f64(rollback.p99).max(MIN_DURATION) {
        return Some(format!("99 of 100 of its calls take up to {new:?}, of the old version's {old:?}"));
    }
    None
}

/// FNV-1a with the salt in front, and a last mix for the low digits (splitmix64).
fn hash(key: &[u8], salt: u64) -> u64 {
    let bytes = salt.to_le_bytes();
    let hash = bytes.iter().chain(key).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RolloutTo;

    fn plan(percent: f64) -> Plan {
        let rollback =
            Rollback { window: Duration::from_secs(10), calls: 100, failures: 2.0, errors: 2.0, p99: 3.0 };
        Plan { to: RolloutTo::File("new.wasm".into()), percent, sticky: None, shadow: false, rollback }
    }

    fn sample(calls: u64, failures: u64, errors: u64, place: usize) -> Sample {
        let mut durations = vec![0; call_bounds().len() + 1];
        durations[place] = calls;
        Sample { calls, failures, errors, durations }
    }

    #[test]
    fn shares_are_kept_by_key_and_by_chance() {
        for percent in [0.0, 0.5, 10.0, 50.0, 100.0] {
            let rollout = Rollout::new(plan(percent), 7);
            let keys = (0..20_000u32).map(|number| number.to_string());
            let new = keys.filter(|key| rollout.choose(Some(key.as_bytes()), || 0) == Version::New).count();
            let share = new as f64 / 200.0;
            assert!((share - percent).abs() < 1.2, "{percent}: {share}");
            let random = (0..1000u64).map(|number| number * (PARTS / 1000));
            let new = random.filter(|random| rollout.choose(None, || *random) == Version::New).count();
            assert_eq!(new as f64 / 10.0, percent);
        }
    }

    #[test]
    fn a_key_keeps_its_version_and_another_roll_out_hits_others() {
        let (first, second) = (Rollout::new(plan(50.0), 1), Rollout::new(plan(50.0), 2));
        let choices = |rollout: &Rollout| -> Vec<_> {
            (0..64u8).map(|key| rollout.choose(Some(&[key]), || 0)).collect()
        };
        assert_eq!(choices(&first), choices(&first));
        assert_ne!(choices(&first), choices(&second));
        assert!(first.stop("tried") && !first.stop("again"));
        assert!(choices(&first).iter().all(|version| *version == Version::Old));
        assert_eq!(first.reason(), Some("tried"));
    }

    #[test]
    fn verdicts() {
        let rollback = plan(50.0).rollback;
        let told = |old, new| verdict(&rollback, &old, &new);
        let good = sample(1000, 0, 50, 3);
        assert_eq!(told(good.clone(), good.clone()), None);
        assert_eq!(told(good.clone(), sample(99, 99, 0, 3)), None, "too few calls");
        assert!(told(good.clone(), sample(100, 33, 0, 3)).unwrap().contains("fails in 33.0 %"));
        assert_eq!(told(good.clone(), sample(1000, 10, 0, 3)), None, "below what is noise");
        assert!(told(good.clone(), sample(1000, 0, 101, 3)).unwrap().contains("errors in 10.1 %"));
        assert_eq!(told(good.clone(), sample(1000, 0, 100, 3)), None, "twice is allowed");
        assert!(told(good.clone(), sample(1000, 0, 50, 9)).unwrap().contains("up to 1ms"));
        assert_eq!(told(good, sample(1000, 0, 50, 6)), None, "fast enough");
    }

    #[test]
    fn only_the_window_counts() {
        let rollout = Rollout::new(plan(50.0), 0);
        let sheet = rollout.numbers.of(&Version::New, 0, VersionNumbers::default);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        sheet.calls.add(90);
        sheet.failures.add(90);
        assert_eq!(rollout.judge(at(0)), None, "too few");
        sheet.calls.add(5);
        assert_eq!(rollout.judge(at(11)), None);
        sheet.calls.add(100);
        assert_eq!(rollout.judge(at(22)), None, "the failures are long ago");
        sheet.calls.add(100);
        sheet.failures.add(50);
        assert!(rollout.judge(at(23)).is_some());
    }
}

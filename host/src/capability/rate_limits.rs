//! Rate limits in the memory of the process. Several are taken from at once, from all or from none. Time is an argument.

use std::{
    collections::hash_map::RandomState,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use papaya::{HashMap, HashMapRef, LocalGuard};

use super::{MAX_KEY, counters::Refused};
pub use wasmgate_rate_limit::{Algorithm, Limit, Standing, State};

/// Limits and keys of all plugins together.
const MAX_KEYS: usize = 1_000_000;

/// What is to be taken of one limit.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Whose it is. Under another limit it is something else.
    pub key: String,
    pub limit: Limit,
    /// With 0 it is only looked at.
    pub cost: u32,
}

pub struct RateLimits {
    start: Instant,
    /// Nanoseconds since 1970 at the start. Later times are told from it, so that no correction of the clock is noticed.
    epoch: u64,
    slots: HashMap<Box<str>, Mutex<Slot>>,
}

type Slots<'g> = HashMapRef<'g, Box<str>, Mutex<Slot>, RandomState, LocalGuard<'g>>;

/// The state of a limit and key, with the limit as it was last.
struct Slot {
    state: State,
    limit: Limit,
    /// It was swept up: another one stands, or will stand, in its place.
    gone: bool,
}

impl Default for RateLimits {
    fn default() -> Self {
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        RateLimits { start: Instant::now(), epoch: epoch.as_nanos() as u64, slots: HashMap::new() }
    }
}

impl Demand {
    /// Where somebody stands of whom nothing is counted.
    pub fn untouched(&self) -> Standing {
        State::default().ask(&self.limit, 0, 0, false)
    }

    /// Under which it stands. None where the key is too long.
    fn slot(&self, plugin: &str) -> Option<Box<str>> {
        if self.key.len() > MAX_KEY {
            return None;
        }
        let Limit { algorithm, amount, burst, .. } = self.limit;
        let mut slot = String::with_capacity(plugin.len() + self.key.len() + 32);
        slot.push_str(plugin);
        // No error: it is a text.
        let _ = write!(
            slot,
            "\0{}.{amount:x}.{:x}.{burst:x} ",
            algorithm as u8,
            self.limit.per().as_millis() as u64
        );
        slot.push_str(&self.key);
        Some(slot.into())
    }
}

impl RateLimits {
    /// Takes from all, or from none where one does not allow it.
    pub fn take(&self, plugin: &str, demands: &[Demand], now: Instant) -> Result<Vec<Standing>, Refused> {
        let keys = demands.iter().map(|demand| demand.slot(plugin));
        let keys: Vec<_> = keys.collect::<Option<_>>().ok_or(Refused::KeyTooLong)?;
        let now = self.nanos(now);
        loop {
            if let Some(standings) = self.try_take(&keys, demands, now)? {
                return Ok(standings);
            }
        }
    }

    /// The short way of nearly all.
    pub fn take_one(&self, plugin: &str, demand: &Demand, now: Instant) -> Result<Standing, Refused> {
        let key = demand.slot(plugin).ok_or(Refused::KeyTooLong)?;
        let (slots, now) = (self.slots.pin(), self.nanos(now));
        loop {
            let mut slot = lock(self.slot(&slots, &key, demand.limit)?);
            if !slot.gone {
                slot.limit = demand.limit;
                return Ok(slot.state.ask(&demand.limit, demand.cost, now, true));
            }
        }
    }

    /// The one of this key, made where there is none.
    fn slot<'g>(&self, slots: &'g Slots<'_>, key: &str, limit: Limit) -> Result<&'g Mutex<Slot>, Refused> {
        match slots.get(key) {
            Some(slot) => Ok(slot),
            None if slots.len() >= MAX_KEYS => Err(Refused::TooManyKeys),
            None => Ok(slots.get_or_insert_with(key.into(), || {
                Mutex::new(Slot { state: State::default(), limit, gone: false })
            })),
        }
    }

    /// None where one of them was swept up meanwhile.
    fn try_take(
        &self,
        keys: &[Box<str>],
        demands: &[Demand],
        now: u64,
    ) -> Result<Option<Vec<Standing>>, Refused> {
        let slots = self.slots.pin();
        // In the order of the keys, so that no two who take wait for each other.
        let mut order: Vec<usize> = (0..demands.len()).collect();
        order.sort_unstable_by_key(|&place| &keys[place]);
        if order.windows(2).any(|pair| keys[pair[0]] == keys[pair[1]]) {
            return Err(Refused::SameTwice);
        }
        let mut locked: Vec<Option<MutexGuard<'_, Slot>>> = demands.iter().map(|_| None).collect();
        for place in order {
            let limit = demands[place].limit;
            let slot = self.slot(&slots, &keys[place], limit)?;
            let mut slot = lock(slot);
            if slot.gone {
                return Ok(None);
            }
            slot.limit = limit;
            locked[place] = Some(slot);
        }
        let mut ask = |take| -> Vec<Standing> {
            let slots = demands.iter().zip(locked.iter_mut().flatten());
            slots.map(|(demand, slot)| slot.state.ask(&demand.limit, demand.cost, now, take)).collect()
        };
        let standings = ask(false);
        Ok(Some(if standings.iter().all(|standing| standing.allowed) { ask(true) } else { standings }))
    }

    /// Forgets what is as good as new. To be called now and then.
    pub fn sweep(&self, now: Instant) {
        let now = self.nanos(now);
        self.slots.pin().retain(|_, slot| {
            let mut slot = lock(slot);
            slot.gone = slot.state.is_over(&slot.limit, now);
            !slot.gone
        });
    }

    fn nanos(&self, now: Instant) -> u64 {
        self.epoch + now.saturating_duration_since(self.start).as_nanos() as u64
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn demand(key: &str, amount: u32, cost: u32) -> Demand {
        let limit = Limit::new(Algorithm::SlidingLog, amount, S, 0).expect("within bounds");
        Demand { key: key.to_owned(), limit, cost }
    }

    fn take(limits: &RateLimits, demands: &[Demand], now: Instant) -> Vec<(bool, u64)> {
        let standings = limits.take("p", demands, now).expect("short keys");
        standings.iter().map(|standing| (standing.allowed, standing.remaining)).collect()
    }

    #[test]
    fn all_or_none_is_taken() {
        let (limits, t) = (RateLimits::default(), Instant::now());
        let both = [demand("a", 3, 2), demand("b", 9, 1)];
        assert_eq!(take(&limits, &both, t), [(true, 1), (true, 8)]);
        assert_eq!(take(&limits, &both, t), [(false, 1), (true, 8)]);
        assert_eq!(take(&limits, &both[..1], t), [(false, 1)], "the same limit by itself");
        assert_eq!(take(&limits, &both, t + 2 * S), [(true, 1), (true, 8)]);
        assert_eq!(take(&limits, &[], t), []);
    }

    #[test]
    fn limits_that_differ_and_other_plugins_are_apart() {
        let (limits, t) = (RateLimits::default(), Instant::now());
        assert_eq!(take(&limits, &[demand("a", 3, 1), demand("a", 4, 1)], t), [(true, 2), (true, 3)]);
        assert_eq!(limits.take("q", &[demand("a", 3, 1)], t).unwrap()[0].remaining, 2);
        let twice = [demand("a", 3, 1), demand("a", 3, 0)];
        assert_eq!(limits.take("p", &twice, t), Err(Refused::SameTwice));
        assert_eq!(limits.take("p", &[demand(&"a".repeat(2000), 3, 1)], t), Err(Refused::KeyTooLong));
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let (limits, t) = (RateLimits::default(), Instant::now());
        let passed = |demands: [Demand; 2]| {
            (0..500).filter(|_| take(&limits, &demands, t).iter().all(|(allowed, _)| *allowed)).count()
        };
        // In either order of the two.
        let (a, b) = (demand("a", 1000, 1), demand("b", 1100, 1));
        let total: usize = std::thread::scope(|scope| {
            let orders = [[a.clone(), b.clone()], [b, a]].into_iter().cycle().take(4);
            let threads: Vec<_> = orders.map(|demands| scope.spawn(|| passed(demands))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 1000);
    }

    #[test]
    fn a_sweep_forgets_only_what_is_over() {
        let (limits, t) = (RateLimits::default(), Instant::now());
        take(&limits, &[demand("a", 1, 1)], t);
        limits.sweep(t + S / 2);
        assert_eq!(take(&limits, &[demand("a", 1, 1)], t + S / 2), [(false, 0)]);
        limits.sweep(t + 3 * S);
        assert_eq!(limits.slots.len(), 0);
        assert_eq!(take(&limits, &[demand("a", 1, 1)], t + 3 * S), [(true, 0)]);
    }
}

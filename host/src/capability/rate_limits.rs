//! Rate limits in the memory of the process. Several are taken from at once, from all or from none. Time is an argument.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use papaya::HashMap;

use super::{counters::Refused, scoped};
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

    /// Under which it stands.
    fn slot(&self, plugin: &str) -> Option<Box<str>> {
        let Limit { algorithm, amount, burst, .. } = self.limit;
        scoped(
            plugin,
            &format!("{algorithm:?} {amount} {} {burst} {}", self.limit.per().as_millis(), self.key),
        )
    }
}

impl RateLimits {
    /// Takes from all, or from none where one does not allow it.
    pub fn take(&self, plugin: &str, demands: &[Demand], now: Instant) -> Result<Vec<Standing>, Refused> {
        let keys: Vec<_> = demands
            .iter()
            .map(|demand| demand.slot(plugin))
            .collect::<Option<_>>()
            .ok_or(Refused::KeyTooLong)?;
        let now = self.nanos(now);
        loop {
            if let Some(standings) = self.try_take(&keys, demands, now)? {
                return Ok(standings);
            }
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
            let slot = match slots.get(&keys[place]) {
                Some(slot) => slot,
                None if slots.len() >= MAX_KEYS => return Err(Refused::TooManyKeys),
                None => slots.get_or_insert_with(keys[place].clone(), || {
                    Mutex::new(Slot { state: State::default(), limit, gone: false })
                }),
            };
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

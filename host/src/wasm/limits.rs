//! Holds an instance to its memory and to its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use wasmtime::ResourceLimiter;

use super::engine::{TICK, thread_time};
use crate::telemetry::numbers::PluginNumbers;

/// Counts what an instance has and refuses what is too much.
pub struct Limiter {
    limit: usize,
    used: usize,
    /// A growth was refused: the trap that usually follows is for want of memory.
    pub refused: bool,
    /// Of the instance's plugin, on its worker.
    pub numbers: Arc<PluginNumbers>,
}

/// Entries of all tables of one instance.
const MAX_TABLE: usize = 100_000;

impl Limiter {
    pub fn new(memory: usize, numbers: Arc<PluginNumbers>) -> Self {
        numbers.instances.add(1);
        Limiter { limit: memory, used: 0, refused: false, numbers }
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.numbers.instances.subtract(1);
        self.numbers.memory.subtract(self.used as u64);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used + desired.saturating_sub(current);
        let fits = used <= self.limit && maximum.is_none_or(|max| desired <= max);
        match fits {
            true => {
                self.numbers.memory.add((used - self.used) as u64);
                self.used = used;
            }
            false => self.refused = true,
        }
        Ok(fits)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE && maximum.is_none_or(|max| desired <= max))
    }
}

/// In place of the time at which a call began to run.
const NO_TICK_YET: u64 = u64::MAX;

/// The processor's time that a call may use. Between two ticks a guest may have filled memory for long, and on a
/// busy machine its worker may have waited. The first tick is taken for a whole one, so that short calls, which are
/// nearly all, ask for no time.
#[derive(Default)]
pub struct Clock {
    left: Duration,
    running_since: RunningSince,
    out: bool,
}

/// What its thread had used when a call last began to run, in nanoseconds. Beside the clock, because a yield that
/// ends sets it.
#[derive(Clone, Default)]
pub struct RunningSince(Arc<AtomicU64>);

impl RunningSince {
    pub fn now(&self) {
        self.0.store(thread_time().as_nanos() as u64, Relaxed);
    }

    /// What the thread has used since is not the call's.
    fn forget(&self) {
        self.0.store(NO_TICK_YET, Relaxed);
    }
}

impl Clock {
    pub fn start(&mut self, time: Duration) {
        self.left = time;
        self.running_since.forget();
        self.out = false;
    }

    /// Counts what the call has used; false where that is too much.
    pub fn tick(&mut self) -> bool {
        let ran = match self.running_since.0.load(Relaxed) {
            NO_TICK_YET => TICK,
            since => thread_time().saturating_sub(Duration::from_nanos(since)),
        };
        match self.left.checked_sub(ran) {
            Some(left) => self.left = left,
            None => self.out = true,
        }
        !self.out
    }

    /// To be set when the call goes on after a tick.
    pub fn running_since(&self) -> &RunningSince {
        &self.running_since
    }

    /// The call ended because it had no time left.
    pub fn is_out(&self) -> bool {
        self.out
    }
}

/// Whether a guest waits for the host, for whoever polls its call.
#[derive(Clone, Default)]
pub struct Waiting(Arc<AtomicBool>);

/// It waits until this is dropped.
pub struct Waits(Waiting, RunningSince);

impl Waiting {
    pub fn begin(&self, clock: &Clock) -> Waits {
        self.0.store(true, Relaxed);
        Waits(self.clone(), clock.running_since.clone())
    }

    pub fn is_so(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.store(false, Relaxed);
        self.1.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_summed() {
        let numbers = Arc::<PluginNumbers>::default();
        let mut limiter = Limiter::new(100, numbers.clone());
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 50, None).unwrap());
        assert!(limiter.refused);
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert!(!limiter.memory_growing(0, 1, None).unwrap());
        assert_eq!((numbers.instances.get(), numbers.memory.get()), (1, 100));
        drop(limiter);
        assert_eq!((numbers.instances.get(), numbers.memory.get()), (0, 0));
    }
}

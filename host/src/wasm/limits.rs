//! Holds an instance to its memory.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::telemetry::numbers::PluginNumbers;

/// Counts what an instance has and refuses what is too much.
pub struct Limiter {
    limit: usize,
    used: usize,
    /// A growth was refused: the trap that usually follows is for want of memory.
    pub refused: bool,
    /// Of the instance's plugin, on its worker.
    numbers: Arc<PluginNumbers>,
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

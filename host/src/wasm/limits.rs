//! Holds an instance to its memory.

use wasmtime::ResourceLimiter;

/// Counts what an instance has and refuses what is too much.
pub struct Limiter {
    limit: usize,
    used: usize,
    /// A growth was refused: the trap that usually follows is for want of memory.
    pub refused: bool,
}

/// Entries of all tables of one instance.
const MAX_TABLE: usize = 100_000;

impl Limiter {
    pub fn new(memory: usize) -> Self {
        Limiter { limit: memory, used: 0, refused: false }
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
            true => self.used = used,
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
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 50, None).unwrap());
        assert!(limiter.refused);
        assert!(limiter.memory_growing(60, 100, None).unwrap());
        assert!(!limiter.memory_growing(0, 1, None).unwrap());
    }
}

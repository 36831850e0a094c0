//! `clock`: the wall clock and one that never goes back.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime},
};

use super::bindings::wasmgate::plugin::clock;
use crate::wasm::store::Host;

/// A plugin sleeps no longer at once.
const LONGEST: Duration = Duration::from_secs(60);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl clock::Host for Host {
    fn now_ms(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default().as_millis() as u64
    }

    fn monotonic_ns(&mut self) -> u64 {
        START.elapsed().as_nanos() as u64
    }

    async fn sleep(&mut self, ms: u32) {
        let _waiting = self.waiting.begin(&self.clock);
        tokio::time::sleep(Duration::from_millis(ms.into()).min(LONGEST)).await;
    }
}

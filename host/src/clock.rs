//! A worker's coarse time: that of its last sweep, a tenth of a second old at most, and free to
//! read. For what happens on every request and is measured in seconds.

use std::{cell::Cell, time::Instant};

thread_local! {
    static NOW: Cell<Instant> = Cell::new(Instant::now());
}

/// The time of the last [`advance`] on this thread.
pub fn now() -> Instant {
    NOW.get()
}

/// Reads the clock.
pub fn advance() -> Instant {
    let now = Instant::now();
    NOW.set(now);
    now
}

/// Seconds since the thread first asked, by the time of the last [`advance`].
pub fn seconds() -> u64 {
    thread_local! {
        static BEGUN: Instant = now();
    }
    BEGUN.with(|begun| now().saturating_duration_since(*begun).as_secs())
}

//! What time it is. Use these and not `std::time`, so that tests can move the time.

use std::time::Duration;

use crate::host::clock;

/// Time since 1970-01-01 UTC, to the millisecond.
///
/// ```
/// fn is_expired(expires_at: u64) -> bool {
///     wasmgate_sdk::clock::now().as_secs() >= expires_at
/// }
/// ```
pub fn now() -> Duration {
    Duration::from_millis(clock::now_ms())
}

/// Time of a clock that never goes back; its start means nothing.
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{clock, testing};
///
/// let host = testing::Host::new();
/// let start = host.enter(clock::monotonic);
/// host.advance(Duration::from_millis(5));
/// assert_eq!(host.enter(clock::monotonic) - start, Duration::from_millis(5));
/// ```
pub fn monotonic() -> Duration {
    Duration::from_nanos(clock::monotonic_ns())
}

/// Waits so long, at most a minute, without holding the worker. If the client goes away meanwhile, the phase ends here.
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{clock, testing};
///
/// let host = testing::Host::new();
/// let start = host.enter(clock::monotonic);
/// host.enter(|| clock::sleep(Duration::from_millis(20)));
/// assert_eq!(host.enter(clock::monotonic) - start, Duration::from_millis(20));
/// ```
pub fn sleep(time: Duration) {
    clock::sleep(milliseconds(time));
}

/// A time as the contract has it: rounded up, so that a short one does not become none.
pub(crate) fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

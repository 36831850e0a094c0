//! Bytes of the host's cryptographic generator.

use crate::host::random;

/// So many random bytes, but no more than 64 KiB at once.
///
/// ```
/// fn nonce() -> Vec<u8> {
///     wasmgate_sdk::random::bytes(12)
/// }
/// ```
pub fn bytes(len: u32) -> Vec<u8> {
    random::bytes(len)
}

/// An array of random bytes.
///
/// ```
/// use wasmgate_sdk::{random, testing};
///
/// let host = testing::Host::new();
/// let dice = host.enter(|| u16::from_le_bytes(random::array()) % 6 + 1);
/// assert!((1..=6).contains(&dice));
/// ```
pub fn array<const N: usize>() -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&random::bytes(N as u32));
    array
}

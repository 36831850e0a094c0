//! Random bytes from the thread's cryptographic generator, which the system seeds.

use rand::Rng;

pub fn fill(bytes: &mut [u8]) {
    rand::rng().fill_bytes(bytes);
}

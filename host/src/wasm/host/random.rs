//! `random`: bytes of the thread's cryptographic generator.

use super::bindings::wasmgate::plugin::random;
use crate::{capability, wasm::store::Host};

const MAX_BYTES: u32 = 64 * 1024;

impl random::Host for Host {
    fn bytes(&mut self, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; len.min(MAX_BYTES) as usize];
        capability::random::fill(&mut bytes);
        bytes
    }
}

//! What a plugin must not be able to do to the gateway.

use std::hint::black_box;

use wasmgate_sdk::{LocalResponse, Result, config};

/// Replaced in the file by a test with bytes that are not UTF-8. Long enough to lie in the data
/// section as it stands.
const NOT_UTF8: &str = "these bytes are made invalid in the file, since safe Rust holds no such string";

#[config]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// Run for ever.
    Loop,
    /// Write all of its memory again and again, in single instructions.
    Fill,
    /// Take memory until there is none.
    Bomb,
    /// Call itself until the stack is full.
    Recurse,
    Trap,
    /// Answer with more bytes than the host takes.
    Flood,
    /// Answer with strings that are not text.
    Garble,
}

impl Misbehaviour {
    /// Most ways do not come back.
    pub fn go(&self) -> Result<LocalResponse> {
        match self {
            Misbehaviour::Loop => endless(),
            Misbehaviour::Fill => fill(),
            Misbehaviour::Bomb => bomb(),
            Misbehaviour::Recurse => _ = black_box(recurse(1)),
            Misbehaviour::Trap => trap(),
            Misbehaviour::Flood => return Ok(LocalResponse::new(200).body(flood())),
            Misbehaviour::Garble => return Ok(LocalResponse::new(403).detail(black_box(NOT_UTF8))),
        }
        Ok(LocalResponse::new(200))
    }
}

fn endless() {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

fn fill() {
    let mut bytes = vec![0; 8 << 20];
    loop {
        black_box(&mut bytes).fill(black_box(1_u8));
    }
}

fn bomb() {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(black_box(vec![1; 1 << 20]));
    }
}

#[expect(unconditional_recursion, reason = "it is the misbehaviour")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    frame[(depth % 64) as usize].wrapping_add(recurse(depth + 1))
}

fn flood() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17 << 20);
    while bytes.len() < bytes.capacity() {
        bytes.extend_from_slice(black_box(&[b'x'; 1 << 10]));
    }
    bytes
}

fn trap() {
    let none: Option<u8> = black_box(None);
    black_box(none.into_iter().collect::<Vec<u8>>()[0]);
}

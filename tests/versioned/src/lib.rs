//! A guest of which a test makes as many versions as it likes: it reads what it does and what it is called
//! from bytes that the test changes in the file.

#![cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "what reads it is exported by the component only")
)]

use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use wasmgate_sdk::{Error, LocalResponse, Plugin, Request, Response, Result, Verdict, config, plugin};

/// Behaviour and name, four and eight characters.
static VERSION: [u8; 26] = *b"versioned:good:v0000000:--";

static CALLS: AtomicU32 = AtomicU32::new(0);

/// It takes none.
#[config]
struct Config {}

struct Versioned;

#[plugin]
impl Plugin for Versioned {
    type Config = Config;

    fn new(_: Config) -> Result<Self> {
        match behaviour() {
            "init" => Err(Error::msg("this version does not start")),
            _ => Ok(Versioned),
        }
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let call = CALLS.fetch_add(1, Relaxed);
        match behaviour() {
            // On one request in three.
            "trap" if call % 3 == 2 => std::process::abort(),
            "fail" => return Err(Error::msg("an error")),
            "deny" => return Ok(LocalResponse::new(403).into()),
            "slow" => {
                for round in 0..2_000_000_u32 {
                    black_box(round);
                }
            }
            "edit" => request.set_header("x-extra", "1")?,
            _ => {}
        }
        request.set_header("x-version", name())?;
        Ok(Verdict::Next)
    }

    fn on_response(&self, _: &Request, response: &Response) -> Result<Verdict> {
        response.set_header("x-version", name())?;
        Ok(Verdict::Next)
    }
}

fn behaviour() -> &'static str {
    part(10..14)
}

fn name() -> &'static str {
    part(15..23)
}

fn part(range: std::ops::Range<usize>) -> &'static str {
    std::str::from_utf8(&black_box(&VERSION)[range]).unwrap_or_default()
}

//! WASI through the standard library: environment, arguments, clocks, randomness, output, files that are not there.

use std::{
    collections::HashMap,
    env, fs,
    io::{self, Read, Write},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use crate::host::{current_time, say};

pub struct Wasi;

impl Context for Wasi {}

impl HttpContext for Wasi {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let mut variables: Vec<_> = env::vars().collect();
        variables.sort();
        say(format!("environment: {variables:?}"));
        say(format!("arguments: {}", env::args().count()));
        println!("to standard output");
        eprintln!("to standard error");
        print!("without an end");
        let _ = io::stdout().flush();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        say(format!("this century: {}", wall.as_secs() > 1_700_000_000));
        let apart = wall.as_nanos().abs_diff(current_time().1.into());
        say(format!("the host's time is the same: {}", apart < 1_000_000_000));
        let start = Instant::now();
        say(format!("time goes on: {}", start <= Instant::now()));
        // The standard library seeds hash maps with randomness.
        let map: HashMap<u32, u32> = HashMap::from([(1, 2)]);
        say(format!("randomness: {}", map.len() == 1));
        say(format!("a file: {}", fs::read("/etc/passwd").is_ok()));
        say(format!("a folder: {}", fs::create_dir("/new").is_ok()));
        say(format!("standard input: {}", io::stdin().read(&mut [0; 1]).is_ok()));
        Action::Continue
    }
}

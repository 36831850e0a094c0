//! Log levels.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use crate::host::{get_log_level, log};

pub struct Levels;

impl Context for Levels {}

impl HttpContext for Levels {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        get_log_level();
        for level in 0..=6 {
            log(level, &format!("of level {level}"));
        }
        log(2, "");
        log(2, "caf\u{e9} \"quoted\" tab\there");
        Action::Continue
    }
}

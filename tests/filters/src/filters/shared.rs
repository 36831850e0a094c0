//! Shared data: values that all contexts of a VM id see, written over only by whoever has read the last one.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{get_shared, say, set_shared};

pub struct Shared;

impl Context for Shared {}

impl HttpContext for Shared {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        match wish().as_str() {
            "write" => {
                get_shared("absent");
                set_shared("key", b"one", 0);
                get_shared("key");
            }
            "read" => _ = get_shared("key"),
            "cas" => compare_and_swap(),
            "absent" => {
                // Nothing can be compared with.
                set_shared("fresh", b"value", 7);
                get_shared("fresh");
            }
            "empty" => {
                set_shared("emptied", b"", 0);
                get_shared("emptied");
                set_shared("", b"nameless", 0);
                get_shared("");
            }
            _ => {
                set_shared("large", &vec![b'x'; 1_000_000], 0);
                get_shared("large");
            }
        }
        Action::Continue
    }
}

fn compare_and_swap() {
    set_shared("swapped", b"one", 0);
    let Some((_, first)) = get_shared("swapped") else { return };
    set_shared("swapped", b"two", first);
    let Some((_, second)) = get_shared("swapped") else { return };
    say(format!("another number: {}", first != second));
    set_shared("swapped", b"three", first);
    get_shared("swapped");
    set_shared("swapped", b"four", 0);
    set_shared("swapped", b"five", second);
    get_shared("swapped");
}

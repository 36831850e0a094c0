//! Reads and changes the headers of requests and responses in every way: `x-do: SIDE:WHAT`.

use proxy_wasm::{
    traits::{Context, HttpContext},
    types::Action,
};

use super::wish;
use crate::host::{
    REQUEST_HEADERS, RESPONSE_HEADERS, add, get_pairs, get_value, map_size, remove, replace, set_pairs,
    set_pairs_raw,
};

#[derive(Default)]
pub struct Headers {
    wish: String,
}

impl Context for Headers {}

impl HttpContext for Headers {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.wish = wish();
        if let Some(what) = self.wish.strip_prefix("request:") {
            change(REQUEST_HEADERS, what);
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if let Some(what) = self.wish.strip_prefix("response:") {
            change(RESPONSE_HEADERS, what);
        }
        Action::Continue
    }
}

fn change(map: u32, what: &str) {
    match what {
        "get" => {
            let names = [
                "x-once",
                "x-twice",
                "X-Once",
                "x-empty",
                "none",
                "",
                "host",
                ":authority",
                ":path",
                ":method",
                ":scheme",
                ":status",
                ":none",
            ];
            for name in names {
                get_value(map, name);
            }
            map_size(map);
        }
        "add" => {
            add(map, "x-new", b"1");
            add(map, "x-once", b"again");
            add(map, "X-Upper", b"Value");
            add(map, "x-nothing", b"");
            add(map, "x-latin", b"caf\xe9");
            add(map, "x-spaced", b"  a b  ");
            get_pairs(map);
        }
        "add-nameless" => {
            add(map, "", b"value");
            get_pairs(map);
        }
        "add-pseudo" => {
            let name = if map == REQUEST_HEADERS { ":path" } else { ":status" };
            add(map, name, b"/other");
            add(map, ":none", b"1");
            get_pairs(map);
        }
        "replace" => {
            replace(map, "x-once", b"other");
            replace(map, "x-twice", b"one");
            replace(map, "x-new", b"1");
            replace(map, "X-Upper", b"Value");
            replace(map, "x-empty", b"");
            get_pairs(map);
        }
        "remove" => {
            remove(map, "x-once");
            remove(map, "X-Twice");
            remove(map, "none");
            remove(map, "");
            get_pairs(map);
        }
        "set" => set_others(map),
        "clear" => {
            set_pairs(map, &[]);
            get_pairs(map);
        }
        "garbage" => {
            set_pairs_raw(map, &[9, 0, 0, 0, 1]);
            get_pairs(map);
        }
        "empty" => {
            set_pairs_raw(map, &[]);
            get_pairs(map);
        }
        "many" => set_many(map),
        "path" => {
            replace(map, ":path", b"/status/201?changed=1");
            get_value(map, ":path");
        }
        "method" => _ = replace(map, ":method", b"PUT"),
        "scheme" => {
            replace(map, ":scheme", b"https");
            get_value(map, ":scheme");
        }
        "authority" => {
            replace(map, ":authority", b"b.test");
            get_value(map, "host");
        }
        "host" => {
            replace(map, "host", b"b.test");
            get_pairs(map);
        }
        "no-path" => _ = remove(map, ":path"),
        "no-method" => _ = remove(map, ":method"),
        "no-authority" => {
            remove(map, ":authority");
            get_value(map, "host");
        }
        "no-host" => _ = remove(map, "host"),
        "no-scheme" => _ = remove(map, ":scheme"),
        "no-status" => _ = remove(map, ":status"),
        "no-length" => _ = remove(map, "content-length"),
        "status" => {
            replace(map, ":status", b"418");
            get_value(map, ":status");
        }
        "status-text" => _ = replace(map, ":status", b"many"),
        "status-large" => _ = replace(map, ":status", b"1000"),
        "status-interim" => _ = replace(map, ":status", b"103"),
        "status-empty" => _ = replace(map, ":status", b"204"),
        "breaking" => {
            add(map, "x-broken", b"a\r\nx-injected: 1");
            add(map, "x-zero", b"a\0b");
            add(map, "x bad", b"name");
        }
        "connection" => {
            add(map, "connection", b"x-once");
            add(map, "te", b"trailers");
            add(map, "keep-alive", b"timeout=5");
            get_pairs(map);
        }
        what => crate::host::say(format!("what is {what:?}?")),
    }
}

/// Other headers in another order. Pseudo headers stay, and what Envoy finds no route without.
fn set_others(map: u32) {
    let Some(pairs) = get_pairs(map) else { return };
    let needed = |name: &[u8]| name.starts_with(b":") || name == b"x-forwarded-proto";
    let pseudo = pairs.iter().filter(|(name, _)| needed(name));
    let mut all: Vec<(&[u8], &[u8])> = vec![(b"x-first", b"1"), (b"x-twice", b"a"), (b"X-Mixed", b"Case")];
    all.extend(pseudo.map(|(name, value)| (name.as_slice(), value.as_slice())));
    let rest: [(&[u8], &[u8]); 3] = [(b"x-twice", b"b"), (b"x-empty", b""), (b"x-last", b"9")];
    all.extend(rest);
    set_pairs(map, &all);
    get_pairs(map);
}

/// More pairs than fit into one call.
fn set_many(map: u32) {
    let Some(pairs) = get_pairs(map) else { return };
    let names: Vec<_> = (0..1100).map(|number| format!("x-{number}")).collect();
    let mut all: Vec<(&[u8], &[u8])> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
    all.extend(names.iter().map(|name| (name.as_bytes(), &b"1"[..])));
    set_pairs(map, &all);
    let _ = get_pairs(map);
}

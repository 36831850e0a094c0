//! A filter of ABI 0.2.0 that answers callbacks with any number: SDKs have no word for most of them, Envoy has a
//! meaning. `x-do: PHASE:NUMBER` says which; with `PHASE:NUMBER:tick` a tick lets the stream go on. It exports both allocators, `main` beside `_initialize`, and leaves out
//! what it does not need: trailers of responses, and the ends of streams.

#![cfg(target_family = "wasm")]
#![allow(unsafe_code, reason = "exports and imports without an SDK")]

use std::{cell::RefCell, ptr::null_mut};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
}

#[derive(Default)]
struct State {
    phase: String,
    number: u32,
    ticks: bool,
    /// The stream that a tick lets go on.
    stopped: Option<u32>,
    /// Those that were asked for by this name; `malloc` is the C library's.
    allocations: u32,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

fn say(line: String) {
    unsafe { proxy_log(2, line.as_ptr(), line.len()) };
}

fn kind(context: u32) -> &'static str {
    if context == 1 { "root" } else { "http" }
}

fn wish() -> String {
    let (name, mut data, mut size) = ("x-do", null_mut(), 0);
    let status = unsafe { proxy_get_header_map_value(0, name.as_ptr(), name.len(), &mut data, &mut size) };
    match status == 0 && !data.is_null() {
        true => String::from_utf8_lossy(&unsafe { Vec::from_raw_parts(data, size, size) }).into_owned(),
        false => String::new(),
    }
}

/// Answers the callback of that phase with the number, once; what stands still goes on with the next tick.
fn answer(context: u32, phase: &str) -> u32 {
    STATE.with_borrow_mut(|state| {
        if state.phase != phase {
            return 0;
        }
        state.phase = format!("{phase} is over");
        if state.ticks {
            state.stopped = Some(context);
            unsafe { proxy_set_tick_period_milliseconds(50) };
        }
        say(format!("  -> {}", state.number));
        state.number
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_0() {}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    say("_initialize".into());
}

#[unsafe(export_name = "main")]
extern "C" fn run(_: u32, _: u32) -> u32 {
    say("main".into());
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    STATE.with_borrow_mut(|state| state.allocations += 1);
    Box::into_raw(vec![0_u8; size].into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, _: u32) {
    say(format!("{} on_context_create", kind(context)));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, count: u32, end: u32) -> u32 {
    say(format!("http on_request_headers({count}, {})", end != 0));
    let wish = wish();
    let mut words = wish.split(':');
    let mut next = || words.next().unwrap_or_default();
    STATE.with_borrow_mut(|state| {
        (state.phase, state.number) = (next().to_owned(), next().parse().unwrap_or_default());
        state.ticks = next() == "tick";
        say(format!("  proxy_on_memory_allocate was called: {}", state.allocations > 0));
    });
    answer(context, "request_headers")
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: usize, end: u32) -> u32 {
    say(format!("http on_request_body({size}, {})", end != 0));
    answer(context, "request_body")
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    say(format!("http on_request_trailers({count})"));
    answer(context, "request_trailers")
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, count: u32, end: u32) -> u32 {
    say(format!("http on_response_headers({count}, {})", end != 0));
    answer(context, "response_headers")
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: usize, end: u32) -> u32 {
    say(format!("http on_response_body({size}, {})", end != 0));
    answer(context, "response_body")
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    say(format!("{} on_tick", kind(context)));
    unsafe { proxy_set_tick_period_milliseconds(0) };
    let Some(stopped) = STATE.with_borrow_mut(|state| state.stopped.take()) else { return };
    let response = u32::from(STATE.with_borrow(|state| state.phase.starts_with("response")));
    let (entered, went_on) =
        unsafe { (proxy_set_effective_context(stopped), proxy_continue_stream(response)) };
    say(format!("  set_effective_context = {entered}, continue_stream({response}) = {went_on}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    say(format!("{} on_log", kind(context)));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    say(format!("{} on_delete", kind(context)));
}

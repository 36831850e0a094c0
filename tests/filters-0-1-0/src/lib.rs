//! A filter as those of 2020 are: the callbacks and host functions that only ABI 0.1.0 has, `_start` in place of
//! `_initialize`, and only `malloc` to allocate with. It does what the request header `x-do` asks for, and tells all.

#![cfg(target_family = "wasm")]
#![allow(unsafe_code, reason = "exports and imports without an SDK")]

use std::{cell::RefCell, ptr::null_mut};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_configuration(data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_continue_request() -> u32;
    fn proxy_continue_response() -> u32;
    fn proxy_clear_route_cache() -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        size: usize,
    ) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_http_call(
        upstream: *const u8,
        upstream_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
}

thread_local! {
    /// What the last request asked for, and its context: a filter gets one at a time from the tests.
    static WISH: RefCell<(String, u32)> = const { RefCell::new((String::new(), 0)) };
}

fn say(line: String) {
    unsafe { proxy_log(2, line.as_ptr(), line.len()) };
}

fn kind(context: u32) -> &'static str {
    if context == 1 { "root" } else { "http" }
}

fn taken(data: *mut u8, size: usize) -> String {
    match data.is_null() {
        true => String::new(),
        false => String::from_utf8_lossy(&unsafe { Vec::from_raw_parts(data, size, size) }).into_owned(),
    }
}

fn value(map: u32, name: &str) -> (u32, String) {
    let (mut data, mut size) = (null_mut(), 0);
    let status = unsafe { proxy_get_header_map_value(map, name.as_ptr(), name.len(), &mut data, &mut size) };
    (status, taken(data, size))
}

fn wish() -> String {
    WISH.with_borrow(|wish| wish.0.clone())
}

/// Asks an upstream, and whether the phase has to wait for it.
fn call() -> u32 {
    let pairs = [(":method", "GET"), (":path", "/ok"), (":authority", "call.test")];
    let mut headers = (pairs.len() as u32).to_le_bytes().to_vec();
    for (name, value) in pairs {
        headers.extend((name.len() as u32).to_le_bytes());
        headers.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        headers.extend(format!("{name}\0{value}\0").bytes());
    }
    let (none, mut token) = (b"".as_ptr(), 0);
    let status = unsafe {
        let (data, size) = (headers.as_ptr(), headers.len());
        proxy_http_call(b"call".as_ptr(), 4, data, size, none, 0, none, 0, 5000, &mut token)
    };
    say(format!("  http_call = {status}"));
    u32::from(status == 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_1_0() {}

#[unsafe(no_mangle)]
extern "C" fn _start() {
    say("_start".into());
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    say(format!(
        "{} on_context_create(below {})",
        kind(context),
        if parent == 0 { "none" } else { kind(parent) }
    ));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(context: u32, size: usize) -> u32 {
    say(format!("{} on_vm_start({size})", kind(context)));
    configuration();
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, size: usize) -> u32 {
    say(format!("{} on_configure({size})", kind(context)));
    configuration();
    1
}

fn configuration() {
    let (mut data, mut size) = (null_mut(), 0);
    let status = unsafe { proxy_get_configuration(&mut data, &mut size) };
    say(format!("  get_configuration = {status} {:?}", taken(data, size)));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, count: u32) -> u32 {
    say(format!("http on_request_headers({count})"));
    WISH.set((value(0, "x-do").1, context));
    say(format!("  get_value(\"none\") = {:?}", value(0, "none")));
    say(format!("  get_value(\"x-do\") = {:?}", value(0, "x-do")));
    configuration();
    match wish().as_str() {
        "request" => return call(),
        "route" => unsafe {
            proxy_replace_header_map_value(0, b"x-route".as_ptr(), 7, b"other".as_ptr(), 5);
            say(format!("  clear_route_cache = {}", proxy_clear_route_cache()));
        },
        _ => {}
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(_: u32, size: usize, end: u32) -> u32 {
    say(format!("http on_request_body({size}, {})", end != 0));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(_: u32, count: u32) -> u32 {
    say(format!("http on_request_trailers({count})"));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(_: u32, count: u32) -> u32 {
    say(format!("http on_response_headers({count})"));
    if wish() == "response" { call() } else { 0 }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(_: u32, size: usize, end: u32) -> u32 {
    say(format!("http on_response_body({size}, {})", end != 0));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(_: u32, count: u32) -> u32 {
    say(format!("http on_response_trailers({count})"));
    0
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(context: u32, _: u32, headers: u32, body: usize, trailers: u32) {
    say(format!("{} on_http_call_response({headers}, {body}, {trailers})", kind(context)));
    let (mut data, mut size) = (null_mut(), 0);
    let status = unsafe { proxy_get_buffer_bytes(4, 0, usize::MAX, &mut data, &mut size) };
    say(format!("  get_buffer(CallBody) = {status} {:?}", taken(data, size)));
    let waiting = WISH.with_borrow(|wish| wish.1);
    say(format!("  set_effective_context = {}", unsafe { proxy_set_effective_context(waiting) }));
    match wish().as_str() {
        "request" => say(format!("  continue_request = {}", unsafe { proxy_continue_request() })),
        _ => say(format!("  continue_response = {}", unsafe { proxy_continue_response() })),
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    say(format!("{} on_log", kind(context)));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    say(format!("{} on_done", kind(context)));
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    say(format!("{} on_delete", kind(context)));
}

//! Host functions called raw, so that every status is seen: the SDK panics at most of them. Each call and what
//! came of it is a line of the log.

#![allow(unsafe_code, reason = "imports are called without the SDK")]

use std::{fmt::Write, ptr::null_mut, slice};

pub type Bytes = Vec<u8>;
pub type Pairs = Vec<(Bytes, Bytes)>;

pub const REQUEST_HEADERS: u32 = 0;
pub const REQUEST_TRAILERS: u32 = 1;
pub const RESPONSE_HEADERS: u32 = 2;
pub const RESPONSE_TRAILERS: u32 = 3;
pub const GRPC_INITIAL: u32 = 4;
pub const GRPC_TRAILING: u32 = 5;
pub const CALL_HEADERS: u32 = 6;
pub const CALL_TRAILERS: u32 = 7;

pub const REQUEST_BODY: u32 = 0;
pub const RESPONSE_BODY: u32 = 1;
pub const DOWNSTREAM: u32 = 2;
pub const UPSTREAM: u32 = 3;
pub const CALL_BODY: u32 = 4;
pub const GRPC_MESSAGE: u32 = 5;
pub const VM_CONFIG: u32 = 6;
pub const PLUGIN_CONFIG: u32 = 7;

/// Larger than any buffer: everything.
pub const ALL: usize = u32::MAX as usize;

const MAPS: [&str; 8] = [
    "RequestHeaders",
    "RequestTrailers",
    "ResponseHeaders",
    "ResponseTrailers",
    "GrpcInitialMetadata",
    "GrpcTrailingMetadata",
    "CallHeaders",
    "CallTrailers",
];

const BUFFERS: [&str; 9] = [
    "RequestBody",
    "ResponseBody",
    "DownstreamData",
    "UpstreamData",
    "CallBody",
    "GrpcMessage",
    "VmConfig",
    "PluginConfig",
    "Arguments",
];

const STATUSES: [&str; 13] = [
    "Ok",
    "NotFound",
    "BadArgument",
    "SerializationFailure",
    "ParseFailure",
    "BadExpression",
    "InvalidMemoryAccess",
    "Empty",
    "CasMismatch",
    "ResultMismatch",
    "InternalFailure",
    "BrokenConnection",
    "Unimplemented",
];

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_buffer_status(buffer: u32, size: *mut usize, flags: *mut u32) -> u32;
    fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        data: *const u8,
        data_size: usize,
    ) -> u32;
    fn proxy_get_header_map_size(map: u32, size: *mut usize) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        size: usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, size: usize) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
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
    fn proxy_grpc_send(token: u32, message: *const u8, size: usize, end: u32) -> u32;
    fn proxy_grpc_cancel(token: u32) -> u32;
    fn proxy_grpc_close(token: u32) -> u32;
    fn proxy_get_status(code: *mut u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, size: usize, cas: u32)
    -> u32;
    fn proxy_register_shared_queue(name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(
        vm: *const u8,
        vm_size: usize,
        name: *const u8,
        name_size: usize,
        id: *mut u32,
    ) -> u32;
    fn proxy_enqueue_shared_queue(id: u32, data: *const u8, size: usize) -> u32;
    fn proxy_dequeue_shared_queue(id: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, delta: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_done() -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
}

/// A line of the log, below the callback that it belongs to.
pub fn say(line: impl AsRef<str>) {
    write_line(2, &format!("  {}", line.as_ref()));
}

/// A line that begins what a callback does.
pub fn begin(line: impl AsRef<str>) {
    write_line(2, line.as_ref());
}

pub fn write_line(level: u32, line: &str) -> u32 {
    unsafe { proxy_log(level, line.as_ptr(), line.len()) }
}

/// Bytes as a line can hold them; long ones by their beginning and length.
pub fn text(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=200 => format!("\"{}\"", bytes.escape_ascii()),
        length => format!("\"{}\"... {length} bytes", bytes[..20].escape_ascii()),
    }
}

pub fn map_name(map: u32) -> String {
    name(&MAPS, map)
}

pub fn buffer_name(buffer: u32) -> String {
    name(&BUFFERS, buffer)
}

pub fn status_name(status: u32) -> String {
    name(&STATUSES, status)
}

fn name(names: &[&str], number: u32) -> String {
    names.get(number as usize).map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// Tells the call and its status.
fn told(call: String, status: u32) -> u32 {
    say(format!("{call} = {}", status_name(status)));
    status
}

/// Tells the call, its status and, after success, what it gave.
fn gave<T>(call: String, status: u32, value: T, shown: impl Fn(&T) -> String) -> Option<T> {
    if status != 0 {
        told(call, status);
        return None;
    }
    say(format!("{call} = Ok {}", shown(&value)));
    Some(value)
}

/// What the host allocated here and now belongs to the guest.
#[derive(Clone, Copy)]
struct Given {
    data: *mut u8,
    size: usize,
}

impl Given {
    const NOTHING: Given = Given { data: null_mut(), size: 0 };

    fn take(self) -> Bytes {
        match self.data.is_null() {
            true => Bytes::new(),
            false => unsafe { Bytes::from_raw_parts(self.data, self.size, self.size) },
        }
    }
}

fn serialized(pairs: &[(&[u8], &[u8])]) -> Bytes {
    let mut bytes = (pairs.len() as u32).to_le_bytes().to_vec();
    for (name, value) in pairs {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

/// Pairs as the host serializes them; none of bytes that are something else.
pub fn parsed(bytes: &[u8]) -> Option<Pairs> {
    if bytes.is_empty() {
        return Some(Pairs::new());
    }
    let count = number(bytes, 0)?;
    let mut at = 4 + count * 8;
    let mut part = |size: usize| {
        let part = bytes.get(at..at + size)?.to_vec();
        at += size + 1;
        Some(part)
    };
    let pairs: Option<Pairs> = (0..count)
        .map(|n| {
            let (name, value) = (number(bytes, 4 + n * 8)?, number(bytes, 8 + n * 8)?);
            Some((part(name)?, part(value)?))
        })
        .collect();
    pairs.filter(|_| at == bytes.len())
}

pub fn log(level: u32, line: &str) -> u32 {
    told(format!("log({level}, {line:?})"), write_line(level, line))
}

pub fn get_log_level() -> Option<u32> {
    let mut level = u32::MAX;
    let status = unsafe { proxy_get_log_level(&mut level) };
    gave("get_log_level()".into(), status, level, u32::to_string)
}

/// Not told: no two runs have the same.
pub fn current_time() -> (u32, u64) {
    let mut time = 0;
    let status = unsafe { proxy_get_current_time_nanoseconds(&mut time) };
    (status, time)
}

pub fn set_tick_period(milliseconds: u32) -> u32 {
    let status = unsafe { proxy_set_tick_period_milliseconds(milliseconds) };
    told(format!("set_tick_period({milliseconds})"), status)
}

pub fn get_buffer(buffer: u32, start: usize, max: usize) -> Option<Bytes> {
    let mut given = Given::NOTHING;
    let status = unsafe { proxy_get_buffer_bytes(buffer, start, max, &mut given.data, &mut given.size) };
    let call = format!("get_buffer({}, {start}, {})", buffer_name(buffer), max as isize);
    gave(call, status, given.take(), |bytes| text(bytes))
}

pub fn buffer_status(buffer: u32) -> Option<usize> {
    let (mut size, mut flags) = (0, 0);
    let status = unsafe { proxy_get_buffer_status(buffer, &mut size, &mut flags) };
    gave(format!("get_buffer_status({})", buffer_name(buffer)), status, size, |size| {
        format!("size {size}, flags {flags}")
    })
}

pub fn set_buffer(buffer: u32, start: usize, size: usize, data: &[u8]) -> u32 {
    let status = unsafe { proxy_set_buffer_bytes(buffer, start, size, data.as_ptr(), data.len()) };
    let (name, size) = (buffer_name(buffer), size as isize);
    told(format!("set_buffer({name}, {start}, {size}, {})", text(data)), status)
}

pub fn map_size(map: u32) -> Option<usize> {
    let mut size = 0;
    let status = unsafe { proxy_get_header_map_size(map, &mut size) };
    gave(format!("get_map_size({})", map_name(map)), status, size, usize::to_string)
}

/// Every pair is a line of its own.
pub fn get_pairs(map: u32) -> Option<Pairs> {
    let mut given = Given::NOTHING;
    let status = unsafe { proxy_get_header_map_pairs(map, &mut given.data, &mut given.size) };
    let pairs = parsed(&given.take());
    let call = format!("get_pairs({})", map_name(map));
    let shown = |pairs: &Option<Pairs>| pairs.as_ref().map_or("garbage".into(), |pairs| count(pairs.len()));
    let pairs = gave(call, status, pairs, shown)??;
    for (name, value) in &pairs {
        say(format!("  {}: {}", name.escape_ascii(), text(value)));
    }
    Some(pairs)
}

fn count(pairs: usize) -> String {
    format!("{pairs} pairs")
}

pub fn set_pairs(map: u32, pairs: &[(&[u8], &[u8])]) -> u32 {
    let data = serialized(pairs);
    let status = unsafe { proxy_set_header_map_pairs(map, data.as_ptr(), data.len()) };
    let mut shown = String::new();
    for (name, value) in pairs.iter().filter(|_| pairs.len() < 100) {
        let _ = write!(shown, " {}: {}", name.escape_ascii(), text(value));
    }
    told(format!("set_pairs({}, {}{shown})", map_name(map), count(pairs.len())), status)
}

/// The same with bytes that need not be pairs.
pub fn set_pairs_raw(map: u32, data: &[u8]) -> u32 {
    let status = unsafe { proxy_set_header_map_pairs(map, data.as_ptr(), data.len()) };
    told(format!("set_pairs({}, raw {})", map_name(map), text(data)), status)
}

pub fn get_value(map: u32, name: &str) -> Option<Bytes> {
    let mut given = Given::NOTHING;
    let status = unsafe {
        proxy_get_header_map_value(map, name.as_ptr(), name.len(), &mut given.data, &mut given.size)
    };
    gave(format!("get_value({}, {name:?})", map_name(map)), status, given.take(), |value| text(value))
}

pub fn add(map: u32, name: &str, value: &[u8]) -> u32 {
    let status =
        unsafe { proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    told(format!("add({}, {name:?}, {})", map_name(map), text(value)), status)
}

pub fn replace(map: u32, name: &str, value: &[u8]) -> u32 {
    let status = unsafe {
        proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
    told(format!("replace({}, {name:?}, {})", map_name(map), text(value)), status)
}

pub fn remove(map: u32, name: &str) -> u32 {
    let status = unsafe { proxy_remove_header_map_value(map, name.as_ptr(), name.len()) };
    told(format!("remove({}, {name:?})", map_name(map)), status)
}

/// Not told: how a value is shown depends on what it is.
pub fn property(path: &[&str]) -> Result<Bytes, u32> {
    let path = path.join("\0");
    let mut given = Given::NOTHING;
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &mut given.data, &mut given.size) };
    if status == 0 { Ok(given.take()) } else { Err(status) }
}

/// A property that is text or bytes.
pub fn get_property(path: &[&str]) -> Option<Bytes> {
    let value = property(path);
    let status = value.as_ref().err().copied().unwrap_or_default();
    gave(format!("get_property({})", path.join(".")), status, value.unwrap_or_default(), |value| text(value))
}

pub fn set_property(path: &[&str], value: &[u8]) -> u32 {
    let joined = path.join("\0");
    let status = unsafe { proxy_set_property(joined.as_ptr(), joined.len(), value.as_ptr(), value.len()) };
    told(format!("set_property({}, {})", path.join("."), text(value)), status)
}

pub fn continue_stream(stream: u32) -> u32 {
    told(format!("continue_stream({stream})"), unsafe { proxy_continue_stream(stream) })
}

pub fn close_stream(stream: u32) -> u32 {
    told(format!("close_stream({stream})"), unsafe { proxy_close_stream(stream) })
}

/// An answer of the filter's own.
pub struct Answer<'a> {
    pub status: u32,
    pub details: &'a str,
    pub body: &'a [u8],
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// -1 is none.
    pub grpc: i32,
}

impl Default for Answer<'_> {
    fn default() -> Self {
        Answer { status: 403, details: "", body: b"no", headers: &[], grpc: -1 }
    }
}

impl Answer<'_> {
    pub fn send(&self) -> u32 {
        let headers = if self.headers.is_empty() { Bytes::new() } else { serialized(self.headers) };
        let status = unsafe {
            proxy_send_local_response(
                self.status,
                self.details.as_ptr(),
                self.details.len(),
                self.body.as_ptr(),
                self.body.len(),
                headers.as_ptr(),
                headers.len(),
                self.grpc,
            )
        };
        let (code, details, body, count) = (self.status, self.details, text(self.body), self.headers.len());
        told(
            format!("send_local_response({code}, {details:?}, {body}, {count} headers, {})", self.grpc),
            status,
        )
    }
}

/// A call that must not begin: the SDK knows nothing of it.
pub fn refused_http_call(upstream: &str, headers: &[(&[u8], &[u8])], timeout: u32) -> u32 {
    let headers = serialized(headers);
    let mut token = 0;
    let status = unsafe {
        let (none, size) = (b"".as_ptr(), 0);
        proxy_http_call(
            upstream.as_ptr(),
            upstream.len(),
            headers.as_ptr(),
            headers.len(),
            none,
            size,
            none,
            size,
            timeout,
            &mut token,
        )
    };
    told(format!("http_call({upstream:?}, timeout {})", timeout as i32), status)
}

pub fn grpc_send(token: u32, message: &[u8], end: bool) -> u32 {
    let status = unsafe { proxy_grpc_send(token, message.as_ptr(), message.len(), end.into()) };
    told(format!("grpc_send({}, {end})", text(message)), status)
}

pub fn grpc_cancel(token: u32) -> u32 {
    told("grpc_cancel()".into(), unsafe { proxy_grpc_cancel(token) })
}

pub fn grpc_close(token: u32) -> u32 {
    told("grpc_close()".into(), unsafe { proxy_grpc_close(token) })
}

pub fn get_status() -> Option<u32> {
    let (mut code, mut given) = (u32::MAX, Given::NOTHING);
    let status = unsafe { proxy_get_status(&mut code, &mut given.data, &mut given.size) };
    let message = text(&given.take());
    gave("get_status()".into(), status, code, |code| format!("{} {message}", *code as i32))
}

pub fn get_shared(key: &str) -> Option<(Bytes, u32)> {
    let (mut given, mut cas) = (Given::NOTHING, 0);
    let status =
        unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), &mut given.data, &mut given.size, &mut cas) };
    gave(format!("get_shared_data({key:?})"), status, (given.take(), cas), |(value, cas)| {
        format!("{}, {} cas", text(value), if *cas == 0 { "no" } else { "a" })
    })
}

pub fn set_shared(key: &str, value: &[u8], cas: u32) -> u32 {
    let status = unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) };
    told(
        format!("set_shared_data({key:?}, {}, {} cas)", text(value), if cas == 0 { "no" } else { "a" }),
        status,
    )
}

pub fn register_queue(name: &str) -> Option<u32> {
    let mut id = 0;
    let status = unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &mut id) };
    gave(format!("register_shared_queue({name:?})"), status, id, |_| "a queue".into())
}

pub fn resolve_queue(vm: &str, name: &str) -> Option<u32> {
    let mut id = 0;
    let status =
        unsafe { proxy_resolve_shared_queue(vm.as_ptr(), vm.len(), name.as_ptr(), name.len(), &mut id) };
    gave(format!("resolve_shared_queue({vm:?}, {name:?})"), status, id, |_| "a queue".into())
}

pub fn enqueue(id: u32, data: &[u8]) -> u32 {
    let status = unsafe { proxy_enqueue_shared_queue(id, data.as_ptr(), data.len()) };
    told(format!("enqueue_shared_queue({})", text(data)), status)
}

pub fn dequeue(id: u32) -> Option<Bytes> {
    let mut given = Given::NOTHING;
    let status = unsafe { proxy_dequeue_shared_queue(id, &mut given.data, &mut given.size) };
    gave("dequeue_shared_queue()".into(), status, given.take(), |data| text(data))
}

pub fn define_metric(kind: u32, name: &str) -> Option<u32> {
    let mut id = 0;
    let status = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
    gave(format!("define_metric({kind}, {name:?})"), status, id, |_| "a metric".into())
}

pub fn increment_metric(id: u32, delta: i64) -> u32 {
    told(format!("increment_metric({delta})"), unsafe { proxy_increment_metric(id, delta) })
}

pub fn record_metric(id: u32, value: u64) -> u32 {
    told(format!("record_metric({value})"), unsafe { proxy_record_metric(id, value) })
}

pub fn get_metric(id: u32) -> Option<u64> {
    let mut value = 0;
    let status = unsafe { proxy_get_metric(id, &mut value) };
    gave("get_metric()".into(), status, value, u64::to_string)
}

/// Not told.
pub fn metric_status(id: u32) -> u32 {
    unsafe { proxy_get_metric(id, &mut 0) }
}

pub fn set_effective_context(context: u32) -> u32 {
    unsafe { proxy_set_effective_context(context) }
}

pub fn done() -> u32 {
    told("done()".into(), unsafe { proxy_done() })
}

pub fn call_foreign(name: &str, arguments: &[u8]) -> Option<Bytes> {
    let mut given = Given::NOTHING;
    let status = unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &mut given.data,
            &mut given.size,
        )
    };
    let call = format!("call_foreign_function({name:?}, {})", text(arguments));
    gave(call, status, given.take(), |result| text(result))
}

/// Calls with addresses outside of the memory, each named.
pub fn with_bad_addresses() -> Vec<(&'static str, u32)> {
    let outside = (u32::MAX - 100) as usize as *mut u8;
    let (mut data, mut size, mut word) = (null_mut(), 0, 0_u32);
    let key = b"key";
    unsafe {
        vec![
            ("log", proxy_log(2, outside, 50)),
            ("get_log_level", proxy_get_log_level(outside.cast())),
            ("get_current_time", proxy_get_current_time_nanoseconds(outside.cast())),
            ("get_buffer", proxy_get_buffer_bytes(VM_CONFIG, 0, 10, outside.cast(), outside.cast())),
            ("get_buffer_status", proxy_get_buffer_status(VM_CONFIG, outside.cast(), outside.cast())),
            ("set_buffer", proxy_set_buffer_bytes(REQUEST_BODY, 0, 0, outside, 50)),
            ("get_map_size", proxy_get_header_map_size(REQUEST_HEADERS, outside.cast())),
            ("get_pairs", proxy_get_header_map_pairs(REQUEST_HEADERS, outside.cast(), outside.cast())),
            ("set_pairs", proxy_set_header_map_pairs(REQUEST_HEADERS, outside, 50)),
            (
                "get_value, name",
                proxy_get_header_map_value(REQUEST_HEADERS, outside, 50, &mut data, &mut size),
            ),
            (
                "get_value, result",
                proxy_get_header_map_value(
                    REQUEST_HEADERS,
                    b":path".as_ptr(),
                    5,
                    outside.cast(),
                    outside.cast(),
                ),
            ),
            ("add", proxy_add_header_map_value(REQUEST_HEADERS, key.as_ptr(), 3, outside, 50)),
            ("replace", proxy_replace_header_map_value(REQUEST_HEADERS, key.as_ptr(), 3, outside, 50)),
            ("remove", proxy_remove_header_map_value(REQUEST_HEADERS, outside, 50)),
            ("get_property, path", proxy_get_property(outside, 50, &mut data, &mut size)),
            (
                "get_property, result",
                proxy_get_property(b"plugin_name".as_ptr(), 11, outside.cast(), outside.cast()),
            ),
            ("set_property", proxy_set_property(key.as_ptr(), 3, outside, 50)),
            (
                "send_local_response",
                proxy_send_local_response(200, outside, 50, key.as_ptr(), 3, key.as_ptr(), 0, -1),
            ),
            (
                "http_call",
                proxy_http_call(
                    outside,
                    50,
                    key.as_ptr(),
                    0,
                    key.as_ptr(),
                    0,
                    key.as_ptr(),
                    0,
                    10,
                    &mut word,
                ),
            ),
            ("get_status", proxy_get_status(outside.cast(), outside.cast(), outside.cast())),
            ("get_shared_data", proxy_get_shared_data(outside, 50, &mut data, &mut size, &mut word)),
            ("set_shared_data", proxy_set_shared_data(key.as_ptr(), 3, outside, 50, 0)),
            ("register_shared_queue", proxy_register_shared_queue(outside, 50, &mut word)),
            ("resolve_shared_queue", proxy_resolve_shared_queue(outside, 50, key.as_ptr(), 3, &mut word)),
            ("enqueue_shared_queue", proxy_enqueue_shared_queue(1, outside, 50)),
            ("define_metric", proxy_define_metric(0, outside, 50, &mut word)),
            ("get_metric", proxy_get_metric(0, outside.cast())),
            (
                "call_foreign_function",
                proxy_call_foreign_function(outside, 50, key.as_ptr(), 0, &mut data, &mut size),
            ),
        ]
    }
}

/// The name of a property, stored at an odd address behind which nothing is aligned.
pub fn with_odd_addresses() -> Option<Bytes> {
    let mut space = [0_u8; 16];
    let base = unsafe { space.as_mut_ptr().add(1 - space.as_ptr() as usize % 2) };
    let path = b"plugin_name";
    let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), base.cast(), base.add(4).cast()) };
    let words = unsafe { slice::from_raw_parts(base, 8) };
    let word = |at: usize| number(words, at).unwrap_or_default();
    let given = Given { data: word(0) as *mut u8, size: word(4) };
    (status == 0).then(|| given.take())
}

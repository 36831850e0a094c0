//! As much of WASI preview 1 as filters import, with what Envoy makes of it: output is the log, the environment is
//! the config's, time and randomness are real, and there are no files, no arguments and no sockets. The same
//! functions stand under the older name of the interface.

use std::time::{Instant, SystemTime};

use tracing::Level;
use wasmtime::{Caller, Linker};

use crate::{
    capability::random,
    wasm::{
        host::log,
        proxy_wasm::{
            abi::{Answer, Fault, Status},
            call::{Call, slice},
            context::{Mode, VmData},
        },
    },
};

pub const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// Numbers of errors.
const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const NOT_A_DIRECTORY: u32 = 20;
const FAULT: u32 = 21;
const INVALID: u32 = 28;
const NO_ENTRY: u32 = 44;
const NO_SYSTEM_CALL: u32 = 52;
const NOT_SUPPORTED: u32 = 58;

/// Bytes that one call of `random_get` gives.
const MAX_RANDOM: u32 = 64 << 10;
/// Most pieces of one output.
const MAX_VECTORS: u32 = 1024;

macro_rules! functions {
    ($($name:ident($($parameter:ident: $type:ty),*) => $run:expr;)*) => {
        pub const NAMES: &[&str] = &["proc_exit", $(stringify!($name)),*];

        pub fn define(linker: &mut Linker<VmData>, module: &str) -> wasmtime::Result<()> {
            // Says so and goes on, as in Envoy.
            linker.func_wrap(module, "proc_exit", |caller: Caller<'_, VmData>, code: u32| {
                let plugin = caller.data().plugin();
                log::write(plugin, Level::ERROR, &format!("proc_exit({code}) was called"));
            })?;
            $(
                linker.func_wrap(module, stringify!($name), |caller: Caller<'_, VmData>, $($parameter: $type),*| {
                    let mut call = Call::new(caller);
                    let run: fn(&mut Call<'_>, $($type),*) -> Answer<u32> = $run;
                    errno(call.check(|mode| mode == Mode::Starting || OF_ALLOCATORS.contains(&stringify!($name)))
                        .and_then(|()| run(&mut call, $($parameter),*)))
                })?;
            )*
            Ok(())
        }
    };
}

/// What an allocator may call.
const OF_ALLOCATORS: [&str; 3] = ["fd_write", "clock_time_get", "poll_oneoff"];

functions! {
    fd_write(descriptor: u32, vectors: u32, count: u32, out: u32) => write;
    fd_pwrite(descriptor: u32, vectors: u32, count: u32, _offset: u64, out: u32) =>
        |call, descriptor, vectors, count, _, out| write(call, descriptor, vectors, count, out);
    fd_read(_descriptor: u32, _vectors: u32, _count: u32, _out: u32) => |_, _, _, _, _| Ok(NO_SYSTEM_CALL);
    fd_pread(_descriptor: u32, _vectors: u32, _count: u32, _offset: u64, _out: u32) =>
        |_, _, _, _, _, _| Ok(NO_SYSTEM_CALL);
    fd_seek(_descriptor: u32, _offset: i64, _whence: u32, _out: u32) => |_, _, _, _, _| Ok(SUCCESS);
    fd_tell(descriptor: u32, _out: u32) => |_, descriptor, _| output(descriptor);
    fd_close(_descriptor: u32) => |_, _| Ok(SUCCESS);
    fd_advise(_descriptor: u32, _offset: u64, _length: u64, _advice: u32) => |_, _, _, _, _| Ok(SUCCESS);
    fd_allocate(descriptor: u32, _offset: u64, _length: u64) => |_, descriptor, _, _| output(descriptor);
    fd_datasync(descriptor: u32) => |_, descriptor| output(descriptor);
    fd_sync(descriptor: u32) => |_, descriptor| output(descriptor);
    fd_fdstat_get(descriptor: u32, out: u32) => status;
    fd_fdstat_set_flags(_descriptor: u32, _flags: u32) => |_, _, _| Ok(NO_SYSTEM_CALL);
    fd_fdstat_set_rights(descriptor: u32, _base: u64, _inheriting: u64) => |_, descriptor, _, _| output(descriptor);
    fd_filestat_get(_descriptor: u32, _out: u32) => |_, _, _| Ok(BAD_DESCRIPTOR);
    fd_filestat_set_size(descriptor: u32, _size: u64) => |_, descriptor, _| output(descriptor);
    fd_filestat_set_times(descriptor: u32, _access: u64, _change: u64, _flags: u32) =>
        |_, descriptor, _, _, _| output(descriptor);
    fd_prestat_get(_descriptor: u32, _out: u32) => |_, _, _| Ok(BAD_DESCRIPTOR);
    fd_prestat_dir_name(_descriptor: u32, _path: u32, _size: u32) => |_, _, _, _| Ok(NO_SYSTEM_CALL);
    fd_readdir(_descriptor: u32, _buffer: u32, _size: u32, _cookie: u64, out: u32) => |call, _, _, _, _, out| {
        call.write_u32(out, 0)?;
        Ok(NOT_A_DIRECTORY)
    };
    fd_renumber(_from: u32, _to: u32) => |_, _, _| Ok(NOT_SUPPORTED);
    path_open(
        _descriptor: u32, _flags: u32, _path: u32, _size: u32, _open: u32, _base: u64, _inheriting: u64,
        _more: u32, _out: u32
    ) => |_, _, _, _, _, _, _, _, _, _| Ok(NO_ENTRY);
    path_create_directory(_descriptor: u32, _path: u32, _size: u32) => |_, _, _, _| Ok(NOT_SUPPORTED);
    path_filestat_get(_descriptor: u32, _flags: u32, _path: u32, _size: u32, _out: u32) =>
        |_, _, _, _, _, _| Ok(NOT_SUPPORTED);
    path_filestat_set_times(
        _descriptor: u32, _flags: u32, _path: u32, _size: u32, _access: u64, _change: u64, _which: u32
    ) => |_, _, _, _, _, _, _, _| Ok(NOT_SUPPORTED);
    path_link(
        _descriptor: u32, _flags: u32, _path: u32, _size: u32, _new: u32, _new_path: u32, _new_size: u32
    ) => |_, _, _, _, _, _, _, _| Ok(NOT_SUPPORTED);
    path_readlink(_descriptor: u32, _path: u32, _size: u32, _buffer: u32, _length: u32, _out: u32) =>
        |_, _, _, _, _, _, _| Ok(NOT_SUPPORTED);
    path_remove_directory(_descriptor: u32, _path: u32, _size: u32) => |_, _, _, _| Ok(NOT_SUPPORTED);
    path_rename(_descriptor: u32, _path: u32, _size: u32, _new: u32, _new_path: u32, _new_size: u32) =>
        |_, _, _, _, _, _, _| Ok(NOT_SUPPORTED);
    path_symlink(_path: u32, _size: u32, _descriptor: u32, _new: u32, _new_size: u32) =>
        |_, _, _, _, _, _| Ok(NOT_SUPPORTED);
    path_unlink_file(_descriptor: u32, _path: u32, _size: u32) => |_, _, _, _| Ok(NOT_SUPPORTED);
    sock_accept(_descriptor: u32, _flags: u32, _out: u32) => |_, _, _, _| Ok(NOT_SUPPORTED);
    sock_recv(_descriptor: u32, _vectors: u32, _count: u32, _flags: u32, _size_out: u32, _flags_out: u32) =>
        |_, _, _, _, _, _, _| Ok(NOT_SUPPORTED);
    sock_send(_descriptor: u32, _vectors: u32, _count: u32, _flags: u32, _out: u32) =>
        |_, _, _, _, _, _| Ok(NOT_SUPPORTED);
    sock_shutdown(_descriptor: u32, _how: u32) => |_, _, _| Ok(NOT_SUPPORTED);
    environ_sizes_get(count_out: u32, size_out: u32) => environment_sizes;
    environ_get(places: u32, buffer: u32) => environment;
    args_sizes_get(count_out: u32, size_out: u32) => |call, count_out, size_out| {
        call.write_u32(count_out, 0)?;
        call.write_u32(size_out, 0)?;
        Ok(SUCCESS)
    };
    args_get(_places: u32, _buffer: u32) => |_, _, _| Ok(SUCCESS);
    clock_time_get(clock: u32, _precision: u64, out: u32) => |call, clock, _, out| clock_time(call, clock, out);
    clock_res_get(clock: u32, out: u32) => clock_resolution;
    random_get(at: u32, size: u32) => random_bytes;
    sched_yield() => |_| Ok(SUCCESS);
    poll_oneoff(_in: u32, _out: u32, _count: u32, events_out: u32) => |call, _, _, _, events_out| {
        // Runtimes that sleep expect success, and time goes on without it.
        call.write_u32(events_out, 0)?;
        Ok(SUCCESS)
    };
}

/// The guest's view of an answer.
fn errno(answer: Answer<u32>) -> wasmtime::Result<u32> {
    match answer {
        Ok(number) => Ok(number),
        Err(Fault::Status(Status::InvalidMemoryAccess)) => Ok(FAULT),
        Err(Fault::Status(_)) => Ok(INVALID),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// Nothing is wrong with standard output and error; other descriptors are not open.
fn output(descriptor: u32) -> Answer<u32> {
    Ok(if matches!(descriptor, 1 | 2) { SUCCESS } else { BAD_DESCRIPTOR })
}

fn write(call: &mut Call<'_>, descriptor: u32, vectors: u32, count: u32, out: u32) -> Answer<u32> {
    if !matches!(descriptor, 1 | 2) {
        return Ok(BAD_DESCRIPTOR);
    }
    let mut text = Vec::new();
    let (memory, data) = call.split()?;
    for place in slice(memory, vectors, count.min(MAX_VECTORS) * 8)?.chunks_exact(8) {
        let number = |at: usize| u32::from_le_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]]);
        let piece = slice(memory, number(0), number(4))?;
        data.account(number(4))?;
        text.extend_from_slice(piece);
    }
    data.print(descriptor as usize - 1, &text);
    call.write_u32(out, text.len() as u32)?;
    Ok(SUCCESS)
}

impl VmData {
    /// Logs the lines that are whole. Runtimes write one in many pieces, and a piece each would be a trace in
    /// shreds that uses up the log's rate.
    fn print(&mut self, stream: usize, text: &[u8]) {
        let mut lines = std::mem::take(&mut self.output[stream]);
        lines.extend_from_slice(text);
        let whole = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        let end = if lines.len() - whole > log::MAX_LINE { lines.len() } else { whole };
        self.output[stream] = lines.split_off(end);
        let level = [Level::INFO, Level::ERROR][stream];
        if level <= tracing::level_filters::LevelFilter::current() {
            for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                log::write(self.plugin(), level, &String::from_utf8_lossy(line));
            }
        }
    }

    /// A line ends with the callback that began it.
    pub fn end_lines(&mut self) {
        for stream in 0..self.output.len() {
            if !self.output[stream].is_empty() {
                self.print(stream, b"\n");
            }
        }
    }
}

/// Standard output and error can be written to.
fn status(call: &mut Call<'_>, descriptor: u32, out: u32) -> Answer<u32> {
    const RIGHT_TO_WRITE: u64 = 64;
    if !matches!(descriptor, 1 | 2) {
        return Ok(BAD_DESCRIPTOR);
    }
    call.write_u64(out, 0)?;
    call.write_u64(out.saturating_add(8), RIGHT_TO_WRITE)?;
    call.write_u64(out.saturating_add(16), 0)?;
    Ok(SUCCESS)
}

fn lines(call: &mut Call<'_>) -> Vec<String> {
    call.data().guest.environment.iter().map(|(name, value)| format!("{name}={value}\0")).collect()
}

fn environment_sizes(call: &mut Call<'_>, count_out: u32, size_out: u32) -> Answer<u32> {
    let lines = lines(call);
    call.write_u32(count_out, lines.len() as u32)?;
    call.write_u32(size_out, lines.iter().map(|line| line.len() as u32).sum())?;
    Ok(SUCCESS)
}

fn environment(call: &mut Call<'_>, mut place: u32, mut at: u32) -> Answer<u32> {
    for line in lines(call) {
        call.write_u32(place, at)?;
        call.write(at, line.as_bytes())?;
        place = place.saturating_add(4);
        at = at.saturating_add(line.len() as u32);
    }
    Ok(SUCCESS)
}

fn clock_time(call: &mut Call<'_>, clock: u32, out: u32) -> Answer<u32> {
    let time = match clock {
        0 => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        1 => {
            static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
            START.get_or_init(Instant::now).elapsed()
        }
        _ => return Ok(NOT_SUPPORTED),
    };
    call.write_u64(out, time.as_nanos() as u64)?;
    Ok(SUCCESS)
}

fn clock_resolution(call: &mut Call<'_>, clock: u32, out: u32) -> Answer<u32> {
    if clock > 1 {
        return Ok(NOT_SUPPORTED);
    }
    call.write_u64(out, 1)?;
    Ok(SUCCESS)
}

fn random_bytes(call: &mut Call<'_>, at: u32, size: u32) -> Answer<u32> {
    if size > MAX_RANDOM {
        return Ok(INVALID);
    }
    let mut bytes = vec![0; size as usize];
    random::fill(&mut bytes);
    call.write(at, &bytes)?;
    Ok(SUCCESS)
}

//! Log, time, timers, and on whose behalf the guest acts.

use std::time::{Duration, SystemTime};

use tracing::{Level, level_filters::LevelFilter};
use wasmtime::{Caller, Linker};

use super::functions;
use crate::wasm::{
    host::log,
    proxy_wasm::{
        abi::{Answer, Status},
        call::{Call, slice},
        context::{Ending, VmData},
    },
};

functions! {
    #[always] proxy_log(level: u32, at: u32, size: u32) => write_log;
    proxy_get_log_level(out: u32) => get_log_level;
    proxy_get_current_time_nanoseconds(out: u32) => get_current_time;
    proxy_set_tick_period_milliseconds(period: u32) => set_tick_period;
    proxy_set_effective_context(context: u32) => set_effective_context;
    proxy_done() => done;
    proxy_get_status(code_out: u32, at_out: u32, size_out: u32) => get_status;
}

/// What compilers of C and C++ bring along; they return no status.
pub const HELPERS: &[&str] = &["pthread_equal", "emscripten_notify_memory_growth"];

pub fn define_helpers(linker: &mut Linker<VmData>) -> wasmtime::Result<()> {
    linker.func_wrap("env", HELPERS[0], |a: u32, b: u32| u32::from(a == b))?;
    linker.func_wrap("env", HELPERS[1], |_: Caller<'_, VmData>, _memory: u32| {})?;
    Ok(())
}

fn write_log(call: &mut Call<'_>, level: u32, at: u32, size: u32) -> Answer {
    let level = match level {
        0 => Level::TRACE,
        1 => Level::DEBUG,
        2 => Level::INFO,
        3 => Level::WARN,
        4 | 5 => Level::ERROR,
        _ => return Err(Status::BadArgument.into()),
    };
    let (memory, data) = call.split()?;
    let message = slice(memory, at, size)?;
    if level <= LevelFilter::current() {
        data.account(size)?;
        log::write(data.plugin(), level, &String::from_utf8_lossy(message));
    }
    Ok(())
}

/// In the order of Envoy's levels; 6 is off.
fn get_log_level(call: &mut Call<'_>, out: u32) -> Answer {
    let level = match LevelFilter::current().into_level() {
        Some(Level::TRACE) => 0,
        Some(Level::DEBUG) => 1,
        Some(Level::INFO) => 2,
        Some(Level::WARN) => 3,
        Some(Level::ERROR) => 4,
        None => 6,
    };
    call.write_u32(out, level)
}

fn get_current_time(call: &mut Call<'_>, out: u32) -> Answer {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    call.write_u64(out, now.as_nanos() as u64)
}

/// The timer belongs to the root; each call begins it anew, 0 stops it.
fn set_tick_period(call: &mut Call<'_>, period: u32) -> Answer {
    let data = call.data();
    let (vm, id) = (data.vm.clone(), data.root_id()?);
    let root = data.root()?;
    root.timer += 1;
    root.tick = (period > 0).then(|| Duration::from_millis(period.into()));
    let (timer, Some(period)) = (root.timer, root.tick) else { return Ok(()) };
    root.services.tasks.spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            match vm.upgrade() {
                Some(vm) if vm.tick(id, timer) => {}
                _ => return,
            }
        }
    });
    Ok(())
}

/// Until the callback returns. Any context of the VM will do, as in Envoy.
fn set_effective_context(call: &mut Call<'_>, context: u32) -> Answer {
    let data = call.data();
    if !data.streams.contains_key(&context) && !data.roots.contains_key(&context) {
        return Err(Status::BadArgument.into());
    }
    data.effective = context;
    Ok(())
}

/// A root that was not done when it was asked is now.
fn done(call: &mut Call<'_>) -> Answer {
    let root = call.data().root()?;
    if root.ending != Ending::Waiting {
        return Err(Status::NotFound.into());
    }
    root.ending = Ending::Done;
    root.ended.notify_one();
    Ok(())
}

fn get_status(call: &mut Call<'_>, code_out: u32, at_out: u32, size_out: u32) -> Answer {
    let data = call.data();
    let message = data.reply.status_message.clone();
    let code = data.root()?.status;
    call.write_u32(code_out, code)?;
    call.give(&message, at_out, size_out)
}

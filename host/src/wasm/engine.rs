//! The one engine: how guests are compiled, where their memory comes from, what interrupts them.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

/// The resolution of a guest's time limit, and how often a busy guest yields to its worker.
pub const TICK: Duration = Duration::from_millis(1);

/// Most live instances on all workers together. Each reserves address space, not memory.
const INSTANCES: u32 = 4096;
/// Largest memory that a limit in the config may grant.
pub const MAX_MEMORY: u64 = 1 << 30;
/// Pages that stay resident when an instance ends, so that the next one needs no page fault.
const KEEP_RESIDENT: usize = 64 << 10;

/// How long a processor has run this thread; a system call.
pub fn thread_time() -> Duration {
    // The kernel's fields are signed and never negative.
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// Builds the engine and starts its ticker, which ends with the last clone of the engine.
pub fn build() -> wasmtime::Result<Engine> {
    let engine = match Engine::new(&config(InstanceAllocationStrategy::Pooling(pool()))) {
        Ok(engine) => engine,
        Err(error) => {
            // Small address spaces (containers with ulimit -v) cannot hold the pool's reservation.
            tracing::warn!("no pooled instances, each is allocated on demand: {error:#}");
            Engine::new(&config(InstanceAllocationStrategy::OnDemand))?
        }
    };
    let weak = engine.weak();
    thread::Builder::new().name("wasm-ticker".to_owned()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(TICK);
        }
    })?;
    Ok(engine)
}

fn config(strategy: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(strategy)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        // Saves 0.6 us a call; no guest of ours uses component-model async.
        .concurrency_support(false)
        .max_wasm_stack(256 << 10)
        .async_stack_size(1 << 20)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // A component is the guest's module and a few adapters, of which only one has a memory.
    pool.total_component_instances(INSTANCES)
        .total_core_instances(4 * INSTANCES)
        .total_memories(INSTANCES)
        .total_tables(2 * INSTANCES)
        .total_stacks(INSTANCES)
        .max_memory_size(MAX_MEMORY as usize)
        .max_core_instances_per_component(64)
        .max_memories_per_component(8)
        .max_tables_per_component(16)
        .max_unused_warm_slots(32)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(16 << 10);
    // pagemap_scan stays off: in wasmtime 48 it can leave a swapped page of the last instance in place.
    pool
}

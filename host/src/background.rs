//! Threads that yield to those who serve requests. It must not know what is done on them.

/// Of a processor that is wanted by a worker too, such a thread gets a tenth (sched(7)): requests hardly
/// notice it, and it comes to its end also where they take all there is.
const NICE: i32 = 10;

/// Called at the start of a thread, of which alone it is true, on Linux. Where it is refused, work goes on.
pub fn yield_to_requests() {
    // Not `nice`, which adds to what the thread has from the one that began it.
    let _ = rustix::process::setpriority_process(None, NICE);
}

//! What the gateway says about itself: its log, the access log, metrics. Nothing here waits, and
//! nothing takes a lock on a request's way.

pub mod access_log;
pub mod metrics;

use tracing::level_filters::LevelFilter;

use crate::config::LogLevel;

/// Sends the host's own log to standard error. A second call changes nothing (tests).
pub fn init_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}

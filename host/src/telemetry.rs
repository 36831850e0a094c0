//! What the gateway says about itself: its log, the access log, the audit, metrics, traces. Nothing here waits, and
//! nothing takes a lock on a request's way.

pub mod access_log;
pub mod audit;
pub mod metrics;
pub mod numbers;
pub mod otlp;
pub mod page;
pub mod series;
pub mod sink;
pub mod tally;
pub mod trace;

use std::sync::OnceLock;

use tracing::{Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, Registry, fmt,
    layer::{Context, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use crate::config::LogLevel;

static LOG: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Sends the host's own log to standard error. A second call changes nothing (tests).
pub fn init_log(level: LogLevel) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    if tracing_subscriber::registry().with(filter).with(Quiet).with(lines).try_init().is_ok() {
        let _ = LOG.set(handle);
    }
}

/// The library of HTTP/2 warns of what any client may do as often as it likes.
struct Quiet;

impl<S: Subscriber> Layer<S> for Quiet {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() != Level::WARN || !metadata.target().starts_with("h2::")
    }
}

pub fn set_log_level(level: LogLevel) {
    if let Some(handle) = LOG.get() {
        // It fails only where the log is gone.
        let _ = handle.reload(filter(level));
    }
}

pub fn log_level() -> LogLevel {
    let known = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];
    let level = known.into_iter().find(|level| filter(*level) == LevelFilter::current());
    level.unwrap_or(LogLevel::Trace)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

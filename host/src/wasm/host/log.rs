//! `log`, and a guest's standard output and error: lines in the gateway's log under the plugin's name.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::bindings::wasmgate::plugin::log;
use crate::wasm::store::{Host, PluginContext};

/// Longest line; what is beyond is cut.
pub const MAX_LINE: usize = 8 * 1024;

impl log::Host for Host {
    fn enabled(&mut self, level: log::Level) -> bool {
        level.of_tracing() <= tracing::level_filters::LevelFilter::current()
    }

    fn write(&mut self, level: log::Level, message: String) {
        if log::Host::enabled(self, level) {
            write(&self.plugin, level.of_tracing(), &message);
        }
    }
}

impl log::Level {
    fn of_tracing(self) -> Level {
        match self {
            log::Level::Error => Level::ERROR,
            log::Level::Warn => Level::WARN,
            log::Level::Info => Level::INFO,
            log::Level::Debug => Level::DEBUG,
            log::Level::Trace => Level::TRACE,
        }
    }
}

pub fn write(plugin: &PluginContext, level: Level, message: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (allowed, lost) = plugin.log_budget.take(now.as_secs());
    let name = &*plugin.name;
    if lost > 0 {
        tracing::warn!(plugin = name, "{lost} log lines of the plugin were dropped in a second");
    }
    if !allowed {
        plugin.capabilities.metrics.plugin_log_dropped(name);
        return;
    }
    let end = message.floor_char_boundary(MAX_LINE);
    // One line each: a guest cannot forge lines of others.
    let message = message[..end].escape_debug().to_string().replace("\\\"", "\"");
    match level {
        Level::ERROR => tracing::error!(plugin = name, "{message}"),
        Level::WARN => tracing::warn!(plugin = name, "{message}"),
        Level::INFO => tracing::info!(plugin = name, "{message}"),
        Level::DEBUG => tracing::debug!(plugin = name, "{message}"),
        Level::TRACE => tracing::trace!(plugin = name, "{message}"),
    }
}

/// Where a guest's standard output and error go.
#[derive(Clone)]
pub struct PluginOutput {
    plugin: Arc<PluginContext>,
}

impl PluginOutput {
    pub fn new(plugin: Arc<PluginContext>) -> Self {
        PluginOutput { plugin }
    }
}

impl IsTerminal for PluginOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PluginOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for PluginOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let text = String::from_utf8_lossy(bytes);
        for text in text.lines().filter(|line| !line.trim().is_empty()) {
            write(&self.plugin, Level::WARN, text);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

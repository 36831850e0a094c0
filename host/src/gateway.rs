//! The composition root: the only place where configuration, WebAssembly, workers and listeners
//! meet, and the owner of the order in which all of it ends.

pub mod load;
mod worker;

use std::{fmt, io, net::TcpListener, path::Path, sync::Arc, thread, time::Instant};

use arc_swap::ArcSwap;
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    admin,
    config::{self, Config, Problems},
    drain::{self, Controller, Drain},
    runtime::Current,
    server::bind,
    telemetry::{self, access_log::AccessLog, metrics::Metrics},
};
use load::Loader;

/// Why the gateway does not run.
#[derive(Debug)]
pub enum Error {
    Config(Problems),
    /// What was tried, and why it failed.
    Io(String, io::Error),
    Engine(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(problems) => write!(f, "{problems}"),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
            Error::Engine(text) => write!(f, "the WebAssembly engine does not start: {text}"),
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Error::Config(problems)
    }
}

/// Loads all that the config names without opening anything: what `wasmgate check` does. Returns
/// the config for a summary.
pub fn check(path: &Path) -> Result<Config, Error> {
    let config = config::load(path)?;
    let metrics = Arc::new(Metrics::default());
    let mut loader = Loader::new(&config, metrics)?;
    local_runtime()?.block_on(loader.snapshot(&config, None))?;
    Ok(config)
}

/// Runs until SIGTERM or SIGINT, then drains.
pub fn run(path: &Path) -> Result<(), Error> {
    let started = Instant::now();
    let config = config::load(path)?;
    telemetry::init_log(config.log);
    let metrics = Arc::new(Metrics::default());
    let mut loader = Loader::new(&config, metrics.clone())?;
    let runtime = local_runtime()?;
    let (access_log, _writer) = start_access_log(&config, &metrics)?.unzip();
    let snapshot = runtime.block_on(loader.snapshot(&config, access_log))?;

    let sockets = bind_all(&config)?;
    let admin = config.admin.map(|address| bind_one("admin.address", address)).transpose()?;
    let (controller, drain) = drain::channel();
    let current: Current = Arc::new(ArcSwap::from_pointee(snapshot));
    for (number, listeners) in sockets.into_iter().enumerate() {
        start_worker(number, current.clone(), listeners, drain.clone())?;
    }
    thread::spawn({
        let capabilities = loader.capabilities();
        move || worker::sweep_capabilities(&capabilities)
    });
    tracing::info!(routes = config.routes.len(), ready_ms = started.elapsed().as_millis() as u64, "ready");
    drop(current);
    if !runtime.block_on(supervise(config, admin, metrics, controller, drain))? {
        // Workers still hold the access log: waiting for its last lines would wait for them.
        std::process::exit(0);
    }
    Ok(())
}

/// Answers on the admin listener and waits for the signal to go; whether all was done then.
async fn supervise(
    config: Config,
    admin: Option<TcpListener>,
    metrics: Arc<Metrics>,
    controller: Controller,
    drain: Drain,
) -> Result<bool, Error> {
    let signals = |error| Error::Io("signals".to_owned(), error);
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    if let Some(listener) = admin {
        let listener = tokio::net::TcpListener::from_std(listener);
        let listener = listener.map_err(|error| Error::Io("admin.address".to_owned(), error))?;
        tokio::task::spawn_local(admin::serve(listener, metrics, drain.signal()));
    }
    drop(drain);
    either(&mut terminate, &mut interrupt).await;
    tracing::info!("draining, for at most {:?}; another signal ends at once", config.server.drain_timeout);
    tokio::select! {
        drained = controller.drain(config.server.drain_timeout) => {
            match drained {
                true => tracing::info!("drained"),
                false => tracing::warn!("connections were still open after the drain timeout"),
            }
            Ok(drained)
        }
        () = either(&mut terminate, &mut interrupt) => {
            tracing::warn!("ended without waiting");
            Ok(false)
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_access_log(
    config: &Config,
    metrics: &Metrics,
) -> Result<Option<(AccessLog, telemetry::access_log::Writer)>, Error> {
    let Some(log) = &config.access_log else { return Ok(None) };
    let dropped = metrics.access_log_dropped.clone();
    let started = AccessLog::start(log.format, log.file.as_deref(), log.queue, dropped);
    started.map(Some).map_err(|error| Error::Io("access_log.file".to_owned(), error))
}

/// Sockets per worker, in the order of the config's listeners.
fn bind_all(config: &Config) -> Result<Vec<Vec<TcpListener>>, Error> {
    let mut workers: Vec<Vec<TcpListener>> = (0..config.server.workers).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let what = |error| {
            Error::Io(format!("listener {}: cannot listen on {}", listener.name, listener.address), error)
        };
        let sockets = bind::bind(listener.address, config.server.workers).map_err(what)?;
        let address = sockets[0].local_addr().map_err(what)?;
        tracing::info!(listener = listener.name, %address, "listening");
        workers.iter_mut().zip(sockets).for_each(|(worker, socket)| worker.push(socket));
    }
    Ok(workers)
}

fn bind_one(what: &str, address: std::net::SocketAddr) -> Result<TcpListener, Error> {
    let failed = |error| Error::Io(format!("{what}: cannot listen on {address}"), error);
    let socket = TcpListener::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    tracing::info!(listener = "admin", address = %socket.local_addr().map_err(failed)?, "listening");
    Ok(socket)
}

fn start_worker(
    number: usize,
    current: Current,
    listeners: Vec<TcpListener>,
    drain: Drain,
) -> Result<(), Error> {
    let failed = |error| Error::Io(format!("worker {number}"), error);
    let body = move || match local_runtime() {
        Ok(runtime) => runtime.block_on(worker::run(current, listeners, drain)),
        Err(error) => tracing::error!("worker {number} does not start: {error}"),
    };
    let thread = thread::Builder::new().name(format!("worker-{number}"));
    thread.stack_size(worker::STACK).spawn(body).map_err(failed)?;
    Ok(())
}

pub fn local_runtime() -> Result<LocalRuntime, Error> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.map_err(|error| Error::Io("runtime".to_owned(), error))
}

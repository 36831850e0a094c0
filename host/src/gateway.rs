//! The composition root: the only place where configuration, WebAssembly, workers and listeners
//! meet, and the owner of the order in which all of it ends.

mod admin_listener;
mod code;
mod consumers;
mod control;
mod handover;
mod keepers;
mod left_open;
mod listeners;
pub mod load;
mod plugins;
mod records;
mod reload;
mod smoke;
mod socket_file;
mod watch;
mod worker;

use std::{
    fmt, io,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use sd_notify::NotifyState;
use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    signal::unix::{Signal, SignalKind, signal},
    sync::{
        Notify,
        mpsc::{self, UnboundedReceiver},
        oneshot,
    },
};

use crate::{
    background::yield_to_requests,
    capability::consumers::Pages,
    config::{self, Config, Files, Problems},
    drain::{self, Controller, Drain},
    runtime::Current,
    telemetry::{self, metrics::Metrics},
    wasm::compile::Cache,
};
use admin_listener::AdminListener;
use control::Control;
use handover::{Handed, Inherited};
use listeners::{Listeners, Order};
use load::{Loaded, Loader};
use plugins::Plugins;
use records::Records;
use reload::{Reloader, Running, Trigger, tell_disabled, tell_networks};
use watch::Watch;

/// How long access log, audit and traces have at least for what is left when all requests have ended.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Why the gateway does not run.
#[derive(Debug)]
pub enum Error {
    Config(Problems),
    /// What was tried, and why it failed.
    Io(String, io::Error),
    Engine(String),
    /// A part of the gateway itself has failed.
    Failed(String),
}

impl Error {
    /// A line for each fault.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Error::Config(problems) => problems.lines().collect(),
            other => vec![other.to_string()],
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(problems) => write!(f, "{problems}"),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
            Error::Engine(text) => write!(f, "the WebAssembly engine does not start: {text}"),
            Error::Failed(text) => write!(f, "a fault of the gateway itself: {text}"),
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Error::Config(problems)
    }
}

/// Loads all that the config names without opening anything: what `wasmgate check` does. What one fault does not touch
/// is looked at in spite of it. Returns the config for a summary.
pub fn check(path: &Path) -> Result<Config, Error> {
    let (config, problems) = config::survey(path)?;
    let mut faults = problems.list().to_vec();
    faults.extend(records::faults(&config));
    faults.extend(consumers::fault(&config));
    let (cache, no_cache) = match load::open_cache(&config) {
        Ok(cache) => (cache, None),
        Err(fault) => (Cache::default(), Some(fault)),
    };
    let loader = Loader::new(cache, Arc::new(Metrics::default()))?;
    let disabling = local_runtime()?.block_on(loader.check(&config, &mut faults));
    faults.extend(no_cache.map(|fault| *fault));
    tell_disabled(&disabling);
    tell_networks(&config.networks, &[]);
    match faults.is_empty() {
        true => Ok(config),
        false => Err(Problems::new(&config.source, faults).into()),
    }
}

/// Runs until SIGTERM or SIGINT, then drains.
pub fn run(path: &Path) -> Result<(), Error> {
    let started = Instant::now();
    let config = config::load(path)?;
    telemetry::init_log(config.log);
    let metrics = Arc::new(Metrics::new(&config.metrics));
    let cache = load::open_cache(&config).map_err(|fault| Problems::new(&config.source, vec![*fault]))?;
    let loader = Arc::new(Loader::new(cache, metrics.clone())?);
    let capabilities = loader.capabilities();
    // Plugins that start may ask. The store is read when a predecessor is about to leave it.
    capabilities.consumers.put(Pages::without_store(&config.consumers));
    let runtime = local_runtime()?;
    let records = Records::start(&config, &metrics, None)?;
    let mut inherited = Inherited::from_environment();
    let admin = config
        .admin
        .as_ref()
        .map(|admin| AdminListener::open(&config, admin.address, &mut inherited))
        .transpose()?;
    let loading = {
        let loader = loader.clone();
        on_a_thread(move || {
            if handover::predecessor().is_some() {
                yield_to_requests();
            }
            let loaded = local_runtime()?.block_on(loader.load(&config, &Plugins::default(), &[]))?;
            Ok::<_, Error>((config, loaded))
        })
    };
    let first = runtime.block_on(async {
        // Once caught it ends nobody: a file that may grow no more is an error of a write.
        let _ = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
        // A successor shares the socket with the one who serves, and leaves it to him until it is ready.
        if let (Some(admin), None) = (&admin, handover::predecessor()) {
            admin.answer()?;
        }
        loading.await?
    });
    let (config, Loaded { mut snapshot, plugins, disabling }) = first?;
    tell_disabled(&disabling);
    tell_networks(&config.networks, &[]);
    capabilities.consumers.put(runtime.block_on(consumers::prepare(&config, &capabilities))?);

    let (orders, workers): (Vec<_>, Vec<_>) =
        (0..config.server.workers).map(|_| mpsc::unbounded_channel()).unzip();
    let mut listeners = Listeners::new(orders, inherited);
    let opening = listeners.prepare(&config)?;
    snapshot.entrances = opening.entrances();
    records.put_into(&mut snapshot);
    let (controller, drain) = drain::channel();
    let current: Current = Arc::new(ArcSwap::from_pointee(snapshot));
    for (number, orders) in workers.into_iter().enumerate() {
        start_worker(number, current.clone(), orders, drain.clone())?;
    }
    listeners.carry_out(opening, &metrics);
    listeners.forget_inherited();
    thread::spawn({
        let (capabilities, current) = (capabilities.clone(), Arc::downgrade(&current));
        move || worker::sweep_counters(&capabilities, &current)
    });
    let running = Running {
        config: Arc::new(config),
        plugins: Arc::new(plugins),
        listeners,
        records,
        since: SystemTime::now(),
        disabling,
        last: None,
    };
    let reloader = Rc::new(Reloader::new(path, loader, current, metrics.clone(), running));
    if !runtime.block_on(supervise(&reloader, metrics, admin, controller, drain, started))? {
        // Workers still hold the access log: waiting for its last lines would wait for them.
        std::process::exit(0);
    }
    Ok(())
}

/// Answers on the admin listener and waits for the signal to go; whether all was done then.
async fn supervise(
    reloader: &Rc<Reloader>,
    metrics: Arc<Metrics>,
    admin: Option<AdminListener>,
    controller: Controller,
    drain: Drain,
    started: Instant,
) -> Result<bool, Error> {
    let signals = |error| Error::Io("signals".to_owned(), error);
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
    let stop = Rc::new(Notify::new());
    let capabilities = reloader.capabilities();
    let mut successor = signal(SignalKind::user_defined2()).map_err(signals)?;
    if let Some(admin) = &admin {
        admin.control(Rc::new(Control {
            reloader: reloader.clone(),
            capabilities: capabilities.clone(),
            metrics,
            drain: drain.signal(),
            stop: stop.clone(),
            started: SystemTime::now(),
        }))?;
    }
    drop(drain);
    // Whoever waits for this line may send signals from now on.
    reloader.look_after_upstreams();
    let (routes, ready_ms) = (reloader.config().routes.len(), started.elapsed().as_millis() as u64);
    tracing::info!(routes, ready_ms, "ready");
    reloader.own_socket_files();
    handover::serves();
    let succeeded = Arc::new(AtomicBool::new(false));
    tokio::select! {
        () = either(&mut terminate, &mut interrupt) => {}
        () = stop.notified() => {}
        () = reload_on(&mut hangup, reloader) => {}
        () = reload_with_files(reloader) => {}
        () = judge_rollouts(reloader) => {}
        () = consumers::follow(&capabilities.consumers) => {}
        () = hand_over_on(&mut successor, reloader, admin.as_ref(), &succeeded) => {}
    }
    if let (true, Some(admin)) = (succeeded.load(Relaxed), &admin) {
        // Its successor answers on the same socket, and is ready.
        admin.stop();
    }
    handover::notify(&[NotifyState::Stopping]);
    reloader.release_sockets(succeeded.load(Relaxed));
    let limit = reloader.config().server.drain_timeout;
    let end = Instant::now() + limit;
    tracing::info!("draining, for at most {limit:?}; another signal ends at once");
    let drained = tokio::select! {
        // What was revoked is no good for the last requests either.
        () = consumers::follow(&capabilities.consumers) => false,
        drained = controller.drain(limit) => {
            match drained {
                true => tracing::info!("drained"),
                false => tracing::warn!("connections were still open after the drain timeout"),
            }
            drained
        }
        () = either(&mut terminate, &mut interrupt) => {
            tracing::warn!("ended without waiting");
            false
        }
    };
    if drained {
        end_by(end.max(Instant::now() + LAST_LINES), terminate, interrupt)?;
    }
    Ok(drained)
}

/// Access log, audit and traces write what they still have, and whoever reads it may have stopped: that ends the process at
/// this time, or at another signal.
fn end_by(end: Instant, mut terminate: Signal, mut interrupt: Signal) -> Result<(), Error> {
    let wait = move || {
        let told = local_runtime().map(|runtime| {
            runtime.block_on(async {
                tokio::select! {
                    () = tokio::time::sleep_until(end.into()) => "access log, audit or traces are not taken",
                    () = either(&mut terminate, &mut interrupt) => "ended without waiting",
                }
            })
        });
        match told {
            Ok(told) => tracing::warn!("{told}: what they still had is lost"),
            Err(error) => tracing::error!("{error}"),
        }
        std::process::exit(0);
    };
    let thread = thread::Builder::new().name("last-lines".to_owned()).spawn(wait);
    thread.map(|_| ()).map_err(|error| Error::Io("a thread to end with".to_owned(), error))
}

/// Reloads for ever. What fails is told in the log.
async fn reload_on(hangup: &mut Signal, reloader: &Reloader) {
    while hangup.recv().await.is_some() {
        let _ = reloader.reload(Trigger::Signal).await;
    }
    std::future::pending().await
}

/// Starts a successor whenever it is told to, one at a time, which is `under_way` until it ends. Ends only
/// with the gateway: the successor sends the signal to go.
async fn hand_over_on(
    signal: &mut Signal,
    reloader: &Reloader,
    admin: Option<&AdminListener>,
    under_way: &Arc<AtomicBool>,
) {
    while signal.recv().await.is_some() {
        if under_way.swap(true, Relaxed) {
            tracing::warn!("a successor is being started already");
            continue;
        }
        let ended = {
            let under_way = under_way.clone();
            move |status| {
                under_way.store(false, Relaxed);
                tracing::error!("the successor has ended ({status}); this process serves on");
            }
        };
        let sockets = reloader.sockets().and_then(|mut sockets| {
            let admin = admin.map(AdminListener::socket).transpose()?;
            sockets.extend(admin.map(|socket| Handed { socket: socket.into(), with_file: false }));
            Ok(sockets)
        });
        match sockets.and_then(|sockets| handover::start_successor(sockets, ended)) {
            Ok(pid) => tracing::info!(pid, "starting a successor"),
            Err(error) => {
                under_way.store(false, Relaxed);
                tracing::error!("no successor can be started; this process serves on: {error}");
            }
        }
    }
    std::future::pending().await
}

/// Gives up new versions of plugins that are worse than the old ones, as soon as that shows.
async fn judge_rollouts(reloader: &Reloader) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        ticks.tick().await;
        reloader.judge(Instant::now());
    }
}

/// Reloads whenever files change, for as long as the config says so.
async fn reload_with_files(reloader: &Reloader) {
    let mut watch = match Watch::start() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::warn!("files are not watched: {error}");
            return std::future::pending().await;
        }
    };
    let mut files = reloader.files();
    loop {
        let settings = reloader.config().reload.clone();
        let wanted = if settings.watch { files.borrow_and_update().clone() } else { Files::default() };
        watch.files(&wanted);
        tokio::select! {
            _ = files.changed() => {}
            () = watch.changed(settings.debounce) => {
                let _ = reloader.reload(Trigger::Files).await;
            }
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_worker(
    number: usize,
    current: Current,
    orders: UnboundedReceiver<Order>,
    drain: Drain,
) -> Result<(), Error> {
    let failed = |error| Error::Io(format!("worker {number}"), error);
    let body = move || match local_runtime() {
        Ok(runtime) => runtime.block_on(worker::run(number, current, orders, drain)),
        Err(error) => tracing::error!("worker {number} does not start: {error}"),
    };
    let thread = thread::Builder::new().name(format!("worker-{number}"));
    thread.stack_size(worker::STACK).spawn(body).map_err(failed)?;
    Ok(())
}

/// Does this on a thread of its own: the main thread answers meanwhile.
async fn on_a_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    const STACK: usize = 4 << 20;
    let (tell, done) = oneshot::channel();
    let thread = thread::Builder::new().name("loader".to_owned()).stack_size(STACK);
    // Nobody listens any more only when the gateway ends.
    thread
        .spawn(move || _ = tell.send(act()))
        .map_err(|error| Error::Io("a thread to load on".to_owned(), error))?;
    done.await.map_err(|_| Error::Failed("loading panicked".to_owned()))
}

pub fn local_runtime() -> Result<LocalRuntime, Error> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.map_err(|error| Error::Io("runtime".to_owned(), error))
}

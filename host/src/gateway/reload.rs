//! From the files as they are now to what runs: all of it, or nothing of it.

use std::{
    cell::{Ref, RefCell},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sd_notify::NotifyState;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, watch};

use super::{
    Error, consumers,
    handover::{self, Handed},
    keepers::Keepers,
    listeners::Listeners,
    load::{Loaded, Loader},
    local_runtime, on_a_thread,
    plugins::Plugins,
    records::Records,
};
use crate::{
    background::yield_to_requests,
    capability::Capabilities,
    config::{self, Config, Files, Networks, Overlay},
    plugin::rollout::Rollout,
    runtime::Current,
    snapshot::Snapshot,
    telemetry::{self, metrics::Metrics},
};

/// What runs, and the way from it to what runs next. Lives on the main thread.
pub struct Reloader {
    path: PathBuf,
    loader: Arc<Loader>,
    current: Current,
    metrics: Arc<Metrics>,
    /// One reload at a time.
    turn: Mutex<()>,
    running: RefCell<Running>,
    /// Files whose change may lead to something else.
    files: watch::Sender<Files>,
    keepers: Keepers,
}

pub struct Running {
    pub config: Arc<Config>,
    pub plugins: Arc<Plugins>,
    pub listeners: Listeners,
    pub records: Records,
    /// Since when.
    pub since: SystemTime,
    /// Faults of its plugins that disable routes.
    pub disabling: Vec<String>,
    pub last: Option<Attempt>,
}

/// What became of a reload.
pub struct Attempt {
    pub at: SystemTime,
    pub trigger: Trigger,
    pub took: Duration,
    /// Why nothing changed, a line for each fault.
    pub faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Signal,
    Files,
    Admin,
}

/// A reload that succeeded, or would have.
pub struct Applied {
    pub took: Duration,
    pub routes: usize,
    /// Faults of plugins that disable routes.
    pub disabling: Vec<String>,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trigger::Signal => "signal",
            Trigger::Files => "files",
            Trigger::Admin => "admin",
        })
    }
}

impl Reloader {
    pub fn new(
        path: &Path,
        loader: Arc<Loader>,
        current: Current,
        metrics: Arc<Metrics>,
        running: Running,
    ) -> Self {
        let files = watch::Sender::new(running.config.files().clone());
        let (path, running) = (path.to_owned(), RefCell::new(running));
        Reloader {
            path,
            loader,
            current,
            metrics,
            turn: Mutex::new(()),
            running,
            files,
            keepers: Keepers::default(),
        }
    }

    /// The files that what runs, or what should, is made of.
    pub fn files(&self) -> watch::Receiver<Files> {
        self.files.subscribe()
    }

    pub fn capabilities(&self) -> Arc<Capabilities> {
        self.loader.capabilities()
    }

    pub fn config(&self) -> Arc<Config> {
        self.running.borrow().config.clone()
    }

    pub fn running(&self) -> Ref<'_, Running> {
        self.running.borrow()
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Copies of all listening sockets.
    pub fn sockets(&self) -> io::Result<Vec<Handed>> {
        self.running.borrow().listeners.copies()
    }

    /// The files of Unix sockets are this process's, now that it serves.
    pub fn own_socket_files(&self) {
        self.running.borrow().listeners.own_files(true);
    }

    /// Lets the sockets be closed when their workers stop to accept; files stay for a successor.
    pub fn release_sockets(&self, has_successor: bool) {
        let listeners = &mut self.running.borrow_mut().listeners;
        if has_successor {
            listeners.own_files(false);
        }
        listeners.release();
    }

    /// Begins to look after the upstreams. Needs a runtime with local tasks.
    pub fn look_after_upstreams(&self) {
        self.keepers.follow(&self.current.load().upstreams, &self.config().dns);
    }

    /// Puts the files in force, or says why not; then what ran before runs on.
    pub async fn reload(&self, trigger: Trigger) -> Result<Applied, Error> {
        let _turn = self.turn.lock().await;
        let overlay = self.config().overlay.clone();
        self.put(trigger, overlay).await
    }

    /// Changes keys of a plugin's table until the next start, or until the file says something else of it.
    pub async fn change(&self, plugin: &str, keys: Map<String, Value>) -> Result<Applied, Error> {
        let _turn = self.turn.lock().await;
        let mut overlay = self.config().overlay.clone();
        overlay.change(plugin, keys);
        self.put(Trigger::Admin, overlay).await
    }

    async fn put(&self, trigger: Trigger, overlay: Overlay) -> Result<Applied, Error> {
        let (at, started) = (SystemTime::now(), Instant::now());
        tell_reloading();
        let result = self.attempt(overlay).await;
        handover::notify(&[NotifyState::Ready]);
        let took = started.elapsed();
        let faults = match &result {
            Ok(()) => Vec::new(),
            Err(error) => error.lines(),
        };
        self.metrics.reloads.count(result.is_ok());
        self.running.borrow_mut().last = Some(Attempt { at, trigger, took, faults });
        match result {
            Ok(()) => {
                let running = self.running.borrow();
                let (routes, disabling) = (running.config.routes.len(), running.disabling.clone());
                tracing::info!(%trigger, routes, took_ms = took.as_millis() as u64, "reloaded");
                Ok(Applied { took, routes, disabling })
            }
            Err(error) => {
                tracing::error!(%trigger, "not reloaded; what ran before runs on: {error}");
                Err(error)
            }
        }
    }

    /// Whether the files could be put in force now. Changes nothing.
    pub async fn dry_run(&self) -> Result<Applied, Error> {
        let _turn = self.turn.lock().await;
        let started = Instant::now();
        let overlay = self.config().overlay.clone();
        let (config, loaded) = self.load(overlay).await?;
        self.running.borrow_mut().listeners.prepare(&config)?;
        let (routes, disabling) = (config.routes.len(), loaded.disabling);
        Ok(Applied { took: started.elapsed(), routes, disabling })
    }

    /// Looks at all plugins that are rolled out, and gives up what is worse than what it replaces.
    pub fn judge(&self, now: Instant) {
        for (plugin, rollout) in self.running.borrow().plugins.rollouts() {
            if let Some(reason) = rollout.judge(now) {
                self.roll_back(plugin, rollout, &reason);
            }
        }
    }

    /// Gives all traffic back to the old version; false where it has it already.
    pub fn roll_back(&self, plugin: &str, rollout: &Rollout, reason: &str) -> bool {
        let first = rollout.stop(reason);
        if first {
            self.metrics.rollouts.rolled_back(plugin);
            tracing::error!(plugin, "rolled back: {reason}");
        }
        first
    }

    async fn attempt(&self, overlay: Overlay) -> Result<(), Error> {
        let (config, loaded) = self.load(overlay).await?;
        let capabilities = self.loader.capabilities();
        let pages = consumers::prepare(&config, &capabilities).await?;
        let mut running = self.running.borrow_mut();
        let opening = running.listeners.prepare(&config)?;
        let before = Some((&*running.config, &running.records));
        let records = Records::start(&config, &self.metrics, before)?;
        tell_what_stays(&running.config, &config);
        tell_networks(&config.networks, &running.config.networks);

        let mut snapshot = loaded.snapshot;
        snapshot.entrances = opening.entrances();
        records.put_into(&mut snapshot);
        let sets = config.networks.iter().map(|networks| (&networks.name, &networks.set));
        capabilities.networks.replace(sets);
        capabilities.consumers.put(pages);
        self.current.store(Arc::new(snapshot));
        self.keepers.follow(&self.current.load().upstreams, &config.dns);
        running.listeners.carry_out(opening, &self.metrics);
        running.plugins = Arc::new(loaded.plugins);
        std::mem::replace(&mut running.records, records).end();
        if running.config.log != config.log {
            telemetry::set_log_level(config.log);
        }
        tell_disabled(&loaded.disabling);
        running.disabling = loaded.disabling;
        running.since = SystemTime::now();
        running.config = Arc::new(config);
        Ok(())
    }

    /// On a thread of its own, which yields to those that serve requests.
    async fn load(&self, overlay: Overlay) -> Result<(Config, Loaded), Error> {
        let (path, loader) = (self.path.clone(), self.loader.clone());
        let (before, known) = (self.running.borrow().plugins.clone(), self.config());
        let upstreams = self.current.load().upstreams.clone();
        let load = move || {
            yield_to_requests();
            let config = match config::load_with(&path, overlay, &known.networks) {
                Ok(config) => config,
                Err(problems) => return (problems.files().clone(), Err(Error::from(problems))),
            };
            let loaded = local_runtime()
                .and_then(|runtime| Ok(runtime.block_on(loader.load(&config, &before, &upstreams))?));
            (config.files().clone(), loaded.map(|loaded| (config, loaded)))
        };
        let (mut files, loaded) = on_a_thread(load).await?;
        if loaded.is_err() {
            // What it was made of until now may come back.
            files.extend(self.config().files());
        }
        self.files.send_replace(files);
        loaded
    }
}

/// systemd waits for the end of what it has asked for (sd_notify(3), Type=notify-reload).
fn tell_reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        handover::notify(&[NotifyState::Reloading, now]);
    }
}

fn tell_what_stays(old: &Config, new: &Config) {
    let address = |config: &Config| config.admin.as_ref().map(|admin| admin.address);
    let stays = [
        ("server.workers", old.server.workers != new.server.workers),
        ("admin.address", address(old) != address(new)),
        ("metrics", old.metrics != new.metrics),
        ("plugins.cache", old.cache != new.cache),
    ];
    for (key, _) in stays.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("{key} has changed: it takes effect with the next start");
    }
}

/// Says which sets are new, and what is odd about them.
pub fn tell_networks(new: &[Networks], old: &[Networks]) {
    for networks in new.iter().filter(|networks| !old.iter().any(|old| old.is(networks))) {
        let (name, entries) = (&*networks.name, networks.set.len());
        tracing::info!(networks = name, entries, "the set is read");
        if let Some(what) = networks.host_bits() {
            tracing::warn!(networks = name, "{what}");
        }
    }
}

/// Says which plugins put routes out of order.
pub fn tell_disabled(faults: &[String]) {
    for fault in faults {
        tracing::error!("routes are disabled: {fault}");
    }
}

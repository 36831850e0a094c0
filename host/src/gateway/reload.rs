//! From the files as they are now to what runs: all of it, or nothing of it.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::{Mutex, watch};

use super::{
    Error,
    listeners::Listeners,
    load::{Loaded, Loader, Plugins},
    local_runtime, start_access_log,
};
use crate::{
    config::{self, Config},
    runtime::Current,
    telemetry::{
        self,
        access_log::{AccessLog, Writer},
        metrics::Metrics,
    },
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
    files: watch::Sender<Vec<PathBuf>>,
}

pub struct Running {
    pub config: Arc<Config>,
    pub plugins: Arc<Plugins>,
    pub listeners: Listeners,
    pub writer: Option<Writer>,
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
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trigger::Signal => "signal",
            Trigger::Files => "files",
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
        let files = watch::Sender::new(running.config.files().to_vec());
        let (path, running) = (path.to_owned(), RefCell::new(running));
        Reloader { path, loader, current, metrics, turn: Mutex::new(()), running, files }
    }

    /// The files that what runs, or what should, is made of.
    pub fn files(&self) -> watch::Receiver<Vec<PathBuf>> {
        self.files.subscribe()
    }

    pub fn config(&self) -> Arc<Config> {
        self.running.borrow().config.clone()
    }

    /// Puts the files in force, or says why not; then what ran before runs on.
    pub async fn reload(&self, trigger: Trigger) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let (at, started) = (SystemTime::now(), Instant::now());
        let result = self.attempt().await;
        let took = started.elapsed();
        let faults = match &result {
            Ok(()) => {
                let routes = self.config().routes.len();
                tracing::info!(%trigger, routes, took_ms = took.as_millis() as u64, "reloaded");
                Vec::new()
            }
            Err(error) => {
                tracing::error!(%trigger, "not reloaded; what ran before runs on: {error}");
                error.lines()
            }
        };
        self.metrics.reloads.count(result.is_ok());
        self.running.borrow_mut().last = Some(Attempt { at, trigger, took, faults });
        result
    }

    async fn attempt(&self) -> Result<(), Error> {
        let (config, loaded) = self.load().await?;
        let mut running = self.running.borrow_mut();
        let opening = running.listeners.prepare(&config.listeners)?;
        let (access_log, writer) = self.access_log(&running.config, &config)?;
        tell_what_stays(&running.config, &config);

        let mut snapshot = loaded.snapshot;
        snapshot.doors = opening.doors();
        snapshot.access_log = access_log;
        self.current.store(Arc::new(snapshot));
        running.listeners.carry_out(opening);
        running.plugins = Arc::new(loaded.plugins);
        if running.config.access_log != config.access_log {
            let old = std::mem::replace(&mut running.writer, writer);
            // It ends with the last request that writes to it.
            thread::spawn(move || drop(old));
        }
        if running.config.log != config.log {
            telemetry::set_log_level(config.log);
        }
        tell_disabled(&loaded.disabling);
        running.disabling = loaded.disabling;
        running.since = SystemTime::now();
        running.config = Arc::new(config);
        Ok(())
    }

    /// On a thread of its own, because it may have to compile.
    async fn load(&self) -> Result<(Config, Loaded), Error> {
        let (path, loader) = (self.path.clone(), self.loader.clone());
        let before = self.running.borrow().plugins.clone();
        let loading = tokio::task::spawn_blocking(move || {
            let config = match config::load(&path) {
                Ok(config) => config,
                Err(problems) => return (problems.made_of().to_vec(), Err(Error::from(problems))),
            };
            let loaded =
                local_runtime().and_then(|runtime| Ok(runtime.block_on(loader.load(&config, &before))?));
            (config.files().to_vec(), loaded.map(|loaded| (config, loaded)))
        });
        let (mut files, loaded) = loading.await.map_err(|error| Error::Failed(error.to_string()))?;
        if loaded.is_err() {
            // What it was made of until now may come back.
            files.extend(self.config().files().iter().cloned());
        }
        self.files.send_replace(files);
        loaded
    }

    /// The one that is written now, unless the config has another.
    fn access_log(&self, old: &Config, new: &Config) -> Result<(Option<AccessLog>, Option<Writer>), Error> {
        if old.access_log == new.access_log {
            return Ok((self.current.load().access_log.clone(), None));
        }
        Ok(start_access_log(new, &self.metrics)?.unzip())
    }
}

fn tell_what_stays(old: &Config, new: &Config) {
    let stays = [
        ("server.workers", old.server.workers != new.server.workers),
        ("admin", old.admin != new.admin),
        ("plugins.cache", old.cache != new.cache),
    ];
    for (key, _) in stays.iter().filter(|(_, changed)| *changed) {
        tracing::warn!("{key} has changed: it takes effect with the next start");
    }
}

/// Says which plugins put routes out of order.
pub fn tell_disabled(faults: &[String]) {
    for fault in faults {
        tracing::error!("routes are disabled: {fault}");
    }
}

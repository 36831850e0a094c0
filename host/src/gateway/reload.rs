//! From the files as they are now to what runs: all of it, or nothing of it.

use std::{path::PathBuf, sync::Arc, thread, time::Instant};

use super::{Error, listeners::Listeners, load::Loader, start_access_log};
use crate::{
    config::{self, Config},
    runtime::Current,
    telemetry::{
        access_log::{AccessLog, Writer},
        metrics::Metrics,
    },
};

pub struct Reloader {
    pub path: PathBuf,
    pub loader: Loader,
    pub listeners: Listeners,
    pub current: Current,
    pub metrics: Arc<Metrics>,
    /// What runs.
    pub config: Config,
    pub writer: Option<Writer>,
}

impl Reloader {
    /// Puts the files in force, or says why not; then what ran before runs on.
    pub async fn reload(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let config = config::load(&self.path)?;
        let loaded = self.loader.load(&config).await?;
        let opening = self.listeners.prepare(&config.listeners)?;
        let (access_log, writer) = self.access_log(&config)?;
        self.tell_what_stays(&config);

        let mut snapshot = loaded.snapshot;
        snapshot.doors = opening.doors();
        snapshot.access_log = access_log;
        self.current.store(Arc::new(snapshot));
        self.listeners.carry_out(opening);
        self.loader.keep(loaded.plugins);
        if self.config.access_log != config.access_log {
            let old = std::mem::replace(&mut self.writer, writer);
            // It ends with the last request that writes to it.
            thread::spawn(move || drop(old));
        }
        let (routes, took_ms) = (config.routes.len(), started.elapsed().as_millis() as u64);
        self.config = config;
        tracing::info!(routes, took_ms, "reloaded");
        Ok(())
    }

    /// The one that is written now, unless the config has another.
    fn access_log(&self, config: &Config) -> Result<(Option<AccessLog>, Option<Writer>), Error> {
        if self.config.access_log == config.access_log {
            return Ok((self.current.load().access_log.clone(), None));
        }
        Ok(start_access_log(config, &self.metrics)?.unzip())
    }

    fn tell_what_stays(&self, config: &Config) {
        let stays = [
            ("server.workers", self.config.server.workers != config.server.workers),
            ("admin.address", self.config.admin != config.admin),
        ];
        for (key, _) in stays.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("{key} has changed: it takes effect with the next start");
        }
    }
}

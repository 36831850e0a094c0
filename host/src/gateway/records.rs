//! What requests leave behind, access log and traces: each is started with a config and goes on for as
//! long as configs say the same of it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    sync::Arc,
    thread,
};

use rustix::fs::{Access, access};

use super::Error;
use crate::{
    config::{Config, KeyPath, Problem, Problems},
    snapshot::Snapshot,
    telemetry::{
        access_log::{AccessLog, Writer},
        metrics::Metrics,
        otlp::{Exporter, Tracer},
    },
};

/// The workers' ends with the threads that they feed; a thread is waited for after its end is gone.
#[derive(Clone, Default)]
pub struct Records {
    access_log: Option<(AccessLog, Arc<Writer>)>,
    traces: Option<(Tracer, Arc<Exporter>)>,
}

impl Records {
    /// As the config has them; those of which `before` says the same are the ones that run.
    pub fn start(
        config: &Config,
        metrics: &Metrics,
        before: Option<(&Config, &Records)>,
    ) -> Result<Records, Error> {
        let access_log = match before {
            Some((old, records)) if old.access_log == config.access_log => records.access_log.clone(),
            _ => access_log(config, metrics)?,
        };
        let traces = match before {
            Some((old, records)) if old.traces == config.traces => records.traces.clone(),
            _ => traces(config, metrics)?,
        };
        Ok(Records { access_log, traces })
    }

    pub fn put_into(&self, snapshot: &mut Snapshot) {
        snapshot.access_log = self.access_log.as_ref().map(|(log, _)| log.clone());
        snapshot.tracer = self.traces.as_ref().map(|(tracer, _)| tracer.clone());
    }

    /// What nothing newer has in common with these ends with the last request that is told there.
    pub fn end(self) {
        let log = self.access_log.as_ref().is_some_and(|(_, writer)| Arc::strong_count(writer) == 1);
        let traces = self.traces.as_ref().is_some_and(|(_, exporter)| Arc::strong_count(exporter) == 1);
        if log || traces {
            thread::spawn(move || drop(self));
        }
    }
}

/// Why the file of the access log could not be written, without making one.
pub fn fault(config: &Config) -> Option<Problem> {
    let file = config.access_log.as_ref()?.file.as_deref()?;
    writable(file).err().map(|error| unwritable(config, file, &error))
}

/// Whether a file could be written, or made, without making one.
pub fn writable(file: &Path) -> io::Result<()> {
    match fs::metadata(file) {
        Ok(found) if found.is_file() || found.is_dir() => {
            OpenOptions::new().append(true).open(file).map(drop)
        }
        // Opening a pipe could wait for its reader.
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let wanted = Access::WRITE_OK | Access::EXEC_OK;
            access(folder.unwrap_or(Path::new(".")), wanted).map_err(io::Error::from)
        }
        Err(error) => Err(error),
    }
}

fn unwritable(config: &Config, file: &Path, error: &io::Error) -> Problem {
    let place = KeyPath::root().key("access_log").key("file");
    Problem::at_value(&config.source, &place, format!("{} cannot be written: {error}", file.display()))
}

fn access_log(config: &Config, metrics: &Metrics) -> Result<Option<(AccessLog, Arc<Writer>)>, Error> {
    let Some(log) = &config.access_log else { return Ok(None) };
    let dropped = metrics.access_log_dropped.clone();
    let started = AccessLog::start(log.format.clone(), log.file.as_deref(), log.queue, dropped);
    let (log, writer) = started.map_err(|error| {
        let file = log.file.as_deref().unwrap_or(Path::new("standard output"));
        Problems::new(&config.source, vec![unwritable(config, file, &error)])
    })?;
    Ok(Some((log, Arc::new(writer))))
}

fn traces(config: &Config, metrics: &Metrics) -> Result<Option<(Tracer, Arc<Exporter>)>, Error> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let started = Tracer::start(traces, metrics.spans.clone());
    let (tracer, exporter) = started.map_err(|error| Error::Io("traces.otlp".to_owned(), error))?;
    Ok(Some((tracer, Arc::new(exporter))))
}

//! What requests leave behind, access log, audit and traces: each is started with a config and goes on for as
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
        access_log::AccessLog,
        audit::Audit,
        metrics::Metrics,
        otlp::{Exporter, Tracer},
        sink::Writer,
    },
};

/// The workers' ends with the threads that they feed; a thread is waited for after its end is gone.
#[derive(Clone, Default)]
pub struct Records {
    access_log: Option<(AccessLog, Arc<Writer>)>,
    audit: Option<(Audit, Arc<Writer>)>,
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
        let audit = match before {
            Some((old, records)) if old.audit == config.audit => records.audit.clone(),
            _ => audit(config, metrics)?,
        };
        let traces = match before {
            Some((old, records)) if old.traces == config.traces => records.traces.clone(),
            _ => traces(config, metrics)?,
        };
        Ok(Records { access_log, audit, traces })
    }

    pub fn put_into(&self, snapshot: &mut Snapshot) {
        snapshot.access_log = self.access_log.as_ref().map(|(log, _)| log.clone());
        snapshot.audit = self.audit.as_ref().map(|(audit, _)| audit.clone());
        snapshot.tracer = self.traces.as_ref().map(|(tracer, _)| tracer.clone());
    }

    pub fn audit(&self) -> Option<Audit> {
        self.audit.as_ref().map(|(audit, _)| audit.clone())
    }

    /// What nothing newer has in common with these ends with the last request that is told there.
    pub fn end(self) {
        let log = self.access_log.as_ref().is_some_and(|(_, writer)| Arc::strong_count(writer) == 1);
        let audit = self.audit.as_ref().is_some_and(|(_, writer)| Arc::strong_count(writer) == 1);
        let traces = self.traces.as_ref().is_some_and(|(_, exporter)| Arc::strong_count(exporter) == 1);
        if log || audit || traces {
            thread::spawn(move || drop(self));
        }
    }
}

/// Why the files of access log and audit could not be written, without making them.
pub fn faults(config: &Config) -> Vec<Problem> {
    let access_log = config.access_log.as_ref().and_then(|log| log.file.as_deref());
    let audit = config.audit.as_ref().and_then(|audit| audit.file.as_deref());
    let files = [("access_log", access_log), ("audit", audit)].into_iter();
    let files = files.filter_map(|(table, file)| Some((table, file?)));
    let faulty = files.filter_map(|(table, file)| Some((table, file, writable(file).err()?)));
    faulty.map(|(table, file, error)| unwritable(config, table, Some(file), &error)).collect()
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

fn unwritable(config: &Config, table: &str, file: Option<&Path>, error: &io::Error) -> Problem {
    let place = KeyPath::root().key(table).key("file");
    let file = file.unwrap_or(Path::new("standard output"));
    Problem::at_value(&config.source, &place, format!("{} cannot be written: {error}", file.display()))
}

fn access_log(config: &Config, metrics: &Metrics) -> Result<Option<(AccessLog, Arc<Writer>)>, Error> {
    let Some(log) = &config.access_log else { return Ok(None) };
    let dropped = metrics.access_log_dropped.clone();
    let started = AccessLog::start(log.format.clone(), log.file.as_deref(), log.queue, dropped);
    let (log, writer) = started.map_err(|error| {
        Problems::new(&config.source, vec![unwritable(config, "access_log", log.file.as_deref(), &error)])
    })?;
    Ok(Some((log, Arc::new(writer))))
}

fn audit(config: &Config, metrics: &Metrics) -> Result<Option<(Audit, Arc<Writer>)>, Error> {
    let Some(settings) = &config.audit else { return Ok(None) };
    let started = Audit::start(settings, metrics.audit_dropped.clone());
    let (audit, writer) = started.map_err(|error| {
        Problems::new(&config.source, vec![unwritable(config, "audit", settings.file.as_deref(), &error)])
    })?;
    Ok(Some((audit, Arc::new(writer))))
}

fn traces(config: &Config, metrics: &Metrics) -> Result<Option<(Tracer, Arc<Exporter>)>, Error> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let started = Tracer::start(traces, metrics.spans.clone());
    let (tracer, exporter) = started.map_err(|error| Error::Io("traces.otlp".to_owned(), error))?;
    Ok(Some((tracer, Arc::new(exporter))))
}

//! One place where an upstream runs, as all workers share it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};

use super::health::outliers::Consecutive;

pub use crate::config::Address;

/// Known by its address and its name: while an upstream has such an endpoint, in whatever config or answer of a name
/// server, it is the same one, with its connections and what is known of its health.
pub struct Endpoint {
    /// Tells it from all others of this process.
    pub id: u64,
    pub address: Address,
    /// Host and port as Host names them.
    pub authority: Arc<str>,
    /// The address as logs, metrics and messages have it.
    pub label: Arc<str>,
    /// Of both, the same in every process.
    pub hash: u64,
    /// Failures in a row.
    pub row: Consecutive,
    /// Failed its checks.
    ill: AtomicBool,
    /// Taken out for what became of requests.
    ejected: AtomicBool,
    /// Taken out by an operator: it gets no more requests.
    drained: AtomicBool,
    record: Mutex<Record>,
}

/// What is seldom asked for.
#[derive(Clone)]
pub struct Record {
    /// Whether it was ever checked.
    pub checked: bool,
    /// Since when it is in service, or out of it.
    pub since: Instant,
    pub changed: SystemTime,
    /// What was wrong last.
    pub trouble: Option<String>,
    /// Until when it is out for what became of requests.
    pub ejected_until: Option<Instant>,
}

/// Why an endpoint gets no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    Drained,
    Ill,
    Ejected,
}

impl Endpoint {
    pub fn new(address: Address, authority: Arc<str>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let label: Arc<str> = address.to_string().into();
        let (since, changed) = (Instant::now(), SystemTime::now());
        let record = Record { checked: false, since, changed, trouble: None, ejected_until: None };
        Endpoint {
            id: COUNT.fetch_add(1, Relaxed),
            hash: super::balance::hash_of(format!("{label} {authority}").as_bytes()),
            address,
            authority,
            label,
            row: Consecutive::default(),
            ill: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            record: Mutex::new(record),
        }
    }

    pub fn is(&self, address: &Address, authority: &str) -> bool {
        self.address == *address && *self.authority == *authority
    }

    /// None while it is in service.
    pub fn out(&self) -> Option<Out> {
        if self.drained.load(Relaxed) {
            Some(Out::Drained)
        } else if self.ill.load(Relaxed) {
            Some(Out::Ill)
        } else {
            self.ejected.load(Relaxed).then_some(Out::Ejected)
        }
    }

    pub fn is_ill(&self) -> bool {
        self.ill.load(Relaxed)
    }

    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn note(&self, note: impl FnOnce(&mut Record)) {
        note(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// These tell whether they changed anything.
    pub fn set_ill(&self, ill: bool) -> bool {
        self.change(&self.ill, ill)
    }

    pub fn set_ejected(&self, until: Option<Instant>) -> bool {
        self.note(|record| record.ejected_until = until);
        self.change(&self.ejected, until.is_some())
    }

    pub fn set_drained(&self, drained: bool) -> bool {
        self.change(&self.drained, drained)
    }

    fn change(&self, flag: &AtomicBool, value: bool) -> bool {
        let before = self.out();
        if flag.swap(value, Relaxed) == value {
            return false;
        }
        if before.is_some() != self.out().is_some() {
            self.note(|record| (record.since, record.changed) = (Instant::now(), SystemTime::now()));
        }
        true
    }
}

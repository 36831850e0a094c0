//! Records of a Redis that several gateways have in memory and follow. Each change makes a version; a gateway asks what there is
//! since the one that it knows, and changes only what it knows the last version of.
//!
//! A version alone does not say whose it is: a Redis that has lost its last writes counts on from an older one. So each has a
//! mark as well, which its writer has drawn; who knows a mark that is not there any more is told everything anew.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use rand::RngExt;
use redis::{Script, ScriptInvocation};

use super::{Link, Unavailable};

static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("ledger_read.lua")));
static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("ledger_write.lua")));

/// No request waits for these answers.
const PATIENCE: Duration = Duration::from_secs(1);
/// Records of one answer, more or less. The Redis does nothing else for some milliseconds.
const PAGE: usize = 2000;
/// For so many versions it is known what was removed. Who knows an older one is told everything.
const KEPT: u64 = 1000;

/// A version with its mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    version: u64,
    mark: String,
    /// Of the Redis when it was read, in microseconds since 1970.
    read: u64,
}

impl Place {
    /// Nothing is known.
    pub fn is_beginning(&self) -> bool {
        self.version == 0
    }
}

/// What has changed.
#[derive(Debug, Default)]
pub struct News {
    pub place: Place,
    /// These are all that there are.
    pub whole: bool,
    /// By name, in the order of their last change; none where one was removed.
    pub records: Vec<Named>,
}

pub type Named = (String, Option<Vec<u8>>);

#[derive(Debug, PartialEq)]
pub enum Written {
    At(Place),
    /// Somebody else was faster, or it took too long. Nothing is changed.
    Outdated,
}

impl Link {
    pub async fn news(self: &Arc<Self>, ledger: &str, known: &Place) -> Result<News, Unavailable> {
        let mut news = News { place: known.clone(), ..News::default() };
        let mut upto = known.version;
        loop {
            let mut script = self.script(&READ, ledger);
            script.arg(news.place.version).arg(&news.place.mark).arg(upto).arg(PAGE);
            let script = &script;
            let page: (u64, u64, String, bool, u64, Vec<Named>) = self
                .ask_for(PATIENCE, |mut connection| async move { script.invoke_async(&mut connection).await })
                .await?;
            let (read, version, mark, anew, last, records) = page;
            if anew {
                news.whole = true;
                news.records.clear();
            }
            news.records.extend(records);
            news.place = Place { version, mark, read };
            upto = last;
            if upto >= version {
                return Ok(news);
            }
        }
    }

    /// Changes all of these, or none. Once nobody waits for the answer any more, nothing is changed.
    pub async fn write(
        self: &Arc<Self>,
        ledger: &str,
        known: &Place,
        records: &[Named],
    ) -> Result<Written, Unavailable> {
        let mark = format!("{:032x}", rand::rng().random::<u128>());
        let end = known.read.saturating_add(PATIENCE.as_micros() as u64);
        let mut script = self.script(&WRITE, ledger);
        script.arg(known.version).arg(&known.mark).arg(&mark).arg(end).arg(KEPT);
        for (name, value) in records {
            script.arg(name).arg(value.as_deref().unwrap_or_default());
        }
        let version: u64 = self
            .ask_once(PATIENCE, |mut connection| async move { script.invoke_async(&mut connection).await })
            .await?;
        Ok(match version {
            0 => Written::Outdated,
            version => Written::At(Place { version, mark, read: known.read }),
        })
    }

    /// What stands in braces is the same: in a Cluster all of it is on one node.
    fn script(&self, script: &'static Script, ledger: &str) -> ScriptInvocation<'static> {
        let mut invocation = script.prepare_invoke();
        for part in ["records", "changed", "gone", "head"] {
            invocation.key(format!("{}{{{ledger}}}:{part}", self.redis.settings.prefix));
        }
        invocation
    }
}

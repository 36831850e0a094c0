//! What a plugin keeps is in the memory of the process, or in its store.

use std::sync::Arc;

use super::bindings::wasmgate::plugin::types::Error;
use crate::{
    capability::{
        MAX_KEY,
        redis::{Link, Unavailable},
    },
    config::OnError,
    telemetry::audit::Reason,
    wasm::store::Host,
};

impl Host {
    /// Asks the plugin's store with what its keys stand under, and where there is none, or it gives no answer and the config
    /// has it so, the memory of the process. `nothing` is what one gets where nothing is counted or kept.
    pub async fn kept<T>(
        &mut self,
        shared: impl AsyncFnOnce(&Arc<Link>, &str) -> Result<T, Unavailable>,
        local: impl FnOnce(&Self) -> Result<T, Error>,
        nothing: impl FnOnce() -> T,
    ) -> Result<T, Error> {
        let Some(link) = self.link.clone() else { return local(self) };
        let waiting = self.waiting.begin(&self.clock);
        let plugin = self.plugin.clone();
        let answer = shared(&link, &plugin.scope).await;
        drop(waiting);
        match (answer, plugin.grants.store.as_ref().map(|store| store.on_error)) {
            (Ok(answer), _) => Ok(answer),
            (Err(Unavailable), Some(OnError::Local) | None) => local(self),
            (Err(Unavailable), Some(OnError::Allow)) => Ok(nothing()),
            (Err(Unavailable), Some(OnError::Deny)) => {
                self.outcome.unavailable = true;
                if let Some(state) = &mut self.exchange {
                    let why = Some("store_unavailable".into());
                    state.account.explain(Reason { why, ..Reason::default() });
                }
                Ok(nothing())
            }
        }
    }
}

/// A store takes no longer keys than the memory of the process.
pub fn checked(key: &str) -> Result<(), Error> {
    if key.len() > MAX_KEY { Err(Error::TooLarge) } else { Ok(()) }
}

//! `consumers`: whose a credential is, and what plans allow, for plugins that the config grants it to.

use std::time::SystemTime;

use super::bindings::wasmgate::plugin::consumers::{self, Consumer, Credential, Failure, Quota};
use crate::{
    capability::consumers::{Book, Unavailable, Verified},
    config,
    wasm::store::{Host, PluginContext},
};

impl consumers::Host for Host {
    async fn verify_key(&mut self, key: String) -> Result<Option<Credential>, Failure> {
        let _waiting = self.waiting.begin(&self.clock);
        let found = book(&self.plugin)?.verify(&key, SystemTime::now()).await;
        Ok(settled(&self.plugin, found)?.map(|Verified { id, consumer }| Credential {
            id: id.as_ref().to_owned(),
            consumer: of(&consumer),
        }))
    }

    async fn named(&mut self, name: String) -> Result<Option<Consumer>, Failure> {
        let _waiting = self.waiting.begin(&self.clock);
        let found = book(&self.plugin)?.named(&name).await;
        Ok(settled(&self.plugin, found)?.map(|consumer| of(&consumer)))
    }

    async fn by_custom_id(&mut self, id: String) -> Result<Option<Consumer>, Failure> {
        let _waiting = self.waiting.begin(&self.clock);
        let found = book(&self.plugin)?.by_custom_id(&id).await;
        Ok(settled(&self.plugin, found)?.map(|consumer| of(&consumer)))
    }

    fn plan(&mut self, name: String) -> Result<Option<Vec<Quota>>, Failure> {
        let quotas = book(&self.plugin)?.plan(&name);
        Ok(quotas.map(|quotas| quotas.iter().map(quota).collect()))
    }
}

fn book(plugin: &PluginContext) -> Result<&Book, Failure> {
    plugin.grants.consumers.then_some(&plugin.capabilities.consumers).ok_or(Failure::NotGranted)
}

/// Why there is no answer is for the operator and not for the guest. Whoever reads the store tells it once.
fn settled<T>(plugin: &PluginContext, found: Result<T, Unavailable>) -> Result<T, Failure> {
    found.map_err(|Unavailable(reason)| {
        tracing::debug!(plugin = &*plugin.name, "the store of consumers cannot be asked: {reason}");
        Failure::Unavailable
    })
}

fn of(consumer: &config::Consumer) -> Consumer {
    Consumer {
        name: consumer.name.clone(),
        custom_id: consumer.custom_id.clone(),
        groups: consumer.groups.clone(),
        plan: consumer.plan.clone(),
        metadata: consumer.metadata.clone().into_iter().collect(),
    }
}

fn quota(quota: &config::Quota) -> Quota {
    Quota { rate: quota.rate, per_ms: u64::try_from(quota.per.as_millis()).unwrap_or(u64::MAX) }
}

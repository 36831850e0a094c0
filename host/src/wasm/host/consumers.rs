//! `consumers`: whose a credential is, and what plans allow, for plugins that the config grants it to.

use std::{sync::Arc, time::SystemTime};

use super::bindings::wasmgate::plugin::consumers::{
    self, Consumer, Credential, CredentialKind, Failure, Found, Quota,
};
use crate::{
    capability::consumers::{Book, Unavailable, Unfit, Verified},
    config,
    telemetry::audit::Reason,
    wasm::store::{Host, PluginContext},
};

impl consumers::Host for Host {
    fn verify_key(&mut self, key: String) -> Result<Option<Credential>, Failure> {
        let book = book_of(&self.plugin, config::CredentialKind::Key)?;
        let found = book.verify(&key, SystemTime::now());
        match settled(&self.plugin, found)? {
            Ok(verified) => Ok(Some(credential(verified))),
            Err(unfit) => {
                self.found(unfit);
                Ok(None)
            }
        }
    }

    fn find(&mut self, kind: CredentialKind, names: Vec<String>) -> Result<Found, Failure> {
        let kind = match kind {
            CredentialKind::Password => config::CredentialKind::Password,
            CredentialKind::Hmac => config::CredentialKind::Hmac,
            CredentialKind::Certificate => config::CredentialKind::Certificate,
        };
        let found = book_of(&self.plugin, kind)?.find(kind, &names, SystemTime::now());
        let found = settled(&self.plugin, found)?;
        found.unfit.into_iter().for_each(|unfit| self.found(unfit));
        Ok(Found { credential: found.credential.map(credential), secret: found.secret })
    }

    fn named(&mut self, name: String) -> Result<Option<Consumer>, Failure> {
        let found = book(&self.plugin)?.named(&name);
        Ok(settled(&self.plugin, found)?.map(|consumer| of(&consumer)))
    }

    fn by_custom_id(&mut self, id: String) -> Result<Option<Consumer>, Failure> {
        let found = book(&self.plugin)?.by_custom_id(&id);
        Ok(settled(&self.plugin, found)?.map(|consumer| of(&consumer)))
    }

    fn plan(&mut self, name: String) -> Result<Option<Vec<Quota>>, Failure> {
        let quotas = book(&self.plugin)?.plan(&name);
        Ok(quotas.map(|quotas| quotas.iter().map(quota).collect()))
    }
}

impl Host {
    /// Tells the audit what the guest is not told.
    fn found(&mut self, Unfit { why, id, consumer }: Unfit) {
        let text = |text: Option<Arc<str>>| text.map(|text| text.as_ref().to_owned());
        if let Some(state) = &mut self.exchange {
            let (consumer, credential) = (text(consumer), text(id));
            state.account.find(Reason { consumer, credential, why: Some(why.into()), detail: None });
        }
    }
}

fn book(plugin: &PluginContext) -> Result<&Book, Failure> {
    let is_granted = plugin.grants.consumers.is_some();
    is_granted.then_some(&plugin.capabilities.consumers).ok_or(Failure::NotGranted)
}

/// To ask whose a credential of this kind is.
fn book_of(plugin: &PluginContext, kind: config::CredentialKind) -> Result<&Book, Failure> {
    let is_granted = plugin.grants.consumers.as_ref().is_some_and(|kinds| kinds.contains(&kind));
    is_granted.then_some(&plugin.capabilities.consumers).ok_or(Failure::NotGranted)
}

/// Why there is no answer is for the operator and not for the guest. Whoever reads the store tells it once.
fn settled<T>(plugin: &PluginContext, found: Result<T, Unavailable>) -> Result<T, Failure> {
    found.map_err(|Unavailable(reason)| {
        tracing::debug!(plugin = &*plugin.name, "the store of consumers cannot be asked: {reason}");
        Failure::Unavailable
    })
}

fn credential(Verified { id, consumer }: Verified) -> Credential {
    Credential { id: id.as_ref().to_owned(), consumer: of(&consumer) }
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

//! `key-value`: values with a time to live, under the plugin's name.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    bindings::wasmgate::plugin::{key_value, types::Error},
    store::checked,
};
use crate::{
    capability::{key_value::MAX_VALUE, redis::Link},
    wasm::store::Host,
};

impl key_value::Host for Host {
    async fn get(&mut self, key: String) -> Option<Vec<u8>> {
        checked(&key).ok()?;
        let shared = async |link: &Arc<Link>, scope: &str| link.get(scope, &key).await;
        let local = |host: &Host| Ok(host.plugin.capabilities.key_value.get(&host.plugin.scope, &key));
        self.kept(shared, local, || None).await.ok().flatten().map(Into::into)
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: u32) -> Result<(), Error> {
        let (value, ttl) = kept(&key, value, ttl_ms)?;
        let shared = async |link: &Arc<Link>, scope: &str| link.set(scope, &key, &value, ttl).await;
        let local = |host: &Host| {
            let kept = host.plugin.capabilities.key_value.set(&host.plugin.scope, &key, value.clone(), ttl);
            kept.then_some(()).ok_or(Error::TooLarge)
        };
        self.kept(shared, local, || ()).await
    }

    async fn delete(&mut self, key: String) {
        if checked(&key).is_err() {
            return;
        }
        let shared = async |link: &Arc<Link>, scope: &str| link.delete(scope, &key).await;
        let local = |host: &Host| {
            host.plugin.capabilities.key_value.delete(&host.plugin.scope, &key);
            Ok(())
        };
        // Neither refuses it.
        let _ = self.kept(shared, local, || ()).await;
    }

    async fn add(&mut self, key: String, value: Vec<u8>, ttl_ms: u32) -> Result<bool, Error> {
        let (value, ttl) = kept(&key, value, ttl_ms)?;
        let shared = async |link: &Arc<Link>, scope: &str| link.add(scope, &key, &value, ttl).await;
        let local = |host: &Host| {
            let added = host.plugin.capabilities.key_value.add(&host.plugin.scope, &key, value.clone(), ttl);
            added.ok_or(Error::TooLarge)
        };
        self.kept(shared, local, || true).await
    }
}

/// What is to be kept, if it may be.
fn kept(key: &str, value: Vec<u8>, ttl_ms: u32) -> Result<(Bytes, Duration), Error> {
    if ttl_ms == 0 {
        return Err(Error::InvalidValue);
    }
    checked(key)?;
    if value.len() > MAX_VALUE {
        return Err(Error::TooLarge);
    }
    Ok((Bytes::from(value), Duration::from_millis(ttl_ms.into())))
}

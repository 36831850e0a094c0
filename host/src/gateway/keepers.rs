//! Those who look after upstreams, on the main thread: one for each upstream of the config that runs.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use tokio::task::{AbortHandle, spawn_local};

use crate::{
    config::Dns,
    upstream::{Upstream, keeper::keep, resolve::Resolver},
};

#[derive(Default)]
pub struct Keepers(RefCell<Vec<Keeper>>);

struct Keeper {
    upstream: Arc<Upstream>,
    dns: Dns,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keepers {
    /// From now on these are looked after. Needs a runtime with local tasks.
    pub fn follow(&self, upstreams: &[Arc<Upstream>], dns: &Dns) {
        let mut keepers = self.0.borrow_mut();
        let stays = |keeper: &Keeper| {
            keeper.dns == *dns && upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, &keeper.upstream))
        };
        let same_name =
            |keeper: &Keeper| upstreams.iter().find(|new| new.settings.name == keeper.upstream.settings.name);
        for gone in keepers.extract_if(.., |keeper| !stays(keeper)) {
            gone.upstream.retire(same_name(&gone).map(|successor| &**successor));
        }
        let mut resolver = None;
        for upstream in upstreams {
            if keepers.iter().any(|keeper| Arc::ptr_eq(upstream, &keeper.upstream)) {
                continue;
            }
            let resolver = match &resolver {
                Some(resolver) => Rc::clone(resolver),
                None => match Resolver::new(dns) {
                    Ok(new) => resolver.insert(Rc::new(new)).clone(),
                    Err(error) => {
                        tracing::error!("upstreams are not looked after: {error}");
                        return;
                    }
                },
            };
            upstream.take_over();
            let task = spawn_local(keep(upstream.clone(), resolver)).abort_handle();
            keepers.push(Keeper { upstream: upstream.clone(), dns: dns.clone(), task });
        }
    }
}

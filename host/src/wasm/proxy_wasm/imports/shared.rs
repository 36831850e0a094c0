//! Values and queues that all VMs with the same `vm_id` share, on all workers.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::functions;
use crate::{
    capability::shared::{NotStored, Shared},
    wasm::proxy_wasm::{
        abi::{Answer, Status},
        call::Call,
        context::VmData,
    },
};

functions! {
    proxy_get_shared_data(key: u32, key_size: u32, at_out: u32, size_out: u32, cas_out: u32) => get_data;
    proxy_set_shared_data(key: u32, key_size: u32, value: u32, size: u32, cas: u32) => set_data;
    proxy_register_shared_queue(name: u32, size: u32, id_out: u32) => register;
    proxy_resolve_shared_queue(vm: u32, vm_size: u32, name: u32, size: u32, id_out: u32) => resolve;
    proxy_enqueue_shared_queue(id: u32, at: u32, size: u32) => enqueue;
    proxy_dequeue_shared_queue(id: u32, at_out: u32, size_out: u32) => dequeue;
}

fn shared(data: &VmData) -> &Shared {
    &data.plugin().capabilities.shared
}

fn get_data(
    call: &mut Call<'_>,
    key: u32,
    key_size: u32,
    at_out: u32,
    size_out: u32,
    cas_out: u32,
) -> Answer {
    let key = call.copy(key, key_size)?;
    let data = call.data();
    let (value, cas) = shared(data).get(&data.guest.vm_id, &key).ok_or(Status::NotFound)?;
    call.give(&value, at_out, size_out)?;
    call.write_u32(cas_out, cas)
}

fn set_data(call: &mut Call<'_>, key: u32, key_size: u32, value: u32, size: u32, cas: u32) -> Answer {
    let (key, value) = (call.copy(key, key_size)?, call.copy(value, size)?);
    let data = call.data();
    let stored = shared(data).set(&data.guest.vm_id, &key, value.into(), cas);
    stored.map_err(|why| match why {
        NotStored::Changed => Status::CasMismatch.into(),
        NotStored::Full => Status::InternalFailure.into(),
    })
}

/// The last one to register a queue is told of what comes.
fn register(call: &mut Call<'_>, name: u32, size: u32, id_out: u32) -> Answer {
    let name = call.copy(name, size)?;
    let data = call.data();
    let (sender, receiver) = mpsc::unbounded_channel();
    // On trial nobody serves, and must not take the place of who does.
    let sender = data.root()?.services.tasks.run().then_some(sender);
    let id = shared(data).register(&data.guest.vm_id, &name, sender).ok_or(Status::InternalFailure)?;
    watch(data, receiver)?;
    call.write_u32(id_out, id)
}

/// Calls the root, on this worker, for each item that comes.
fn watch(data: &mut VmData, mut ready: mpsc::UnboundedReceiver<u32>) -> Answer {
    let (vm, root_id) = (data.vm.clone(), data.root_id()?);
    let root = data.root()?;
    root.has_queue = true;
    root.services.tasks.spawn(async move {
        while let Some(queue) = ready.recv().await {
            match vm.upgrade() {
                Some(vm) if vm.queue_ready(root_id, queue) => {}
                _ => return,
            }
        }
    });
    Ok(())
}

fn resolve(call: &mut Call<'_>, vm: u32, vm_size: u32, name: u32, size: u32, id_out: u32) -> Answer {
    let (vm, name) = (call.text(vm, vm_size)?, call.copy(name, size)?);
    let data = call.data();
    let vm = if vm.is_empty() { &data.guest.vm_id } else { &vm };
    let id = shared(data).resolve(vm, &name).ok_or(Status::NotFound)?;
    call.write_u32(id_out, id)
}

fn enqueue(call: &mut Call<'_>, id: u32, at: u32, size: u32) -> Answer {
    let item = Bytes::from(call.copy(at, size)?);
    match shared(call.data()).enqueue(id, item) {
        Some(true) => Ok(()),
        Some(false) => Err(Status::InternalFailure.into()),
        None => Err(Status::NotFound.into()),
    }
}

fn dequeue(call: &mut Call<'_>, id: u32, at_out: u32, size_out: u32) -> Answer {
    let item = shared(call.data()).dequeue(id).ok_or(Status::NotFound)?;
    call.give(&item.ok_or(Status::Empty)?, at_out, size_out)
}

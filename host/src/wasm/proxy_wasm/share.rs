//! The VMs of this worker. Filters with the same code, `vm_id`, `vm_config`, environment and limits share them,
//! each with a root context of its own.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
};

use super::vm::Vm;

thread_local! {
    /// Each lives as long as a filter or a stream uses it.
    static VMS: RefCell<HashMap<(Key, usize), Weak<Vm>>> = RefCell::default();
}

/// What makes a VM another one: a digest of all that it is started with.
pub type Key = [u8; 32];

/// The live VM of this key and number, or the one that `start` makes.
pub fn vm<E>(key: Key, number: usize, start: impl FnOnce() -> Result<Rc<Vm>, E>) -> Result<Rc<Vm>, E> {
    let known = VMS.with_borrow(|vms| vms.get(&(key, number)).and_then(Weak::upgrade));
    if let Some(vm) = known.filter(|vm| vm.is_alive()) {
        return Ok(vm);
    }
    let vm = start()?;
    VMS.with_borrow_mut(|vms| {
        vms.retain(|_, vm| vm.strong_count() > 0);
        vms.insert((key, number), Rc::downgrade(&vm));
    });
    Ok(vm)
}

//! The current snapshot and the workers' views of it. A swap is one store; each worker notices it
//! with its next request.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use crate::snapshot::{Snapshot, View};

pub type Current = Arc<ArcSwap<Snapshot>>;

/// One worker's way to the snapshot.
pub struct Worker {
    current: RefCell<Cache<Current, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
}

impl Worker {
    pub fn new(current: Current) -> Self {
        let view = Rc::new(View::new(current.load_full(), None));
        Worker { current: RefCell::new(Cache::new(current)), view: RefCell::new(view) }
    }

    /// The view of the newest snapshot. A request calls this once and stays with what it got.
    pub fn view(&self) -> Rc<View> {
        let mut current = self.current.borrow_mut();
        let newest = current.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(newest, &view.snapshot) {
            *view = Rc::new(View::new(newest.clone(), Some(&view)));
        }
        view.clone()
    }
}

//! The current snapshot and the workers' views of it. A swap is one store; each worker notices it
//! with its next request, or with the next sweep where it has none.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Cache};

use crate::{
    plugin::services::Tasks,
    snapshot::{Snapshot, View},
};

pub type Current = Arc<ArcSwap<Snapshot>>;

/// One worker's way to the snapshot.
pub struct Worker {
    pub number: usize,
    /// What its filters have to do between requests.
    tasks: Tasks,
    current: RefCell<Cache<Current, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    /// Views before, which requests may still be on, and since when they are.
    former: RefCell<Vec<(Weak<View>, Instant)>>,
}

impl Worker {
    /// `number` tells workers apart.
    pub fn new(current: Current, number: usize, tasks: Tasks) -> Self {
        let view = Rc::new(View::new(current.load_full(), None, number, tasks.clone()));
        Worker {
            number,
            tasks,
            current: RefCell::new(Cache::new(current)),
            view: RefCell::new(view),
            former: RefCell::default(),
        }
    }

    /// The view of the newest snapshot. A request calls this once and stays with what it got.
    pub fn view(&self) -> Rc<View> {
        let mut current = self.current.borrow_mut();
        let newest = current.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(newest, &view.snapshot) {
            self.former.borrow_mut().push((Rc::downgrade(&view), Instant::now()));
            *view = Rc::new(View::new(newest.clone(), Some(&view), self.number, self.tasks.clone()));
        }
        view.clone()
    }

    /// Gives up what is warm and better cold. Requests may stay on a former view for as long as they
    /// like; what it alone keeps warm goes after this time.
    pub fn sweep(&self, after: Duration) {
        let mut former = self.former.borrow_mut();
        self.view.borrow().relieve();
        former.iter().filter_map(|(view, _)| view.upgrade()).for_each(|view| view.relieve());
        if former.is_empty() {
            return;
        }
        let current = self.view.borrow();
        former.retain(|(view, since)| match view.upgrade() {
            Some(view) if since.elapsed() >= after => {
                view.retire(&current);
                false
            }
            Some(_) => true,
            None => false,
        });
    }
}

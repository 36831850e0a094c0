//! Waiting for each other on one worker: a semaphore and a mutex without atomics.

use std::{
    cell::{Cell, RefCell, RefMut},
    ops::{Deref, DerefMut},
};

use tokio::sync::Notify;

/// A bound on how many do something at once.
pub struct Places {
    free: Cell<u32>,
    waiting: Cell<u32>,
    freed: Notify,
}

/// Held while it is used, and free again when it is dropped.
pub struct Place<'a>(&'a Places);

impl Places {
    pub fn new(count: u32) -> Self {
        Places { free: Cell::new(count), waiting: Cell::new(0), freed: Notify::new() }
    }

    /// A free place, if nobody waits for it already.
    pub fn try_take(&self) -> Option<Place<'_>> {
        match self.waiting.get() {
            0 => self.take_free(),
            _ => None,
        }
    }

    /// Waits for a place behind those who wait already.
    pub async fn take(&self) -> Place<'_> {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            self.freed.notified().await;
            if let Some(place) = self.take_free() {
                return place;
            }
        }
    }

    fn take_free(&self) -> Option<Place<'_>> {
        self.free.set(self.free.get().checked_sub(1)?);
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.free.update(|free| free + 1);
        if self.0.waiting.get() > 0 {
            // One who gives up passes it on.
            self.0.freed.notify_one();
        }
    }
}

struct Waiting<'a>(&'a Cell<u32>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.update(|waiting| waiting + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.update(|waiting| waiting - 1);
    }
}

/// A value that one task has at a time, also while it waits for something else.
pub struct Mutex<T> {
    place: Places,
    value: RefCell<T>,
}

pub struct MutexGuard<'a, T> {
    value: RefMut<'a, T>,
    _place: Place<'a>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Mutex { place: Places::new(1), value: RefCell::new(value) }
    }

    pub async fn lock(&self) -> MutexGuard<'_, T> {
        let place = match self.place.try_take() {
            Some(place) => place,
            None => self.place.take().await,
        };
        // Whoever borrowed it before has given its place back after it.
        MutexGuard { value: self.value.borrow_mut(), _place: place }
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context, task::Poll, task::Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn those_who_wait_come_first() {
        let places = Places::new(1);
        let held = places.try_take().unwrap();
        assert!(places.try_take().is_none());
        let (mut first, mut second) = (pin!(places.take()), pin!(places.take()));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        drop(held);
        assert!(places.try_take().is_none());
        assert!(poll(second.as_mut()).is_none());
        let held = poll(first.as_mut()).unwrap();
        drop(held);
        drop(poll(second.as_mut()).unwrap());
        assert!(places.try_take().is_some());
    }

    #[test]
    fn one_who_gives_up_passes_it_on() {
        let places = Places::new(1);
        let held = places.try_take().unwrap();
        let mut second = pin!(places.take());
        {
            let mut first = pin!(places.take());
            assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
            drop(held);
        }
        drop(poll(second.as_mut()).unwrap());
        assert!(places.try_take().is_some());
    }

    #[test]
    fn a_place_freed_while_the_first_is_on_its_way_is_not_lost() {
        let places = Places::new(2);
        let (one, two) = (places.try_take().unwrap(), places.try_take().unwrap());
        let mut first = pin!(places.take());
        assert!(poll(first.as_mut()).is_none());
        drop((one, two));
        let mut second = pin!(places.take());
        assert!(poll(second.as_mut()).is_some());
        assert!(poll(first.as_mut()).is_some());
    }

    #[test]
    fn a_mutex_is_had_by_one_at_a_time() {
        let mutex = Mutex::new(1);
        let mut held = poll(pin!(mutex.lock())).unwrap();
        *held += 1;
        let mut next = pin!(mutex.lock());
        assert!(poll(next.as_mut()).is_none());
        drop(held);
        assert_eq!(*poll(next).unwrap(), 2);
    }
}

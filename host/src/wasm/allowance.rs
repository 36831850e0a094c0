//! The bound on a plugin's live instances on all workers together. Only making an instance asks for a
//! place; who waits for one is seen by those who keep instances warm.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Allowance {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Held by an instance for as long as it lives.
pub type Permit = OwnedSemaphorePermit;

impl Allowance {
    pub fn new(instances: u32) -> Self {
        Allowance { free: Arc::new(Semaphore::new(instances as usize)), waiting: AtomicUsize::new(0) }
    }

    /// Whether a warm instance is better given up.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    /// Waits for a place, first come, first served. None only where nobody gives places any more.
    pub async fn take(&self) -> Option<Permit> {
        if let Ok(permit) = self.free.clone().try_acquire_owned() {
            return Some(permit);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.free.clone().acquire_owned().await.ok()
    }
}

/// Counted until it is dropped, which also happens when the request goes away.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Allowance;

    #[tokio::test]
    async fn who_waits_is_seen_until_it_is_served_or_gone() {
        let allowance = Allowance::new(1);
        let first = allowance.take().await;
        assert!(!allowance.is_wanted());
        let mut second = Box::pin(allowance.take());
        assert!(has_to_wait(&mut second).await && allowance.is_wanted());
        drop(second);
        assert!(!allowance.is_wanted());
        let third = allowance.take();
        drop(first);
        assert!(third.await.is_some());
    }

    async fn has_to_wait<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }
}

//! Values with versions, and queues, for proxy-wasm filters: each belongs to a `vm_id`, whose filters share them
//! on all workers. They are there as long as any filter with that `vm_id` is.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use papaya::{Compute, HashMap as Concurrent, Operation};
use tokio::sync::mpsc::UnboundedSender;

/// Bytes of all keys and values together; and of all that is in queues.
const CAPACITY: usize = 64 << 20;
/// Queues of all filters together.
const MAX_QUEUES: usize = 10_000;

pub struct Shared {
    values: Concurrent<Key, (Bytes, u32)>,
    bytes: AtomicUsize,
    /// The version of the next value that is stored.
    version: AtomicU32,
    queues: Mutex<Queues>,
    /// How many leases there are of each `vm_id`.
    leases: Mutex<HashMap<String, usize>>,
}

/// Keeps what belongs to a `vm_id`.
pub struct Lease {
    shared: Arc<Shared>,
    vm: String,
}

/// A `vm_id`, NUL, and the name.
type Key = Box<[u8]>;

#[derive(Default)]
struct Queues {
    ids: HashMap<Key, u32>,
    /// By id, which begins at 1.
    queues: Vec<Queue>,
    /// Ids that nobody has any more.
    free: Vec<u32>,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Bytes>,
    reader: Option<UnboundedSender<u32>>,
}

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// The stored one has another version.
    Changed,
    Full,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            values: Concurrent::new(),
            bytes: AtomicUsize::new(0),
            version: AtomicU32::new(1),
            queues: Mutex::default(),
            leases: Mutex::default(),
        }
    }
}

fn key(vm: &str, name: &[u8]) -> Key {
    [vm.as_bytes(), b"\0", name].concat().into()
}

impl Shared {
    /// The value with its version.
    pub fn get(&self, vm: &str, name: &[u8]) -> Option<(Bytes, u32)> {
        self.values.pin().get(&key(vm, name)).cloned()
    }

    /// Stores a value; where a version is given, only in place of that one, or where there is none.
    pub fn set(&self, vm: &str, name: &[u8], value: Bytes, version: u32) -> Result<(), NotStored> {
        let key = key(vm, name);
        if self.bytes.load(Relaxed) + key.len() + value.len() > CAPACITY {
            return Err(NotStored::Full);
        }
        // 0 stands for any version.
        let next = self.version.fetch_add(1, Relaxed).max(1);
        let (key_length, length) = (key.len(), value.len());
        let values = self.values.pin();
        let stored = values.compute(key, |old| match old {
            Some((_, (_, known))) if version != 0 && *known != version => Operation::Abort(()),
            _ => Operation::Insert((value.clone(), next)),
        });
        match stored {
            Compute::Aborted(()) => return Err(NotStored::Changed),
            Compute::Inserted(..) => _ = self.bytes.fetch_add(key_length + length, Relaxed),
            Compute::Updated { old: (_, (old, _)), .. } => {
                self.bytes.fetch_add(length, Relaxed);
                self.bytes.fetch_sub(old.len(), Relaxed);
            }
            Compute::Removed(..) => {}
        }
        Ok(())
    }

    /// The id of the queue of this name, which is made where there is none. `reader`, if there is one, learns of each
    /// item from now on, in place of the one before. None where there are too many queues.
    pub fn register(&self, vm: &str, name: &[u8], reader: Option<UnboundedSender<u32>>) -> Option<u32> {
        let mut queues = self.queues();
        let key = key(vm, name);
        if let Some(&id) = queues.ids.get(&key) {
            let known = &mut queues.get(id)?.reader;
            *known = reader.or(known.take());
            return Some(id);
        }
        if queues.ids.len() >= MAX_QUEUES {
            return None;
        }
        let id = queues.free.pop().unwrap_or_else(|| {
            queues.queues.push(Queue::default());
            queues.queues.len() as u32
        });
        queues.get(id)?.reader = reader;
        queues.ids.insert(key, id);
        Some(id)
    }

    pub fn lease(self: Arc<Self>, vm: &str) -> Lease {
        *self.leases().entry(vm.to_owned()).or_default() += 1;
        Lease { shared: self, vm: vm.to_owned() }
    }

    fn forget(&self, vm: &str) {
        let prefix = key(vm, b"");
        self.values.pin().retain(|key, (value, _)| {
            let stays = !key.starts_with(&prefix);
            if !stays {
                self.bytes.fetch_sub(key.len() + value.len(), Relaxed);
            }
            stays
        });
        let mut queues = self.queues();
        let gone: Vec<_> =
            queues.ids.extract_if(|key, _| key.starts_with(&prefix)).map(|(_, id)| id).collect();
        for id in gone {
            let queue = queues.get(id).map(std::mem::take).unwrap_or_default();
            queues.bytes -= queue.items.iter().map(Bytes::len).sum::<usize>();
            queues.free.push(id);
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Nothing panics while it is held.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn resolve(&self, vm: &str, name: &[u8]) -> Option<u32> {
        self.queues().ids.get(&key(vm, name)).copied()
    }

    /// None where there is no such queue, false where the queues are full.
    pub fn enqueue(&self, id: u32, item: Bytes) -> Option<bool> {
        let mut queues = self.queues();
        let bytes = queues.bytes + item.len();
        let queue = queues.get(id)?;
        if bytes > CAPACITY || queue.items.len() >= CAPACITY / 64 {
            return Some(false);
        }
        queue.items.push_back(item);
        // A reader that is gone is replaced by the next one.
        if let Some(reader) = &queue.reader {
            let _ = reader.send(id);
        }
        queues.bytes = bytes;
        Some(true)
    }

    /// None where there is no such queue, and nothing where it is empty.
    pub fn dequeue(&self, id: u32) -> Option<Option<Bytes>> {
        let mut queues = self.queues();
        let item = queues.get(id)?.items.pop_front();
        queues.bytes -= item.as_ref().map_or(0, Bytes::len);
        Some(item)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // Nothing panics while it is held.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.shared.leases();
        let left = leases.get_mut(&self.vm).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            leases.remove(&self.vm);
            self.shared.forget(&self.vm);
        }
    }
}

impl Queues {
    fn get(&mut self, id: u32) -> Option<&mut Queue> {
        self.queues.get_mut((id as usize).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn a_value_is_replaced_by_who_knows_its_version() {
        let shared = Shared::default();
        assert_eq!(shared.get("vm", b"k"), None);
        assert_eq!(shared.set("vm", b"k", "1".into(), 99), Ok(()), "there was none");
        let (value, version) = shared.get("vm", b"k").unwrap();
        assert_eq!(value, "1");
        assert_eq!(shared.set("vm", b"k", "2".into(), version + 1), Err(NotStored::Changed));
        assert_eq!(shared.set("vm", b"k", "2".into(), version), Ok(()));
        assert_eq!(shared.set("vm", b"k", "3".into(), version), Err(NotStored::Changed));
        assert_eq!(shared.set("vm", b"k", "4".into(), 0), Ok(()));
        assert_eq!(shared.get("vm", b"k").unwrap().0, "4");
        assert_eq!(shared.get("other", b"k"), None);
        assert_eq!(shared.bytes.load(Relaxed), "vm-k4".len());
        assert_eq!(shared.set("vm", b"k", vec![0; CAPACITY].into(), 0), Err(NotStored::Full));
    }

    #[test]
    fn what_belongs_to_nobody_is_forgotten() {
        let shared = Arc::new(Shared::default());
        let (one, other) = (shared.clone().lease("vm"), shared.clone().lease("vm"));
        let neighbour = shared.clone().lease("v");
        for vm in ["v", "vm"] {
            shared.set(vm, b"k", "1".into(), 0).unwrap();
            let id = shared.register(vm, b"q", None).unwrap();
            shared.enqueue(id, "item".into());
        }
        drop(one);
        assert!(shared.get("vm", b"k").is_some() && shared.resolve("vm", b"q").is_some());
        drop(other);
        assert!(shared.get("vm", b"k").is_none() && shared.resolve("vm", b"q").is_none());
        let id = shared.register("new", b"q", None).unwrap();
        assert_eq!(
            (shared.dequeue(id), shared.queues().queues.len()),
            (Some(None), 2),
            "its place is used again"
        );
        assert_eq!((shared.bytes.load(Relaxed), shared.queues().bytes), ("v-k1".len(), "item".len()));
        drop(neighbour);
        assert_eq!((shared.bytes.load(Relaxed), shared.queues().bytes), (0, 0));
    }

    #[test]
    fn threads_that_compare_lose_nothing() {
        let shared = Shared::default();
        let number = |value: Bytes| std::str::from_utf8(&value).unwrap().parse::<u32>().unwrap();
        shared.set("vm", b"n", "0".into(), 0).unwrap();
        let add = || {
            for _ in 0..1000 {
                loop {
                    let (value, version) = shared.get("vm", b"n").unwrap();
                    let next = (number(value) + 1).to_string();
                    if shared.set("vm", b"n", next.into(), version).is_ok() {
                        break;
                    }
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(add)));
        assert_eq!(number(shared.get("vm", b"n").unwrap().0), 4000);
    }

    #[test]
    fn a_queue_is_first_in_first_out_and_tells_its_last_reader() {
        let shared = Shared::default();
        let ((first, mut first_told), (second, mut second_told)) = (unbounded_channel(), unbounded_channel());
        let id = shared.register("vm", b"q", Some(first)).unwrap();
        assert_eq!((shared.resolve("vm", b"q"), shared.resolve("other", b"q")), (Some(id), None));
        assert_eq!(shared.enqueue(id, "1".into()), Some(true));
        assert_eq!(shared.register("vm", b"q", Some(second)), Some(id));
        assert_eq!(
            shared.register("vm", b"q", None),
            Some(id),
            "who is not told of items takes nobody's place"
        );
        assert_eq!(shared.enqueue(id, "2".into()), Some(true));
        assert_eq!((first_told.try_recv(), second_told.try_recv()), (Ok(id), Ok(id)));
        assert!(first_told.try_recv().is_err());
        let items: Vec<_> = (0..3).map(|_| shared.dequeue(id).unwrap()).collect();
        assert_eq!(items, [Some("1".into()), Some("2".into()), None]);
        assert_eq!((shared.enqueue(id + 1, "3".into()), shared.dequeue(0)), (None, None));
        assert_eq!(shared.enqueue(id, vec![0; CAPACITY + 1].into()), Some(false));
    }
}

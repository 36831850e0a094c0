//! The listening sockets of all workers, and how they change from one config to the next: what stays
//! is not touched, what is new is bound before anything changes, what is gone stops accepting.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::sync::mpsc::UnboundedSender;

use super::Error;
use crate::{config, server::bind};

/// What a worker is told about its sockets.
pub enum Order {
    Open { door: u32, name: Arc<str>, socket: TcpListener },
    Close { door: u32 },
}

pub struct Listeners {
    workers: Vec<UnboundedSender<Order>>,
    open: Vec<Open>,
    /// Never used twice, so that a late connection is not taken for one of another listener.
    next: u32,
}

#[derive(Clone)]
struct Open {
    /// As the config has it.
    listener: config::Listener,
    address: SocketAddr,
    door: u32,
}

/// A change that has everything it needs.
pub struct Change {
    open: Vec<Open>,
    new: Vec<(u32, Arc<str>, Vec<TcpListener>)>,
    gone: Vec<u32>,
}

impl Change {
    /// Doors in the order of the config's listeners.
    pub fn doors(&self) -> Vec<u32> {
        self.open.iter().map(|open| open.door).collect()
    }
}

impl Listeners {
    pub fn new(workers: Vec<UnboundedSender<Order>>) -> Self {
        Listeners { workers, open: Vec::new(), next: 0 }
    }

    /// Binds what is new; nothing happens to what is open.
    pub fn prepare(&mut self, wanted: &[config::Listener]) -> Result<Change, Error> {
        let mut change = Change { open: Vec::new(), new: Vec::new(), gone: Vec::new() };
        for listener in wanted {
            if let Some(open) = self.open.iter().find(|open| open.listener == *listener) {
                change.open.push(open.clone());
                continue;
            }
            let door = self.next;
            self.next += 1;
            let (sockets, address) = bind(listener, self.workers.len())?;
            change.new.push((door, listener.name.as_str().into(), sockets));
            change.open.push(Open { listener: listener.clone(), address, door });
        }
        let kept = change.doors();
        change.gone = self.open.iter().map(|open| open.door).filter(|door| !kept.contains(door)).collect();
        Ok(change)
    }

    /// Names and addresses of those that are open.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.open.iter().map(|open| (open.listener.name.as_str(), open.address))
    }

    pub fn carry_out(&mut self, change: Change) {
        for open in change.open.iter().filter(|open| change.new.iter().any(|(door, ..)| *door == open.door)) {
            tracing::info!(listener = open.listener.name, address = %open.address, "listening");
        }
        for (door, name, sockets) in change.new {
            for (worker, socket) in self.workers.iter().zip(sockets) {
                // A worker that is gone has said so itself.
                let _ = worker.send(Order::Open { door, name: name.clone(), socket });
            }
        }
        for door in change.gone {
            for worker in &self.workers {
                let _ = worker.send(Order::Close { door });
            }
        }
        self.open = change.open;
    }
}

fn bind(listener: &config::Listener, workers: usize) -> Result<(Vec<TcpListener>, SocketAddr), Error> {
    let failed = |error| {
        Error::Io(format!("listener {}: cannot listen on {}", listener.name, listener.address), error)
    };
    let sockets = bind::bind(listener.address, workers).map_err(failed)?;
    let address = sockets[0].local_addr().map_err(failed)?;
    Ok((sockets, address))
}

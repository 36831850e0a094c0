//! The listening sockets of all workers, and how they change from one config to the next: what stays
//! is not touched, what is new is bound before anything changes, what is gone stops accepting.

use std::{
    io,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use socket2::Socket;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    handover::{Handed, Inherited},
    socket_file::SocketFile,
};
use crate::{
    config::{self, Address, Config, KeyPath, ListenerTls, Problem, Problems},
    limiter::Limiter,
    server::bind,
    snapshot::Entrance,
    telemetry::metrics::Metrics,
};

/// What a worker is told about its sockets.
pub enum Order {
    Open { door: u32, name: Arc<str>, socket: Socket },
    Close { door: u32 },
}

pub struct Listeners {
    workers: Vec<UnboundedSender<Order>>,
    open: Vec<Open>,
    inherited: Inherited,
    /// Never used twice, so that a late connection is not taken for one of another listener.
    next: u32,
}

#[derive(Clone)]
struct Open {
    /// As the config has it.
    listener: config::Listener,
    address: Address,
    door: u32,
    limiter: Arc<Limiter>,
    tls: Option<Arc<ListenerTls>>,
    /// The workers' own, to be handed on to a successor.
    sockets: Rc<Vec<Socket>>,
    /// Of a Unix socket, unless it is a service manager's.
    file: Option<Rc<SocketFile>>,
}

impl Open {
    fn is_socket_of(&self, listener: &config::Listener) -> bool {
        (&self.listener.name, &self.listener.address) == (&listener.name, &listener.address)
    }

    /// The same socket under these limits, and with these certificates.
    fn under(&self, listener: &config::Listener, now: Instant) -> Open {
        let tls = tls(listener, self.tls.as_deref());
        let mut open = Open { listener: listener.clone(), tls, ..self.clone() };
        if self.listener.limits != listener.limits {
            open.limiter = Arc::new(self.limiter.with(&listener.limits, now));
        }
        open
    }
}

/// `before` is what the same listener had.
fn tls(listener: &config::Listener, before: Option<&ListenerTls>) -> Option<Arc<ListenerTls>> {
    let mut tls = listener.tls.clone()?;
    if let Some(before) = before {
        tls.acceptor = tls.acceptor.following(&before.acceptor);
    }
    Some(Arc::new(tls))
}

/// Of one listener, with the file of a Unix socket.
type Sockets = (Vec<Socket>, Option<Rc<SocketFile>>);

fn socket_file(address: &Address, is_ours: bool) -> io::Result<Option<Rc<SocketFile>>> {
    let Address::Unix(path) = address else { return Ok(None) };
    Ok(Some(Rc::new(SocketFile::at(path, is_ours)?)))
}

/// A change that has everything it needs.
pub struct Change {
    open: Vec<Open>,
    new: Vec<(u32, Arc<str>, Vec<Socket>)>,
    gone: Vec<u32>,
}

impl Change {
    /// In the order of the config's listeners.
    pub fn entrances(&self) -> Vec<Entrance> {
        let open = self.open.iter();
        let entrance = |open: &Open| Entrance {
            door: open.door,
            limiter: open.limiter.clone(),
            tls: open.tls.clone(),
            http2: open.listener.http2,
            half_close: open.listener.half_close,
            proxies: open.listener.proxy_protocol.clone(),
        };
        open.map(entrance).collect()
    }
}

impl Listeners {
    /// Sockets that the process was started with are used before any is bound.
    pub fn new(workers: Vec<UnboundedSender<Order>>, inherited: Inherited) -> Self {
        Listeners { workers, open: Vec::new(), inherited, next: 0 }
    }

    /// Binds what is new; nothing happens to what is open.
    pub fn prepare(&mut self, config: &Config) -> Result<Change, Problems> {
        let mut change = Change { open: Vec::new(), new: Vec::new(), gone: Vec::new() };
        let mut faults = Vec::new();
        let now = Instant::now();
        for (place, listener) in config.listeners.iter().enumerate() {
            if let Some(open) = self.open.iter().find(|open| open.is_socket_of(listener)) {
                change.open.push(open.under(listener, now));
                continue;
            }
            let door = self.next;
            self.next += 1;
            let opened = self.sockets(listener).and_then(|(sockets, file)| {
                let kept: io::Result<Vec<_>> = sockets.iter().map(Socket::try_clone).collect();
                let address = bind::address(&sockets[0])?;
                Ok((sockets, Rc::new(kept?), address, file))
            });
            match opened {
                Ok((own, sockets, address, file)) => {
                    change.new.push((door, listener.name.as_str().into(), own));
                    let limiter = Arc::new(Limiter::new(&listener.limits, now));
                    let (listener, tls) = (listener.clone(), tls(listener, None));
                    change.open.push(Open { listener, address, door, limiter, tls, sockets, file });
                }
                Err(error) => {
                    let place = KeyPath::root().key("listener").index(place).key("address");
                    let text = format!("cannot listen on {}: {error}", listener.address);
                    faults.push(Problem::at_value(&config.source, &place, text));
                }
            }
        }
        if !faults.is_empty() {
            return Err(Problems::new(&config.source, faults));
        }
        let kept: Vec<_> = change.open.iter().map(|open| open.door).collect();
        change.gone = self.open.iter().map(|open| open.door).filter(|door| !kept.contains(door)).collect();
        Ok(change)
    }

    /// Names and addresses of those that are open.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, &Address)> {
        self.open.iter().map(|open| (open.listener.name.as_str(), &open.address))
    }

    /// At least one for each worker, all on the same address.
    fn sockets(&mut self, listener: &config::Listener) -> io::Result<Sockets> {
        let workers = self.workers.len();
        let (mut sockets, file) = self.first_sockets(listener)?;
        // A Unix socket is one for all, as are those of a service manager; a predecessor may have had another number of
        // workers.
        let count = sockets.len();
        for place in count..workers {
            sockets.push(sockets[place % count].try_clone()?);
        }
        Ok((sockets, file))
    }

    /// Sockets that are there, or else new ones.
    fn first_sockets(&mut self, listener: &config::Listener) -> io::Result<Sockets> {
        let address = &listener.address;
        let inherited = self.inherited.take(address);
        if !inherited.is_empty() {
            // The predecessor may be going to serve on.
            let file = if inherited[0].with_file { socket_file(address, false)? } else { None };
            return Ok((inherited.into_iter().map(|handed| handed.socket).collect(), file));
        }
        let is_same = |open: &&Open| matches!(address, Address::Unix(_)) && open.listener.address == *address;
        if let Some(open) = self.open.iter().find(is_same) {
            // It has another name by now; there is one socket at a path.
            return Ok((vec![open.sockets[0].try_clone()?], open.file.clone()));
        }
        let sockets = bind::bind(address, listener.mode, self.workers.len())?;
        Ok((sockets, socket_file(address, true)?))
    }

    /// Closes sockets that nobody wanted.
    pub fn forget_inherited(&mut self) {
        self.inherited.forget();
    }

    /// Copies of all sockets that are open.
    pub fn copies(&self) -> io::Result<Vec<Handed>> {
        let copy = |open: &Open, socket: &Socket| {
            Ok(Handed { socket: socket.try_clone()?, with_file: open.file.is_some() })
        };
        let all = self.open.iter().flat_map(|open| open.sockets.iter().map(move |socket| (open, socket)));
        all.map(|(open, socket)| copy(open, socket)).collect()
    }

    /// From now on the files of the sockets are this process's to remove, or a successor's.
    pub fn own_files(&self, own: bool) {
        self.open.iter().filter_map(|open| open.file.as_ref()).for_each(|file| file.set_ours(own));
    }

    /// Lets go of the sockets, so that each is closed when its worker stops to accept.
    pub fn release(&mut self) {
        self.open.clear();
    }

    pub fn carry_out(&mut self, change: Change, metrics: &Metrics) {
        for open in change.open.iter().filter(|open| change.new.iter().any(|(door, ..)| *door == open.door)) {
            tracing::info!(listener = open.listener.name, address = %open.address, "listening");
        }
        self.change_modes(&change.open);
        for (door, name, sockets) in change.new {
            for (worker, socket) in self.workers.iter().cycle().zip(sockets) {
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
        self.tell_certificates(metrics);
    }

    /// Of the files of sockets that stay.
    fn change_modes(&self, open: &[Open]) {
        for after in open {
            let mut before = self.open.iter().map(|open| &open.listener);
            let before = before.find(|before| before.address == after.listener.address);
            let is_other = before.is_some_and(|before| before.mode != after.listener.mode);
            if let (true, Some(file), Some(mode)) = (is_other, &after.file, after.listener.mode)
                && let Err(error) = file.set_mode(mode)
            {
                tracing::warn!(listener = after.listener.name, "its mode cannot be changed: {error}");
            }
        }
    }

    fn tell_certificates(&self, metrics: &Metrics) {
        let certificates = || {
            let with_tls =
                self.open.iter().filter_map(|open| Some((&*open.listener.name, open.listener.tls.as_ref()?)));
            with_tls.flat_map(|(listener, tls)| {
                tls.identities.iter().map(move |identity| {
                    (listener, identity.names.first().map_or("", String::as_str), identity.expires)
                })
            })
        };
        metrics.certificates(certificates());
        let now = SystemTime::now();
        for (listener, certificate, _) in certificates().filter(|(_, _, end)| *end < now) {
            tracing::warn!(listener, certificate, "a certificate has expired");
        }
    }
}

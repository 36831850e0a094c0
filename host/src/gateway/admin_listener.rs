//! The admin listener: its socket, and the task that answers on it. It outlives snapshots, and is there
//! before the first one.

use std::{
    cell::RefCell,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
};

use tokio::task::JoinHandle;

use super::{Error, handover::Inherited};
use crate::{
    admin::{self, Control, Controlled},
    config::{Address, Config, KeyPath, Problem, Problems},
};

pub struct AdminListener {
    socket: TcpListener,
    /// As the config has it.
    address: SocketAddr,
    controlled: Controlled,
    answering: RefCell<Option<JoinHandle<()>>>,
}

impl AdminListener {
    pub fn open(
        config: &Config,
        address: SocketAddr,
        inherited: &mut Inherited,
    ) -> Result<AdminListener, Problems> {
        let failed = |error: io::Error| {
            let (place, text) =
                (KeyPath::root().key("admin").key("address"), format!("cannot listen on {address}: {error}"));
            Problems::new(&config.source, vec![Problem::at_value(&config.source, &place, text)])
        };
        let socket = match inherited.take(&Address::Ip(address)).pop() {
            Some(handed) => handed.socket.into(),
            None => TcpListener::bind(address).map_err(failed)?,
        };
        socket.set_nonblocking(true).map_err(failed)?;
        tracing::info!(listener = "admin", address = %socket.local_addr().map_err(failed)?, "listening");
        Ok(AdminListener {
            socket,
            address,
            controlled: Controlled::default(),
            answering: RefCell::default(),
        })
    }

    /// Answers from now on, if it does not yet.
    pub fn answer(&self) -> Result<(), Error> {
        let mut answering = self.answering.borrow_mut();
        if answering.is_none() {
            let socket = self.socket().and_then(tokio::net::TcpListener::from_std);
            let socket = socket.map_err(|error| Error::Io("admin.address".to_owned(), error))?;
            let serving = admin::serve(socket, self.address, self.controlled.clone());
            *answering = Some(tokio::task::spawn_local(serving));
        }
        Ok(())
    }

    /// Answers for this gateway.
    pub fn control(&self, control: Rc<dyn Control>) -> Result<(), Error> {
        // There is one gateway in a process.
        let _ = self.controlled.set(control);
        self.answer()
    }

    /// A copy of the socket.
    pub fn socket(&self) -> io::Result<TcpListener> {
        self.socket.try_clone()
    }

    /// Leaves the socket to a successor.
    pub fn stop(&self) {
        if let Some(answering) = self.answering.take() {
            answering.abort();
        }
    }
}

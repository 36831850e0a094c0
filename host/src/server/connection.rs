//! One connection of a client, from its first byte to its last.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Door, Site,
    http1::converse,
    proxy_protocol::Ends,
    socket::Socket,
    tls,
    watch::{Busy, Watch},
};
use crate::{body::BodyError, drain, limiter::Place, plugin::exchange::Connection, proxy::Outgoing};

/// A client's connection, in the clear or within TLS.
pub trait Line: AsyncRead + AsyncWrite + Unpin {
    /// What carries it.
    fn socket(&self) -> &Socket;
}

impl Line for Socket {
    fn socket(&self) -> &Socket {
        self
    }
}

/// Serves requests until either side closes, the sweep decides, or what comes is not HTTP.
pub async fn serve(
    site: Rc<Site>,
    socket: Socket,
    Ends { peer, local }: Ends,
    door: Rc<Door>,
    watch: Rc<Watch>,
    _place: Option<Place>,
    _guard: drain::Guard,
) {
    socket.set_options();
    let tls = site.worker.view().snapshot.entrance(door.id).and_then(|entrance| entrance.tls.clone());
    let Some(tls) = tls else {
        return converse(&site, socket, Connection::new(peer, local, None), &door, watch).await;
    };
    // In a box: connections in the clear have no room for what it takes.
    let secured = async move {
        let Some((stream, facts)) = tls::handshake(socket, &tls, &door, &watch).await else { return };
        converse(&site, stream, Connection::new(peer, local, Some(facts)), &door, watch).await;
    };
    Box::pin(secured).await;
}

/// An answer that keeps its connection busy until it is gone.
pub struct Served {
    outgoing: Outgoing,
    busy: Busy,
}

impl Served {
    pub fn new(outgoing: Outgoing, busy: Busy) -> Served {
        Served { outgoing, busy }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.busy.is_cut_off() {
            self.outgoing.cut("client_too_slow");
        }
    }
}

impl HttpBody for Served {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.outgoing).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.outgoing.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.outgoing.size_hint()
    }
}

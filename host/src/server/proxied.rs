//! Connections that a proxy passes on, and before which it says whom they are from.

use std::{io, rc::Rc};

use tokio::io::AsyncReadExt;

use super::{
    Door, Site, connection,
    proxy_protocol::{DECISIVE, Ends, Header, Malformed, parse},
    socket::Socket,
    watch::{Verdict, Watch},
};
use crate::{drain, limiter::Place};

/// Why there is no header.
enum Fault {
    /// Somebody looked whether anybody listens, or is cut off because the gateway ends.
    Absent,
    Malformed(Malformed),
    Slow,
    Io(io::Error),
}

/// Serves the client that the header tells of.
pub async fn serve(
    site: Rc<Site>,
    mut socket: Socket,
    proxy: Ends,
    door: Rc<Door>,
    watch: Rc<Watch>,
    mut place: Option<Place>,
    guard: drain::Guard,
) {
    let read = tokio::select! {
        biased;
        read = header(&mut socket) => read,
        // There is nobody yet to tell it to.
        verdict = watch.verdict() => Err(if verdict == Verdict::SlowHead { Fault::Slow } else { Fault::Absent }),
    };
    let told = match read {
        Ok(told) => told,
        Err(fault) => return tell(&fault, proxy, &door),
    };
    door.numbers.proxy_headers.add(1);
    if let (Some(Ends { peer, .. }), Some(place)) = (told, &mut place)
        && let Err(full) = site.recognise(place, peer, &door)
    {
        return site.refuse(socket, peer, full, &door);
    }
    // In a box: those that nobody passes on have no room for what came before.
    Box::pin(connection::serve(site, socket, told.unwrap_or(proxy), door, watch, place, guard)).await;
}

/// Takes the header off the connection, and nothing of what follows it.
async fn header(socket: &mut Socket) -> Result<Option<Ends>, Fault> {
    let (mut bytes, mut taken) = ([0; DECISIVE], 0);
    let (mut left, told) = loop {
        let seen = match socket.peek(&mut bytes[taken..]).await {
            Ok(0) | Err(_) if taken == 0 => return Err(Fault::Absent),
            Ok(0) => return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into())),
            seen => taken + seen.map_err(Fault::Io)?,
        };
        match parse(&bytes[..seen]).map_err(Fault::Malformed)? {
            Header::Whole { length, told } => break (length - taken, told),
            Header::Unfinished => {
                socket.read_exact(&mut bytes[taken..seen]).await.map_err(Fault::Io)?;
                taken = seen;
            }
        }
    };
    while left > 0 {
        let piece = left.min(bytes.len());
        socket.read_exact(&mut bytes[..piece]).await.map_err(Fault::Io)?;
        left -= piece;
    }
    Ok(told)
}

fn tell(fault: &Fault, proxy: Ends, door: &Door) {
    let peer = proxy.peer;
    match fault {
        Fault::Absent => return,
        Fault::Malformed(reason) => tracing::debug!(%peer, "PROXY header: {reason}"),
        Fault::Slow => tracing::debug!(%peer, "PROXY header: it did not come in time"),
        Fault::Io(error) => tracing::debug!(%peer, "PROXY header: {error}"),
    }
    door.numbers.proxy_headers.add(1);
    door.numbers.proxy_header_failures.add(1);
}

//! Which server this is, and whether it makes room for one of another build.

use crate::api::ApiError;
use crate::api::server::{ReplaceServer, ServerInfo};
use crate::error::tell;
use crate::kernel::{executable, unix_socket};
use crate::server::api_loop::application::{Application, Ctx, Reply, Request};
use crate::server::api_loop::via::Via;
use crate::wire::handover;
use crate::wire::http::Response;

/// The facts of this process. `idle`: it leaves when it has nothing to do.
pub fn this_server(idle: bool) -> ServerInfo {
    ServerInfo {
        build: executable::build(),
        pid: std::process::id(),
        idle,
    }
}

/// `POST /server/actions/replace`: leaves, and with an upgrade leaves its sockets to the server that the client starts.
///
/// # Errors
/// `409` when this server stays.
pub fn make_room<A: Application>(
    server: &ServerInfo,
    request: &Request,
    ctx: &mut Ctx<A>,
) -> Result<Reply<A>, ApiError> {
    check(server, &request.body)?;
    if asks_for_sockets(request) {
        return Ok(hand_over());
    }
    ctx.stop();
    Ok(Reply::Now(Response::json(202, server)))
}

/// Whether this server makes room for one of the client's build. One of a newer build stays: the next command of its build
/// would replace its successor again, and so on without end. So does one that was started by hand or by a service manager.
fn check(server: &ServerInfo, body: &[u8]) -> Result<(), ApiError> {
    if !server.idle {
        let message = "this server was not started by the command line, and stays";
        return Err(ApiError::conflict(message));
    }
    // Clients of earlier builds send no body.
    let asks: ReplaceServer = serde_json::from_slice(body).unwrap_or_default();
    let fits = match asks.stays {
        true => !server.build.is_newer_than(&asks.build),
        false => asks.build.is_newer_than(&server.build),
    };
    match fits {
        true => Ok(()),
        false => Err(ApiError::conflict(
            "this server is of no older build, and stays",
        )),
    }
}

/// Whether the client passes the sockets on to the next server.
fn asks_for_sockets(request: &Request) -> bool {
    let is = |upgrade: &str| upgrade.eq_ignore_ascii_case(handover::PROTOCOL);
    request.via == Via::Socket && request.field("upgrade").is_some_and(is)
}

/// Leaves the sockets to the client, and stops.
fn hand_over<A: Application>() -> Reply<A> {
    Reply::upgrade(|_, ctx: &mut Ctx<A>, stream, _| {
        let Ok(connection) = stream.into_socket() else {
            return;
        };
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {}\r\n\r\n",
            handover::PROTOCOL
        );
        // A client that does not take it has gone, and this server stays.
        let sent = unix_socket::send(&connection, head.as_bytes(), &[])
            .and_then(|_| ctx.hand_over(&connection));
        if let Err(error) = sent {
            tell!("cannot make room for another build: {error}");
        }
    })
}

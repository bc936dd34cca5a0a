//! Requests on the server itself: which one it is, and whether it makes room for another build.

use crate::api::error::ApiError;
use crate::api::server::{ReplaceServer, ServerInfo};
use crate::error::tell;
use crate::wire::handover;
use crate::wire::http::Response;

use super::application::{Application, Ctx, Reply, Request, Via};

/// The facts of this process.
pub fn this_server(idle: bool) -> ServerInfo {
    ServerInfo {
        build: crate::kernel::executable::build(),
        pid: std::process::id(),
        idle,
    }
}

/// The answer to a request below `/server`; None for all others.
pub fn answer<A: Application>(
    request: &Request,
    server: &ServerInfo,
    ctx: &mut Ctx<A>,
) -> Option<Reply<A>> {
    let response = match (request.head.method(), request.head.path()) {
        ("GET", "/server") => Response::json(200, server),
        ("POST", "/server/actions/replace") => match makes_room(server, &request.body) {
            Ok(()) if asks_for_parts(request) => return Some(hand_over()),
            Ok(()) => {
                ctx.stop();
                Response::json(202, server)
            }
            Err(error) => Response::json(409, &error),
        },
        _ => return None,
    };
    Some(Reply::Now(response))
}

/// Whether this server makes room for whoever asks: one of an older build would be replaced by the next command of this one, and
/// so on without end. One that stays is started by somebody who wants it, and by nobody but them.
fn makes_room(server: &ServerInfo, body: &[u8]) -> Result<(), ApiError> {
    if !server.idle {
        let message = "this server was not started by the command line, and stays";
        return Err(ApiError::new("conflict", message));
    }
    // A program of before said nothing.
    let asks: ReplaceServer = serde_json::from_slice(body).unwrap_or_default();
    let fits = match asks.stays {
        true => !server.build.is_newer_than(&asks.build),
        false => asks.build.is_newer_than(&server.build),
    };
    match fits {
        true => Ok(()),
        false => Err(ApiError::new(
            "conflict",
            "this server is of no older build, and stays",
        )),
    }
}

/// Whether it is a client that passes the sockets on to the next server.
fn asks_for_parts(request: &Request) -> bool {
    let is = |value: &str| value.eq_ignore_ascii_case(handover::PROTOCOL);
    request.via == Via::Socket && request.head.fields.get("upgrade").is_some_and(is)
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
        let sent = crate::kernel::unix_socket::send(&connection, head.as_bytes(), &[])
            .and_then(|_| ctx.hand_over(&connection));
        if let Err(error) = sent {
            tell!("cannot make room for another build: {error}");
        }
    })
}

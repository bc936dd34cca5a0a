//! Requests on the server itself: which one it is, and whether it makes room for another build.

use crate::api::error::ApiError;
use crate::api::server::ServerInfo;
use crate::http::Response;

use super::application::{Application, Ctx, Reply, Request};

/// The facts of this process.
///
/// # Errors
/// When `/proc` is not there.
pub fn this_server(idle: bool) -> std::io::Result<ServerInfo> {
    Ok(ServerInfo {
        build_id: crate::executable::build_id()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        idle,
    })
}

/// The answer to a request below `/server`; None for all others.
pub fn answer<A: Application>(
    request: &Request,
    server: &ServerInfo,
    ctx: &mut Ctx<A>,
) -> Option<Reply<A>> {
    let response = match (request.head.method(), request.head.path()) {
        ("GET", "/server") => Response::json(200, server),
        ("POST", "/server/actions/replace") if server.idle => {
            ctx.stop();
            Response::json(202, server)
        }
        ("POST", "/server/actions/replace") => {
            let message = "this server was not started by the command line, and stays";
            Response::json(409, &ApiError::new("conflict", message))
        }
        _ => return None,
    };
    Some(Reply::Now(response))
}

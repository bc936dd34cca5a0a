//! Requests that connect a client to the command of a dyno, or to a second one in it.

use super::Service;
use crate::api::ApiError;
use crate::api::dyno::{Dyno, RunInside};
use crate::bridge::SessionRequest;
use crate::error::tell;
use crate::kernel::fail_point;
use crate::model::command_line;
use crate::model::dyno::{self, EndReason};
use crate::model::log_line::Story;
use crate::server::api_loop::application::{Caller, Reply, Request};
use crate::server::api_loop::via::Via;
use crate::server::dynos::spec::inside;
use crate::server::records::Answer;
use crate::wire::control::ToSupervisor;
use crate::wire::frame::{PROTOCOL, far};
use crate::wire::http::Response;
use crate::wire::stream::Stream;

impl Service {
    /// `GET /apps/A/dynos/D/attach`, an upgrade: the client gets the streams of the dyno's command.
    pub(super) fn attach(
        &self,
        app: &str,
        dyno: &str,
        upgrade: Option<&str>,
        request: &Request,
    ) -> Result<Reply<Self>, ApiError> {
        let (dyno, streams) = self.live_dyno(app, dyno, upgrade, request.via)?;
        let attach = ToSupervisor::Attach { merged: false };
        Ok(give_streams(streams, dyno, attach, request))
    }

    /// `POST /apps/A/dynos/D/inside`, an upgrade: a second command, whose streams the client gets.
    pub(super) fn run_inside(
        &self,
        app: &str,
        dyno: &str,
        upgrade: Option<&str>,
        request: &Request,
    ) -> Result<Reply<Self>, ApiError> {
        let command = RunInside::parse(&request.body)?;
        let (dyno, streams) = self.live_dyno(app, dyno, upgrade, request.via)?;
        let release = self.records.store.release(&dyno.app_id, &dyno.release_id)?;
        let message = inside(&command, &release, false)?;
        self.log_inside(&command, &dyno);
        Ok(give_streams(streams, dyno, message, request))
    }

    fn log_inside(&self, command: &RunInside, dyno: &dyno::Dyno) {
        let (command, name) = (command.command.clone(), dyno.name.clone());
        let story = Story::StartingInside {
            command,
            dyno: name,
        };
        self.records.log(&dyno.app_id, story);
    }

    /// `POST /apps/A/dynos/D`, Heroku's `run:inside`: the dyno, with the address where the client is to meet the command.
    pub(super) fn meet_inside(
        &self,
        app: &str,
        dyno: &str,
        body: &[u8],
        caller: Caller<'_>,
    ) -> Answer {
        let mut command = RunInside::parse(body)?;
        let app = self.records.store.app(app)?;
        let dyno = self.records.store.dyno(&app.id, dyno)?;
        if !self.dynos.is_live(&dyno.id) {
            return Err(not_there(&dyno));
        }
        let Some(meeting) = self.arrange(caller)? else {
            return Err(ApiError::unavailable("this server has no rendezvous")
                .hint("`dyno server --rendezvous auto` begins one"));
        };
        let wants_status = take_status_request(&mut command.command)?;
        let release = self.records.store.release(&dyno.app_id, &dyno.release_id)?;
        let seat = SessionRequest {
            dyno: dyno.id.clone(),
            ask: inside(&command, &release, true)?,
            wants_status,
            token: meeting.token.clone(),
        };
        self.log_inside(&command, &dyno);
        self.expect(&meeting, seat);
        let mut resource = Dyno::new(&dyno, Some(meeting.url));
        resource.command = command.command;
        Ok(Response::json(201, &resource))
    }

    /// The dyno that a client wants to be connected to, and how it takes the streams.
    fn live_dyno(
        &self,
        app: &str,
        dyno: &str,
        upgrade: Option<&str>,
        via: Via,
    ) -> Result<(dyno::Dyno, Streams), ApiError> {
        let app = self.records.store.app(app)?;
        let dyno = self.records.store.dyno(&app.id, dyno)?;
        let streams = match (upgrade, via) {
            (Some(PROTOCOL), Via::Socket) => Streams::Descriptors,
            (Some(far::PROTOCOL), _) => Streams::Frames,
            (_, via) => {
                let needed = match via {
                    Via::Socket => PROTOCOL,
                    Via::Tcp { .. } => far::PROTOCOL,
                };
                let message = format!("this needs `Upgrade: {needed}`");
                return Err(ApiError::bad_request(message));
            }
        };
        if streams == Streams::Frames {
            self.check_bridge()?;
        }
        if !self.dynos.is_live(&dyno.id) {
            return Err(not_there(&dyno));
        }
        Ok((dyno, streams))
    }
}

/// How a client takes the streams of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// As descriptors, which the supervisor sends over the Unix socket.
    Descriptors,
    /// As frames, which the bridge makes.
    Frames,
}

/// Connects a client to its dyno: passes the connection itself on to the supervisor, which answers; or has the bridge
/// answer.
fn give_streams(
    streams: Streams,
    dyno: dyno::Dyno,
    ask: ToSupervisor,
    request: &Request,
) -> Reply<Service> {
    let token = request.token.as_ref().map(|token| token.id.clone());
    Reply::upgrade(
        move |service: &mut Service, ctx, stream: Stream, early: Vec<u8>| {
            if streams == Streams::Frames {
                let seat = SessionRequest {
                    dyno: dyno.id,
                    ask,
                    wants_status: false,
                    token,
                };
                return service.bridge_client(stream, early, seat, ctx);
            }
            fail_point::reach("dyno.attaching");
            let passed_on = stream
                .into_socket()
                .is_ok_and(|connection| service.dynos.pass_on(&dyno.id, &ask, &connection));
            if !passed_on {
                tell!("{}: ended just before its client came", dyno.name);
            }
        },
    )
}

/// Takes what Heroku's CLI adds to ask for the exit status from a command, which is to be known as it was typed. Whether
/// there was such.
pub(super) fn take_status_request(command: &mut String) -> Result<bool, ApiError> {
    let Some(typed) = command_line::without_status_request(command) else {
        return Ok(false);
    };
    *command = typed.to_owned();
    command_line::check(command)?;
    Ok(true)
}

/// What a client that wants to attach is told of a dyno that has no supervisor any more.
fn not_there(dyno: &dyno::Dyno) -> ApiError {
    let lost = EndReason::Lost.as_str();
    match &dyno.ended {
        Some(ended) if ended.reason.as_deref() != lost => {
            ApiError::not_found(format!("`{}` has ended", dyno.name))
        }
        _ => ApiError::not_found(format!("`{}` was lost: its supervisor is gone", dyno.name)),
    }
    .hint("`dyno run` starts another one")
}

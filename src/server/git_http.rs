//! Git's smart protocol over HTTP (gitprotocol-http(5)): git itself answers, in a process of its own for each request.
//!
//! What a client asks is read here, and what comes out of the process is passed on, a piece at a time, whenever the
//! client has taken the last one. The body of a request is a file by then, so that a process never waits for a client
//! that sends slowly. There are only so many processes, each with so much time and memory.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};

use crate::api::ask::GitService;
use crate::api::{ApiError, ErrorKind as ApiErrorKind};
use crate::server::api_loop::application::{Application, Ctx, More, Recipient, Ticket};
use crate::server::api_loop::body_stream::BodyReader;
use crate::wire::http::Response;
use crate::wire::http::fields::Fields;
use crate::wire::pkt_line;
use crate::wire::reactor::{Event, Interest, Token};

/// How many processes there are at once.
const MOST: usize = 8;

/// Bytes that are read at a time.
const PIECE: usize = 32 * 1024;

/// Address space of a process: far more than git needs with the configuration of our repositories.
const MEMORY: u64 = 4 << 30;

/// How long after the end of its output a process is looked at again, to see that it has ended.
const END: Duration = Duration::from_millis(10);

/// The longest `Git-Protocol` that is passed on, in bytes.
const LONGEST_PROTOCOL: usize = 200;

/// A request of git's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// The app whose repository it is about.
    pub app: String,
    /// What is wanted.
    pub service: GitService,
    /// What branches there are is asked before anything else; with a body that comes then, the work is done.
    pub refs_only: bool,
    /// Which version of its protocol the client speaks, in git's words.
    protocol: Option<String>,
    gzipped: bool,
}

impl GitRequest {
    /// A request for a service, with what its head says beside.
    ///
    /// # Errors
    /// When its body is none of git's.
    pub fn new(
        app: String,
        service: GitService,
        refs_only: bool,
        fields: &Fields,
    ) -> Result<Self, ApiError> {
        let unsupported = |message| ApiError::new(ApiErrorKind::UnsupportedMediaType, message);
        if !refs_only {
            let expected = format!("application/x-git-{}-request", service.name());
            let content_type = fields.get("content-type").unwrap_or_default();
            if content_type != expected {
                return Err(unsupported(format!("the body is not `{expected}`")));
            }
        }
        let gzipped = match fields.get("content-encoding") {
            None | Some("" | "identity") => false,
            Some("gzip" | "x-gzip") => true,
            Some(_) => {
                let message = "the body is neither plain nor gzipped";
                return Err(unsupported(message.to_owned()));
            }
        };
        let is_harmless = |text: &&str| {
            let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"=:._-".contains(&byte);
            text.len() <= LONGEST_PROTOCOL && text.bytes().all(harmless)
        };
        let protocol = fields.get("git-protocol").filter(is_harmless);
        Ok(Self {
            app,
            service,
            refs_only,
            protocol: protocol.map(str::to_owned),
            gzipped,
        })
    }

    /// The head of the answer.
    pub fn response(&self) -> Response {
        let kind = if self.refs_only {
            "advertisement"
        } else {
            "result"
        };
        let content_type = format!("application/x-git-{}-{kind}", self.service.name());
        Response::new(200)
            .with("Content-Type", content_type)
            .with("Cache-Control", "no-cache, max-age=0, must-revalidate")
    }

    /// Takes a body into a file without a name in `folder`, at its beginning. It may have `most` bytes, unzipped.
    ///
    /// # Errors
    /// When it does not come whole, is too long, or cannot be written.
    pub fn take_body(
        &self,
        body: &mut BodyReader,
        folder: &Path,
        most: u64,
    ) -> Result<File, ApiError> {
        let unwritable = |error: io::Error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                ApiError::no_room(format!("cannot store what was sent: {error}"))
            }
            _ => ApiError::internal(format!("cannot store what was sent: {error}")),
        };
        let mut file = tempfile::tempfile_in(folder).map_err(unwritable)?;
        let copied = match self.gzipped {
            true => copy(MultiGzDecoder::new(&mut *body), &mut file, most),
            false => copy(&mut *body, &mut file, most),
        };
        match copied {
            Ok(true) => {}
            Ok(false) => {
                let message = format!("more than {most} bytes were pushed, which is the limit");
                return Err(ApiError::new(ApiErrorKind::PayloadTooLarge, message));
            }
            Err(Copy::Read(error)) => {
                return Err(ApiError::bad_request(format!(
                    "the body is not valid: {error}"
                )));
            }
            Err(Copy::Write(error)) => return Err(unwritable(error)),
        }
        io::Seek::rewind(&mut file).map_err(unwritable)?;
        Ok(file)
    }
}

/// Which side of a copy failed.
enum Copy {
    Read(io::Error),
    Write(io::Error),
}

/// Copies up to `most` bytes; false if there are more.
fn copy(mut from: impl Read, to: &mut File, most: u64) -> Result<bool, Copy> {
    let (mut buffer, mut copied) = (vec![0; 64 * 1024], 0);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Copy::Read(error)),
        };
        copied += count as u64;
        if copied > most {
            return Ok(false);
        }
        to.write_all(&buffer[..count]).map_err(Copy::Write)?;
    }
}

/// How a process is started.
pub struct GitStart<'a> {
    /// The client's request, which says what git is asked for.
    pub request: &'a GitRequest,
    /// The repository.
    pub repository: &'a Path,
    /// What it reads; nothing if only refs are asked for.
    pub body: Option<File>,
    /// Its variables.
    pub env: Vec<(OsString, OsString)>,
    /// How long it may take.
    pub time: Duration,
}

/// The processes that run.
#[derive(Default)]
pub struct GitProcesses {
    runs: HashMap<Token, Run>,
    clients: HashMap<Ticket, Token>,
}

struct Run {
    child: Child,
    service: GitService,
    /// None once it has ended, or its client has gone.
    stdout: Option<ChildStdout>,
    client: Option<Recipient>,
    /// The client's token is good no more.
    refused: bool,
    /// What the client is told before anything of git's.
    preface: Vec<u8>,
    kill_at: Instant,
}

impl GitProcesses {
    /// Whether no process runs.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Starts a process, whose output will be the body of the response to `ticket`.
    ///
    /// # Errors
    /// When there are too many, or git cannot be run.
    pub fn start<A: Application>(
        &mut self,
        to: Recipient,
        start: GitStart<'_>,
        ctx: &mut Ctx<A>,
    ) -> Result<(), ApiError> {
        if self.runs.len() >= MOST {
            let message = format!("{MOST} gits run already, which is as many as may at once");
            return Err(ApiError::unavailable(message).hint("try again in a moment"));
        }
        let (request, service) = (start.request, start.request.service);
        let mut git = Command::new("git");
        git.arg(service.name()).arg("--stateless-rpc");
        if request.refs_only {
            git.arg("--advertise-refs");
        }
        git.arg(start.repository)
            .env_clear()
            .envs(start.env)
            .current_dir(start.repository)
            .stdin(start.body.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // So that all that it starts can be ended.
            .process_group(0);
        if let Some(protocol) = &request.protocol {
            git.env("GIT_PROTOCOL", protocol);
        }
        let failed = |error: io::Error| ApiError::internal(format!("cannot run git: {error}"));
        let mut child = git.spawn().map_err(failed)?;
        bound_memory(&child);
        let token = ctx.reactor().token();
        let stdout = child.stdout.take();
        let watched = stdout.as_ref().map_or_else(
            || Err(ErrorKind::BrokenPipe.into()),
            |stdout| {
                rustix::io::ioctl_fionbio(stdout, true)?;
                ctx.reactor().register(stdout, token, Interest::READABLE)
            },
        );
        if let Err(error) = watched {
            kill(&child);
            let _ = child.wait();
            return Err(failed(error));
        }
        let kill_at = Instant::now() + start.time;
        ctx.reactor().set_deadline(token, kill_at);
        let preface = match request.refs_only {
            true => {
                let line = format!("# service=git-{}\n", service.name());
                [&pkt_line::packet(line.as_bytes()), pkt_line::FLUSH].concat()
            }
            false => Vec::new(),
        };
        let ticket = to.ticket;
        let run = Run {
            child,
            service,
            stdout,
            client: Some(to),
            refused: false,
            preface,
            kill_at,
        };
        self.runs.insert(token, run);
        self.clients.insert(ticket, token);
        Ok(())
    }

    /// The next piece for a client, if git answers it.
    pub fn more<A: Application>(&mut self, ticket: Ticket, ctx: &mut Ctx<A>) -> Option<More> {
        let token = *self.clients.get(&ticket)?;
        let run = self.runs.get_mut(&token)?;
        if run.refused {
            self.leave(ticket, ctx);
            return Some(More::Broken);
        }
        if !run.preface.is_empty() {
            return Some(More::Bytes(std::mem::take(&mut run.preface)));
        }
        if let Some(stdout) = &mut run.stdout {
            let mut piece = vec![0; PIECE];
            match stdout.read(&mut piece) {
                Ok(0) => {
                    let _ = ctx.reactor().deregister(&*stdout, token);
                    run.stdout = None;
                }
                Ok(count) => {
                    piece.truncate(count);
                    return Some(More::Bytes(piece));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(More::Later),
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    return Some(More::Bytes(Vec::new()));
                }
                Err(_) => kill(&run.child),
            }
        }
        match run.child.try_wait() {
            Ok(None) => {
                let soon = Instant::now() + END;
                ctx.reactor().set_deadline(token, soon.min(run.kill_at));
                Some(More::Later)
            }
            ended => {
                self.clients.remove(&ticket);
                self.forget(token, ctx);
                // What went wrong it has said itself, unless it had no time to.
                let whole = ended.is_ok_and(|it| it.is_some_and(|it| it.signal().is_none()));
                Some(if whole { More::End } else { More::Broken })
            }
        }
    }

    /// A client has gone. A fetch is ended. A push finds that nobody reads what it says: it has its build cancelled, or goes on if
    /// there is a release already.
    pub fn leave<A: Application>(&mut self, ticket: Ticket, ctx: &mut Ctx<A>) {
        let Some(token) = self.clients.remove(&ticket) else {
            return;
        };
        let Some(run) = self.runs.get_mut(&token) else {
            return;
        };
        run.client = None;
        if let Some(stdout) = run.stdout.take() {
            let _ = ctx.reactor().deregister(&stdout, token);
        }
        if run.service == GitService::Upload {
            kill(&run.child);
        }
        ctx.reactor().set_deadline(token, Instant::now() + END);
    }

    /// These tokens are good no more: what their clients are told breaks off, as if they had gone.
    pub fn tokens_ended<A: Application>(&mut self, tokens: &[String], ctx: &mut Ctx<A>) {
        for run in self.runs.values_mut() {
            if let Some(to) = run.client.as_ref().filter(|to| to.came_with(tokens)) {
                run.refused = true;
                ctx.resume(to.ticket);
            }
        }
    }

    /// Whether this event was about one of the processes.
    pub fn came<A: Application>(&mut self, event: Event, ctx: &mut Ctx<A>) -> bool {
        let (Event::Ready { token, .. } | Event::Deadline(token)) = event else {
            return false;
        };
        let Some(run) = self.runs.get_mut(&token) else {
            return false;
        };
        if Instant::now() >= run.kill_at {
            kill(&run.child);
        }
        match &run.client {
            Some(to) => ctx.resume(to.ticket),
            None => match run.child.try_wait() {
                // It is looked at seldom: no client waits for it.
                Ok(None) => {
                    let later = Instant::now() + Duration::from_secs(1);
                    ctx.reactor().set_deadline(token, later);
                }
                _ => self.forget(token, ctx),
            },
        }
        true
    }

    fn forget<A: Application>(&mut self, token: Token, ctx: &mut Ctx<A>) {
        self.runs.remove(&token);
        ctx.reactor().forget(token);
    }
}

/// Ends a process that was not waited for, and all that it has started.
fn kill(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Limits the memory of a process that was just started, before it reads anything.
fn bound_memory(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    let _ = prlimit(pid, Resource::As, limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ask::{Ask, GitAsk};
    use crate::wire::http::HeadLimits;
    use crate::wire::http::HeadReader;

    fn request(text: &str) -> Option<Result<GitRequest, ApiError>> {
        let text = format!("{text}Host: localhost\r\n\r\n");
        let mut reader = HeadReader::new(HeadLimits::API);
        let (head, _) = reader.request(text.as_bytes()).unwrap().unwrap();
        let (app, service, refs_only) = match Ask::parse(head.method(), head.path(), head.query()) {
            Ok(Ask::Git(GitAsk::Refs { app, service })) => (app, service, true),
            Ok(Ask::Git(GitAsk::Serve { app, service })) => (app, service, false),
            Ok(_) => return None,
            Err(error) => return (error.kind != ApiErrorKind::NotFound).then_some(Err(error)),
        };
        Some(GitRequest::new(app, service, refs_only, &head.fields))
    }

    #[test]
    fn what_git_asks_is_understood_and_nothing_else() {
        let asked = |text: &str| request(text).unwrap().unwrap();
        let refs = asked(
            "GET /shop.git/info/refs?service=git-upload-pack HTTP/1.1\r\nGit-Protocol: version=2\r\n",
        );
        assert_eq!(
            (refs.app.as_str(), refs.service, refs.refs_only),
            ("shop", GitService::Upload, true)
        );
        assert_eq!(refs.protocol.as_deref(), Some("version=2"));
        let push = asked(
            "POST /shop.git/git-receive-pack HTTP/1.1\r\nContent-Encoding: gzip\r\n\
             Content-Type: application/x-git-receive-pack-request\r\nGit-Protocol: a\"b\r\n",
        );
        assert_eq!(
            (push.service, push.refs_only, push.gzipped),
            (GitService::Receive, false, true)
        );
        assert_eq!(push.protocol, None);
        for (text, id) in [
            ("GET /shop.git/info/refs HTTP/1.1\r\n", "forbidden"),
            (
                "GET /shop.git/info/refs?service=git-x HTTP/1.1\r\n",
                "forbidden",
            ),
            ("GET /shop.git/HEAD HTTP/1.1\r\n", "forbidden"),
            ("GET /shop.git/git-receive-pack HTTP/1.1\r\n", "forbidden"),
            (
                "POST /shop.git/git-receive-pack HTTP/1.1\r\n",
                "unsupported_media_type",
            ),
            (
                "POST /shop.git/git-upload-pack HTTP/1.1\r\nContent-Encoding: br\r\n\
                 Content-Type: application/x-git-upload-pack-request\r\n",
                "unsupported_media_type",
            ),
        ] {
            assert_eq!(request(text).unwrap().unwrap_err().kind.id(), id, "{text}");
        }
        for other in ["GET /apps HTTP/1.1\r\n", "GET /apps/shop.git HTTP/1.1\r\n"] {
            assert!(request(other).is_none(), "{other}");
        }
    }
}

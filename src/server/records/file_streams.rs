//! Files as the bodies of responses: tarballs, and the logs of builds, which may still be written.
//!
//! The loop reads them piece by piece, whenever a client has taken the last one (`Application::more`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::tell;
use crate::server::api_loop::application::{Application, Ctx, More, Recipient, Ticket};

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// How many there may be at once; each has a descriptor.
const MOST: usize = 32;

/// All files that are being sent.
pub struct FileStreams {
    most: usize,
    streams: HashMap<Ticket, Stream>,
}

struct Stream {
    to: Recipient,
    file: File,
    /// Its end is not all, as long as this build has not ended.
    build: Option<String>,
    /// The client's token is good no more.
    refused: bool,
}

impl FileStreams {
    /// None is sent yet. Of `connections` that the server may have, three quarters are left to those who want something
    /// else.
    pub fn new(connections: usize) -> Self {
        Self {
            most: MOST.min(connections / 4).max(1),
            streams: HashMap::new(),
        }
    }

    /// Whether another may be sent.
    pub fn has_room(&self) -> bool {
        self.streams.len() < self.most
    }

    /// Sends the file at `path` from byte `from` on: to its end, or to its end after `build` has ended.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn begin(
        &mut self,
        to: Recipient,
        path: &Path,
        from: u64,
        build: Option<String>,
    ) -> std::io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let stream = Stream {
            to,
            file,
            build,
            refused: false,
        };
        self.streams.insert(stream.to.ticket, stream);
        Ok(())
    }

    /// The next piece for a client, if it is sent a file.
    pub fn more(&mut self, ticket: Ticket) -> Option<More> {
        let stream = self.streams.get_mut(&ticket)?;
        if stream.refused {
            self.streams.remove(&ticket);
            return Some(More::Broken);
        }
        let mut piece = Vec::new();
        let read = (&mut stream.file)
            .take(PIECE as u64)
            .read_to_end(&mut piece);
        if let Err(error) = read {
            tell!("cannot read a file that is being sent: {error}");
            self.streams.remove(&ticket);
            return Some(More::Broken);
        }
        Some(match (piece.is_empty(), &stream.build) {
            (false, _) => More::Bytes(piece),
            (true, Some(_)) => More::Later,
            (true, None) => {
                self.streams.remove(&ticket);
                More::End
            }
        })
    }

    /// A client has gone.
    pub fn leave(&mut self, ticket: Ticket) {
        self.streams.remove(&ticket);
    }

    /// These tokens are good no more: what their clients are sent breaks off.
    pub fn tokens_ended<A: Application>(&mut self, tokens: &[String], ctx: &mut Ctx<A>) {
        for (ticket, stream) in &mut self.streams {
            if stream.to.came_with(tokens) {
                stream.refused = true;
                ctx.resume(*ticket);
            }
        }
    }

    /// A build has written to its log; if it has ended, that was the last.
    pub fn build_wrote<A: Application>(&mut self, build: &str, ended: bool, ctx: &mut Ctx<A>) {
        for (ticket, stream) in &mut self.streams {
            if stream.build.as_deref() == Some(build) {
                if ended {
                    stream.build = None;
                }
                ctx.resume(*ticket);
            }
        }
    }
}

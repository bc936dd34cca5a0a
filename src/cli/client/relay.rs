//! An attached run on a server elsewhere. To the rest of the command line it looks like one on this host: a connection
//! to a thread that acts as the dyno's supervisor, with the command's streams as descriptors. The thread moves their
//! bytes in [frames](crate::wire::frame::far) over the connection to the server.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;

use crate::kernel::unix_socket;
use crate::model::window::WindowSize;
use crate::wire::frame::far::{
    Decoder, ReceiveWindow, SendWindow, StreamFrame, StreamPiece, data_head,
};
use crate::wire::frame::{AttachRefusal, CONTINUE, Frame, RESIZE, STOP_TYPED, Up, closed_stream};
use crate::wire::reactor::{Event, Interest, Reactor, Token};
use crate::wire::stream::Stream;

/// The most bytes that are read at a time.
const PIECE: usize = 16 * 1024;

/// Begins to relay over `stream`, of which `early` was read already. Returns a connection like the one to a supervisor
/// on this host.
///
/// # Errors
/// When descriptors have run out, or no thread can be started.
pub(super) fn relay(stream: Stream, early: Vec<u8>, server: String) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let (theirs, near) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::io::ioctl_fionbio(&near, true)?;
    let mut relay = Relay::new(stream, near, early, server)?;
    thread::Builder::new()
        .name("relay".into())
        .spawn(move || relay.run())?;
    Ok(theirs)
}

struct Relay {
    reactor: Reactor,
    far: Stream,
    far_token: Token,
    far_ended: bool,
    decoder: Decoder,
    /// Bytes that came with the response to the upgrade request.
    early: Vec<u8>,
    /// Bytes for the server.
    unsent: Vec<u8>,
    near: OwnedFd,
    near_token: Token,
    near_readable: bool,
    /// Received bytes of the local side that are not decoded yet.
    said: Vec<u8>,
    terminal: bool,
    input: Option<Input>,
    outputs: [Option<Output>; 2],
    /// How the command ended, which is sent to the local side after all output.
    last: Option<Frame>,
    server: String,
}

/// The command's input, from the local side.
struct Input {
    fd: OwnedFd,
    token: Token,
    readable: bool,
    credit: SendWindow,
}

/// An output of the command, for the local side.
struct Output {
    fd: OwnedFd,
    token: Token,
    writable: bool,
    waiting: Vec<u8>,
    allowance: ReceiveWindow,
    ended: bool,
}

impl Relay {
    fn new(far: Stream, near: OwnedFd, early: Vec<u8>, server: String) -> io::Result<Self> {
        let mut reactor = Reactor::new()?;
        let (far_token, near_token) = (reactor.token(), reactor.token());
        let both = Interest::READABLE | Interest::WRITABLE;
        reactor.register(far.socket(), far_token, both)?;
        reactor.register(&near, near_token, Interest::READABLE)?;
        Ok(Self {
            reactor,
            far,
            far_token,
            far_ended: false,
            decoder: Decoder::default(),
            early,
            unsent: Vec::new(),
            near,
            near_token,
            near_readable: true,
            said: Vec::new(),
            terminal: false,
            input: None,
            outputs: [None, None],
            last: None,
            server,
        })
    }

    fn run(&mut self) {
        let mut events = Vec::new();
        let mut buffer = vec![0; PIECE];
        loop {
            while self.go_on(&mut buffer) {}
            if self.is_over() {
                return;
            }
            if self.reactor.poll(&mut events).is_err() {
                return;
            }
            for event in &events {
                self.note(*event);
            }
        }
    }

    fn note(&mut self, event: Event) {
        let Event::Ready {
            token,
            readable,
            writable,
            ..
        } = event
        else {
            return;
        };
        if token == self.far_token {
            self.far.note(readable, writable);
        } else if token == self.near_token {
            self.near_readable |= readable;
        }
        if let Some(input) = self.input.as_mut().filter(|input| input.token == token) {
            input.readable |= readable;
        }
        for output in self.outputs.iter_mut().flatten() {
            if output.token == token {
                output.writable |= writable;
            }
        }
    }

    /// Tries each thing once; true if anything was done.
    fn go_on(&mut self, buffer: &mut [u8]) -> bool {
        let mut moved = self.hear_near();
        moved |= self.hear_far(buffer);
        moved |= self.show();
        moved |= self.send();
        moved |= self.read_input(buffer);
        moved
    }

    /// Whether all is sent, so that the thread can end, and with it the local connection.
    fn is_over(&mut self) -> bool {
        if self.last.is_none() || self.outputs.iter().any(Option::is_some) {
            return false;
        }
        if let Some(last) = self.last.take() {
            let _ = unix_socket::send(&self.near, &last.encode(), &[]);
        }
        true
    }

    /// Handles the local side's bytes.
    fn hear_near(&mut self) -> bool {
        if !self.near_readable {
            return false;
        }
        let mut buffer = [0; 256];
        match rustix::io::read(&self.near, &mut buffer) {
            Ok(0) => {
                // The local side has left, so the thread ends, and the server sees the end.
                self.near_readable = false;
                self.end(Frame::Error(AttachRefusal::new("left")));
                self.outputs = [None, None];
            }
            Ok(length) => self.said.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(_) => {
                self.near_readable = false;
                return false;
            }
        }
        let said = std::mem::take(&mut self.said);
        let mut rest = &said[..];
        while let [first, after @ ..] = rest {
            rest = match (*first, after) {
                (RESIZE, [a, b, c, d, after @ ..]) => {
                    let size = WindowSize {
                        columns: u16::from_be_bytes([*a, *b]),
                        rows: u16::from_be_bytes([*c, *d]),
                    };
                    self.unsent.extend(StreamFrame::Window(size).encode());
                    after
                }
                (RESIZE, _) => break,
                (CONTINUE, after) => {
                    self.unsent.extend(StreamFrame::Continue.encode());
                    after
                }
                (STOP_TYPED, after) => {
                    self.unsent.extend(StreamFrame::StopTyped.encode());
                    after
                }
                (byte, after) => {
                    if let Some(number) = closed_stream(byte) {
                        self.unsent
                            .extend(StreamFrame::Unread(number as u8).encode());
                    }
                    after
                }
            };
        }
        self.said = rest.to_vec();
        true
    }

    /// Handles the server's frames.
    fn hear_far(&mut self, buffer: &mut [u8]) -> bool {
        if self.far_ended {
            return false;
        }
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            self.take(&early);
            return true;
        }
        match self.far.read(buffer) {
            Ok(0) => self.lose(),
            Ok(length) => {
                let piece = buffer[..length].to_vec();
                self.take(&piece);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return false,
                io::ErrorKind::Interrupted => {}
                _ => self.lose(),
            },
        }
        true
    }

    fn take(&mut self, mut bytes: &[u8]) {
        loop {
            let done = match self.decoder.next(&mut bytes) {
                Ok(None) => return,
                Ok(Some(StreamPiece::Data(number @ 1..=2, data))) => {
                    match &mut self.outputs[usize::from(number) - 1] {
                        Some(output) => {
                            output.waiting.extend_from_slice(data);
                            output.allowance.take(data.len()).is_ok()
                        }
                        // The output is closed, which the server may not know yet.
                        None => true,
                    }
                }
                Ok(Some(StreamPiece::Word(word))) => self.take_word(word),
                Ok(Some(StreamPiece::Data(..))) | Err(_) => false,
            };
            if !done {
                return self.lose();
            }
        }
    }

    /// Handles a frame; false if it is not valid here.
    fn take_word(&mut self, word: StreamFrame) -> bool {
        match word {
            StreamFrame::Frame(Frame::Up(up)) => self.open(&up).is_ok(),
            StreamFrame::Frame(stopped @ Frame::Stopped) => {
                unix_socket::send(&self.near, &stopped.encode(), &[]).is_ok()
            }
            StreamFrame::Frame(last) => {
                self.end(last);
                true
            }
            StreamFrame::End(number @ 1..=2) => {
                if let Some(output) = &mut self.outputs[usize::from(number) - 1] {
                    output.ended = true;
                }
                true
            }
            StreamFrame::Credit(0, bytes) => {
                if let Some(input) = &mut self.input {
                    input.credit.grant(bytes);
                }
                true
            }
            _ => false,
        }
    }

    /// Ends after a failure of the server's connection.
    fn lose(&mut self) {
        let message = format!(
            "the connection to the server at `{}` was lost, and this session with it",
            self.server
        );
        let hint = "the dyno was hung up; `dyno logs` has what it printed since then";
        self.end(Frame::Error(AttachRefusal::new(message).hint(hint)));
    }

    /// Sets how the session ends; only the first call counts.
    fn end(&mut self, last: Frame) {
        self.far_ended = true;
        self.last.get_or_insert(last);
        self.close_input();
        for output in self.outputs.iter_mut().flatten() {
            output.ended = true;
        }
    }

    /// Makes local streams and sends them to the local side, since the command runs.
    fn open(&mut self, up: &Up) -> io::Result<()> {
        self.terminal = up.terminal;
        let theirs = match up.terminal {
            true => {
                let flags = SocketFlags::CLOEXEC;
                let (ours, theirs) =
                    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                let ours_too = rustix::io::fcntl_dupfd_cloexec(&ours, 0)?;
                self.input = Some(self.input_of(ours)?);
                self.outputs[0] = Some(self.output_of(ours_too)?);
                vec![theirs]
            }
            false => {
                let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
                let (input, their_input) = pipe()?;
                let (their_output, output) = pipe()?;
                let mut theirs = vec![their_input, their_output];
                self.input = Some(self.input_of(input)?);
                self.outputs[0] = Some(self.output_of(output)?);
                if !up.one_output {
                    let (their_errors, errors) = pipe()?;
                    self.outputs[1] = Some(self.output_of(errors)?);
                    theirs.push(their_errors);
                }
                theirs
            }
        };
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        unix_socket::send(&self.near, &Frame::Up(up.clone()).encode(), &fds)?;
        Ok(())
    }

    fn input_of(&mut self, fd: OwnedFd) -> io::Result<Input> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let token = self.reactor.token();
        self.reactor.register(&fd, token, Interest::READABLE)?;
        Ok(Input {
            fd,
            token,
            readable: true,
            credit: SendWindow::default(),
        })
    }

    fn output_of(&mut self, fd: OwnedFd) -> io::Result<Output> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let token = self.reactor.token();
        self.reactor.register(&fd, token, Interest::WRITABLE)?;
        Ok(Output {
            fd,
            token,
            writable: true,
            waiting: Vec::new(),
            allowance: ReceiveWindow::default(),
            ended: false,
        })
    }

    /// Writes output to the local streams, and grants the server more.
    fn show(&mut self) -> bool {
        let mut moved = false;
        for (number, place) in (1..).zip(&mut self.outputs) {
            let Some(output) = place else { continue };
            let mut shown = 0;
            while output.writable && shown < output.waiting.len() {
                match rustix::io::write(&output.fd, &output.waiting[shown..]) {
                    Ok(length) => shown += length,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => output.writable = false,
                    // The reader has left, which the local side reports.
                    Err(_) => {
                        shown = output.waiting.len();
                        output.ended = true;
                    }
                }
            }
            if shown > 0 {
                moved = true;
                output.waiting.drain(..shown);
                if let Some(word) = output.allowance.pass_on(number, shown) {
                    self.unsent.extend(word.encode());
                }
            }
            if output.ended && output.waiting.is_empty() {
                moved = true;
                if self.terminal {
                    let _ = rustix::net::shutdown(&output.fd, Shutdown::Write);
                }
                let _ = self.reactor.deregister(&output.fd, output.token);
                *place = None;
            }
        }
        moved
    }

    fn send(&mut self) -> bool {
        let mut moved = false;
        while !self.far_ended && !self.unsent.is_empty() {
            match self.far.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return moved,
                Err(_) => self.lose(),
            }
            moved = true;
        }
        // Errors show when reading.
        let _ = self.far.flush();
        moved
    }

    /// Sends input, as much as the server has granted.
    fn read_input(&mut self, buffer: &mut [u8]) -> bool {
        if self.far_ended || !self.unsent.is_empty() || !self.far.is_flushed() {
            return false;
        }
        let Some(input) = &mut self.input else {
            return false;
        };
        let room = input.credit.left().min(buffer.len());
        if room == 0 || !input.readable {
            return false;
        }
        match rustix::io::read(&input.fd, &mut buffer[..room]) {
            Ok(0) => {
                self.unsent.extend(StreamFrame::End(0).encode());
                self.close_input();
            }
            Ok(length) => {
                input.credit.spend(length);
                self.unsent.extend(data_head(0, length));
                self.unsent.extend_from_slice(&buffer[..length]);
            }
            Err(Errno::AGAIN) => {
                input.readable = false;
                return false;
            }
            Err(Errno::INTR) => {}
            Err(_) => self.close_input(),
        }
        true
    }

    fn close_input(&mut self) {
        if let Some(input) = self.input.take() {
            let _ = self.reactor.deregister(&input.fd, input.token);
        }
    }
}

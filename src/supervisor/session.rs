//! The connection of one client to one dyno.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::kernel::unix_socket;
use crate::wire::frame::{ACTIVE, CONTINUE, Frame, INTERRUPT, PROTOCOL, STOP_TYPED, closed_stream};

/// The most bytes that a client may send between two reads. dyno's own client sends a few in all; more would keep the
/// supervisor from everything else.
const MOST_AT_ONCE: usize = 64 * 1024;

/// The connection of one client to one dyno.
#[derive(Debug)]
pub struct ClientSession {
    connection: OwnedFd,
}

impl ClientSession {
    /// Answers the upgrade request that the server has read from `connection`.
    pub fn begin(connection: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&connection, true)?;
        let mut session = Self { connection };
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
        );
        session.send(head.as_bytes(), &[])?;
        Ok(session)
    }

    /// The socket, to be watched for its end.
    pub fn connection(&self) -> &OwnedFd {
        &self.connection
    }

    /// Sends a frame with its descriptors. All frames of a session together are shorter than a socket's buffer, so a
    /// send that would block is an error of the client.
    pub fn tell(&mut self, frame: &Frame, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(&frame.encode(), fds)
    }

    fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let sent = unix_socket::send(&self.connection, bytes, fds)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Reads what the client has sent since the last call.
    pub fn hear(&mut self) -> ClientReport {
        let mut news = ClientReport::default();
        let mut buffer = [0u8; 4096];
        let mut heard = 0;
        loop {
            match rustix::io::read(&self.connection, &mut buffer) {
                Ok(0) => news.gone = true,
                Ok(count) if heard + count > MOST_AT_ONCE => news.gone = true,
                Ok(count) => {
                    heard += count;
                    news.active |= buffer[..count].contains(&ACTIVE);
                    news.interrupt |= buffer[..count].contains(&INTERRUPT);
                    news.go_on |= buffer[..count].contains(&CONTINUE);
                    news.stop_typed |= buffer[..count].contains(&STOP_TYPED);
                    news.closed.extend(
                        buffer[..count]
                            .iter()
                            .filter_map(|&byte| closed_stream(byte)),
                    );
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => news.gone = true,
            }
            return news;
        }
    }
}

/// What a client has sent: see [`ClientSession::hear`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClientReport {
    /// Output streams that the client no longer reads.
    pub closed: Vec<usize>,
    /// Bytes went through since the client's last report.
    pub active: bool,
    /// The command is to be interrupted.
    pub interrupt: bool,
    /// The stopped command is to be continued.
    pub go_on: bool,
    /// Ctrl-Z was typed.
    pub stop_typed: bool,
    /// The client has closed the connection.
    pub gone: bool,
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_that_says_too_much_at_once_is_none() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let mut session = ClientSession::begin(ours.into()).unwrap();
        client.write_all(b"a2").unwrap();
        let news = session.hear();
        assert_eq!(
            (news.active, news.closed, news.gone),
            (true, vec![2], false)
        );
        client.write_all(&[0; MOST_AT_ONCE]).unwrap();
        assert!(!session.hear().gone);
        client.write_all(&[0; MOST_AT_ONCE + 1]).unwrap();
        assert!(session.hear().gone);
    }
}

//! One client on one dyno: the connection it came on, until either side is gone.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::kernel::unix_socket;
use crate::wire::frame::{ACTIVE, CONTINUE, Frame, INTERRUPT, PROTOCOL, STOP_TYPED, closed_stream};

/// What a client may have said since it was last heard, in bytes. Ours says a few in all; whoever says more would keep
/// the supervisor from everything else.
const MOST_AT_ONCE: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub struct Session {
    connection: OwnedFd,
}

impl Session {
    /// Answers the upgrade request that the server has read on `connection`.
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

    /// Sends a frame and the descriptors that belong to it. All frames of a session together are
    /// shorter than a socket's buffer: one that would block has a client that is no client.
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

    /// What the client has said since.
    pub fn hear(&mut self) -> News {
        let mut news = News::default();
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

/// See [`Session::hear`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Output streams that it does not read any more.
    pub closed: Vec<usize>,
    /// Bytes went through since it said so last.
    pub active: bool,
    /// It wants the command interrupted.
    pub interrupt: bool,
    /// The command, which has stopped, is to go on.
    pub go_on: bool,
    /// What stops programs was typed.
    pub stop_typed: bool,
    /// It has left.
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
        let mut session = Session::begin(ours.into()).unwrap();
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

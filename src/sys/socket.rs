//! What the kernel knows of a connection and no call of `rustix` asks for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How many bytes that were written to a TCP socket the other side's kernel has not acknowledged.
///
/// # Errors
/// When it is no such socket, or listens.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `fd` is open for as long as it is borrowed, and SIOCOUTQ (tcp(7), another name of TIOCOUTQ) writes one
    // int, which `bytes` is.
    let answer = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(bytes.unsigned_abs() as usize),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_was_read_is_acknowledged_and_what_nobody_takes_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"abc").unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        // Its answer brings the acknowledgement along.
        server.write_all(b"d").unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(unacknowledged(&client).unwrap(), 0);
        drop(server);
        client.write_all(b"efg").unwrap();
        assert_eq!(unacknowledged(&client).unwrap(), 3);
        assert!(unacknowledged(io::stdin()).is_err());
    }
}

//! Socket calls that `rustix` does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// How many bytes written to a TCP socket have not been acknowledged by the other side's kernel.
///
/// # Errors
/// When `socket` is not a connected TCP socket.
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

/// The process that made the other end of a Unix socket, as this process's namespaces know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProcess {
    /// Its pid; 0 if it is outside of this PID namespace. It may have ended since.
    pub pid: i32,
    /// Its uid; that of `nobody` if this user namespace does not know it.
    pub uid: u32,
}

/// Who made the other end, or began to listen for it, even if the connection has been passed on since (`SO_PEERCRED`).
///
/// # Errors
/// When `socket` is not a connected Unix socket.
pub fn peer(socket: impl AsFd) -> io::Result<PeerProcess> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    option(socket, libc::SO_PEERCRED, &mut peer)?;
    match peer.uid {
        // A socket that was never connected has none.
        u32::MAX => Err(io::ErrorKind::NotConnected.into()),
        uid => Ok(PeerProcess { pid: peer.pid, uid }),
    }
}

/// A pidfd of that process (`SO_PEERPIDFD`, Linux 6.5).
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.5, and when the process has ended and been reaped.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    option(socket, SO_PEERPIDFD, &mut fd)?;
    // SAFETY: the kernel has just made this descriptor for the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads an option of `SOL_SOCKET` whose value is a plain structure.
fn option<T: Copy>(socket: impl AsFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `fd` is open for as long as it is borrowed; the kernel writes at most `length` bytes, which `value` has, and both
    // callers' types are made of integers, for which any bits are a value.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut *value).cast(),
            &raw mut length,
        )
    };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ if length as usize != size_of::<T>() => Err(io::ErrorKind::InvalidData.into()),
        _ => Ok(()),
    }
}

/// Has a listening TCP socket drop the packets that ask for a new connection; handshakes that have begun are completed.
/// A client's kernel asks again a second later, and may then reach another socket.
///
/// # Errors
/// When the kernel refuses the filter; some allow filters to root alone.
pub fn let_no_more_connect(listener: impl AsFd) -> io::Result<()> {
    const SYN: u32 = 0x02;
    let code = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // The packet begins with the TCP header, whose byte 13 has the flags.
    let mut program = [
        code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, SYN),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        code(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: `fd` is open for as long as it is borrowed; the kernel copies the filter, whose length is that of the program.
    let answer = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as libc::socklen_t,
        )
    };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
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

    #[test]
    fn who_is_in_the_queue_stays_and_no_one_joins_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        match let_no_more_connect(&listener) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                assert!(!rustix::process::geteuid().is_root());
                let words = b"left out: this kernel takes filters of sockets from root alone\n";
                io::stderr().write_all(words).unwrap();
                return;
            }
            taken => taken.unwrap(),
        }
        let short = std::time::Duration::from_millis(100);
        let late = TcpStream::connect_timeout(&address, short).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let (mut served, _) = listener.accept().unwrap();
        early.write_all(b"a").unwrap();
        served.read_exact(&mut [0; 1]).unwrap();
        served.write_all(b"b").unwrap();
        drop(listener);
        early.read_exact(&mut [0; 1]).unwrap();
        assert!(let_no_more_connect(io::stdin()).is_err());
    }
}

//! Both sides of streams over socket pairs, with the certificates of `tls`.

use std::os::unix::net::UnixStream;
use std::path::Path;

use super::*;
use crate::wire::tls::{self, Certificate};

struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    _home: tempfile::TempDir,
}

fn configs() -> Configs {
    let home = tempfile::tempdir().unwrap();
    let own = Certificate::Own(Vec::new());
    let server = tls::server_config(home.path(), &own).unwrap();
    let ca = tls::ca_file(home.path()).unwrap();
    let client = tls::client_config(Some(&ca), Path::new("/nowhere")).unwrap();
    Configs {
        server,
        client,
        _home: home,
    }
}

fn sockets() -> (OwnedFd, OwnedFd) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a.into(), b.into())
}

/// A client's stream and the server's of it.
fn pair(configs: &Configs) -> (Stream, Stream) {
    let (ours, theirs) = sockets();
    let name = tls::server_name("localhost").unwrap();
    let client = Stream::connect(ours, Arc::clone(&configs.client), name).unwrap();
    let server = Stream::accept_either(theirs, Arc::clone(&configs.server));
    (client, server)
}

/// What the kernel would say now.
fn note(stream: &mut Stream) {
    stream.note(true, true);
}

/// One read, as of an owner that comes back when told to.
fn read(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 2 * RECORD];
    note(stream);
    loop {
        match stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(length) => return Ok(buffer[..length].to_vec()),
        }
    }
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn shake_hands(client: &mut Stream, server: &mut Stream) {
    while client.is_handshaking() || server.is_handshaking() {
        for stream in [&mut *client, &mut *server] {
            assert!(would_block(read(stream)));
        }
    }
}

#[test]
fn bytes_go_both_ways_and_end() {
    let configs = configs();
    let (mut client, mut server) = pair(&configs);
    // Written before there is anybody to read it.
    assert_eq!(client.write(b"hello").unwrap(), 5);
    assert!(!client.is_flushed());
    assert!(would_block(read(&mut server)));
    assert!(server.is_encrypted() && would_block(read(&mut client)));
    assert_eq!(read(&mut server).unwrap(), b"hello");
    assert!(client.is_flushed() && !client.is_handshaking());
    assert_eq!(server.write(b"and you").unwrap(), 7);
    server.shut_down().unwrap();
    assert_eq!(read(&mut client).unwrap(), b"and you");
    assert_eq!(read(&mut client).unwrap(), b"");
    // Half of it is open still.
    assert_eq!(client.write(b"bye").unwrap(), 3);
    client.shut_down().unwrap();
    assert_eq!(read(&mut server).unwrap(), b"bye");
    assert_eq!(read(&mut server).unwrap(), b"");
    assert!(client.into_socket().is_err());
}

#[test]
fn a_client_in_the_clear_is_served_at_the_same_door() {
    let configs = configs();
    let (ours, theirs) = sockets();
    let mut client = Stream::plain(ours);
    let mut server = Stream::accept_either(theirs, Arc::clone(&configs.server));
    assert!(would_block(read(&mut server)) && server.is_handshaking());
    client.write(b"GET /").unwrap();
    assert_eq!(read(&mut server).unwrap(), b"GET /");
    assert!(!server.is_encrypted() && !server.is_handshaking());
    server.write(b"200").unwrap();
    assert_eq!(read(&mut client).unwrap(), b"200");
    server.shut_down().unwrap();
    assert_eq!(read(&mut client).unwrap(), b"");
    assert!(client.into_socket().is_ok());

    // One that leaves without a word.
    let (ours, theirs) = sockets();
    drop(ours);
    let mut server = Stream::accept_either(theirs, Arc::clone(&configs.server));
    assert_eq!(read(&mut server).unwrap(), b"");
}

/// The lengths of what the TLS 1.3 records hold that wait in a stream's socket.
fn records(stream: &Stream) -> Vec<usize> {
    let mut wire = Vec::new();
    let mut buffer = [0; RECORD];
    while let Ok(length) = rustix::io::read(stream.socket(), &mut buffer) {
        wire.extend_from_slice(&buffer[..length]);
    }
    let (mut rest, mut lengths) = (&wire[..], Vec::new());
    while let [0x17, 3, 3, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // The type of what is inside, and the tag.
        lengths.push(length - 1 - 16);
        rest = &after[length..];
    }
    assert!(rest.is_empty());
    lengths
}

#[test]
fn each_write_is_a_record_of_its_own() {
    let configs = configs();
    let (mut client, mut server) = pair(&configs);
    shake_hands(&mut client, &mut server);
    let long = vec![b'x'; RECORD + 1];
    for part in [&b"rendezvous\r\n"[..], b"output", &long[1..], &long] {
        assert_eq!(server.write(part).unwrap(), part.len());
    }
    assert_eq!(records(&client), [12, 6, RECORD, RECORD, 1]);
}

#[test]
fn a_slow_reader_holds_one_write_up_and_no_more_is_taken() {
    let configs = configs();
    let (mut client, mut server) = pair(&configs);
    shake_hands(&mut client, &mut server);
    let text: Vec<u8> = (0..600_000u32).flat_map(u32::to_le_bytes).collect();
    let (mut sent, mut got, mut stopped) = (0, Vec::new(), false);
    while got.len() < text.len() {
        note(&mut server);
        let _ = server.flush();
        while sent < text.len() {
            match server.write(&text[sent..]) {
                Ok(length) => {
                    assert!(length <= PIECE);
                    sent += length;
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    assert!(!server.is_flushed());
                    stopped = true;
                    break;
                }
            }
        }
        if sent == text.len() {
            let _ = server.shut_down();
        }
        got.extend(read(&mut client).unwrap());
    }
    assert!(stopped && got == text);
    note(&mut server);
    server.flush().unwrap();
    assert_eq!(read(&mut client).unwrap(), b"");
}

#[test]
fn what_is_no_tls_is_an_error_and_a_stranger_is_not_believed() {
    let configs = configs();
    let (ours, theirs) = sockets();
    let mut client = Stream::plain(ours);
    let mut server = Stream::accept(theirs, Arc::clone(&configs.server)).unwrap();
    client.write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let error = read(&mut server).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    // It is told so, by an alert.
    assert_eq!(read(&mut client).unwrap()[0], 0x15);

    let other = self::configs();
    let (ours, theirs) = sockets();
    let name = tls::server_name("localhost").unwrap();
    let mut client = Stream::connect(ours, Arc::clone(&other.client), name).unwrap();
    let mut server = Stream::accept(theirs, Arc::clone(&configs.server)).unwrap();
    let _ = client.flush();
    assert!(would_block(read(&mut server)));
    let error = read(&mut client).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

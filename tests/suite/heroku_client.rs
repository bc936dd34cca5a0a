//! A client of the rendezvous that sends and reads what Heroku's CLI does, record by record.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};

use super::harness::{DEADLINE, Host};

/// What its first record is.
pub const GREETING: &[u8] = b"rendezvous\r\n";

/// The byte by which it says that its input has ended.
pub const END: &[u8] = b"\x04";

/// The line that tells the exit status, as the CLI looks for it in each record.
pub fn marker(status: u8) -> Vec<u8> {
    format!("\u{ffff} heroku-command-exit-status: {status}\n").into_bytes()
}

/// A command as the CLI sends it for `run -x`.
pub fn asking_for_status(command: &str) -> String {
    format!("{command} ; echo \"\u{ffff} heroku-command-exit-status: $?\"")
}

/// What the CLI asks for an attached dyno; `env` says whether its output is a terminal.
pub fn wish(command: &str, env: Value) -> Value {
    json!({ "attach": true, "command": command, "env": env })
}

/// The variables of one whose output is a terminal, and of one whose output is none.
pub fn window() -> Value {
    json!({ "TERM": "xterm", "COLUMNS": 100, "LINES": 30 })
}
pub fn no_window() -> Value {
    json!({ "TERM": "xterm" })
}

/// Has the server make a dyno, and says where its client is to come.
#[track_caller]
pub fn ask_for(host: &Host, target: &str, wish: &Value) -> String {
    let (status, body) = host.request("POST", target, wish);
    assert_eq!(status, 201, "{body}");
    let dyno: Value = serde_json::from_str(&body).unwrap();
    dyno["attach_url"].as_str().expect("an address").to_owned()
}

/// What is believed: the CA of a host's state folder.
pub fn config(host: &Host) -> Arc<ClientConfig> {
    config_of(&host.state().join("tls/ca.pem"))
}

pub fn config_of(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The port and the secret of an address.
pub fn parts(url: &str) -> (u16, &str) {
    let rest = url.strip_prefix("rendezvous://localhost:").unwrap();
    let (port, secret) = rest.split_once('/').unwrap();
    (port.parse().unwrap(), secret)
}

/// See the [module](self).
#[derive(Debug)]
pub struct HerokuClient {
    socket: TcpStream,
    tls: ClientConnection,
    /// What was read of the next record.
    wire: Vec<u8>,
    /// The server has said that nothing follows.
    pub ended: bool,
}

impl HerokuClient {
    /// Comes to the rendezvous and says the secret, but waits for nothing.
    pub fn meet(config: &Arc<ClientConfig>, url: &str) -> Self {
        let (port, secret) = parts(url);
        let mut client = Self::come(config, port);
        client.say(format!("{secret}\r\n").as_bytes());
        client
    }

    /// Comes to the rendezvous, and says nothing yet.
    pub fn come(config: &Arc<ClientConfig>, port: u16) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).unwrap();
        }
        Self {
            socket,
            tls,
            wire: Vec::new(),
            ended: false,
        }
    }

    /// Sends bytes in a record of their own, if they are not too many.
    #[track_caller]
    pub fn say(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).unwrap();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }

    /// The next record, as the CLI gets a chunk; None at the end.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(chunk) = self.take_record() {
                return Some(chunk);
            }
            if self.ended {
                return None;
            }
            let mut buffer = [0; 16 * 1024];
            let length = self.socket.read(&mut buffer).expect("more in time");
            assert!(length > 0, "the connection ended without close_notify");
            self.wire.extend_from_slice(&buffer[..length]);
        }
    }

    /// Decrypts one record that is there whole; None if there is none with something in it.
    fn take_record(&mut self) -> Option<Vec<u8>> {
        while let [_, _, _, high, low, ..] = self.wire[..] {
            let length = 5 + usize::from(u16::from_be_bytes([high, low]));
            if self.wire.len() < length {
                break;
            }
            let record: Vec<u8> = self.wire.drain(..length).collect();
            let mut rest = &record[..];
            while !rest.is_empty() {
                self.tls.read_tls(&mut rest).unwrap();
                self.ended |= self.tls.process_new_packets().unwrap().peer_has_closed();
            }
            let mut chunk = Vec::new();
            let _ = self.tls.reader().read_to_end(&mut chunk);
            if !chunk.is_empty() {
                return Some(chunk);
            }
        }
        None
    }

    /// Every record until the end, then leaves as the CLI does.
    #[track_caller]
    pub fn chunks(mut self) -> Vec<Vec<u8>> {
        let chunks = self.rest();
        self.leave();
        chunks
    }

    /// Every record until the end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.chunk()).collect()
    }

    /// What the CLI prints: all but the first record.
    #[track_caller]
    pub fn output(self) -> String {
        let chunks = self.chunks();
        assert_eq!(chunks.first().map(Vec::as_slice), Some(GREETING));
        String::from_utf8(chunks[1..].concat()).unwrap()
    }

    /// Reads until this was printed, and returns all until then.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let mut all = Vec::new();
        let mut so_far = String::new();
        while !so_far.contains(text) {
            let chunk = self.chunk();
            let chunk = chunk.unwrap_or_else(|| panic!("no {text:?} in {so_far:?}"));
            all.extend(chunk);
            so_far = String::from_utf8_lossy(&all).into_owned();
        }
        so_far
    }

    /// Says that it leaves, and waits until the server closes; there must be no reset.
    #[track_caller]
    pub fn leave(&mut self) {
        self.tls.send_close_notify();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
        self.socket.shutdown(Shutdown::Write).unwrap();
        let mut rest = [0; 4096];
        while self.socket.read(&mut rest).expect("no reset") > 0 {}
    }

    /// Sends until nobody takes any more.
    pub fn flood(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(500) {
            let _ = self.tls.writer().write(&[b'x'; 16 * 1024]).unwrap();
            if self.tls.write_tls(&mut self.socket).is_ok() {
                last = Instant::now();
            }
        }
        self.socket.set_nonblocking(false).unwrap();
    }

    /// Sends all of `input` and then [`END`], reads at the same time, and stops reading for a while whenever `pause`
    /// says so. The records, to the end.
    #[track_caller]
    pub fn converse(
        &mut self,
        input: &[u8],
        mut pause: impl FnMut(usize) -> Option<Duration>,
    ) -> Vec<Vec<u8>> {
        self.socket.set_nonblocking(true).unwrap();
        let all = [input, END].concat();
        let (mut said, mut heard, mut chunks) = (0, 0, Vec::new());
        let (mut resume, mut last) = (Instant::now(), Instant::now());
        let mut buffer = vec![0; 64 * 1024];
        while !self.ended {
            assert!(last.elapsed() < 2 * DEADLINE, "after {heard} bytes");
            if !self.tls.wants_write() && said < all.len() {
                // The end comes in a record of its own, as the CLI has it.
                let end = if said < input.len() {
                    input.len()
                } else {
                    all.len()
                };
                said += self.tls.writer().write(&all[said..end]).unwrap();
            }
            if self.tls.wants_write()
                && let Ok(length) = self.tls.write_tls(&mut self.socket)
                && length > 0
            {
                last = Instant::now();
            }
            let now = Instant::now();
            if now >= resume {
                match self.socket.read(&mut buffer) {
                    Ok(0) => panic!("the connection ended without close_notify"),
                    Ok(length) => {
                        last = now;
                        self.wire.extend_from_slice(&buffer[..length]);
                        while let Some(chunk) = self.take_record() {
                            heard += chunk.len();
                            chunks.push(chunk);
                        }
                        if let Some(time) = pause(heard) {
                            resume = now + time;
                        }
                    }
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
                }
            }
            self.wait(said < all.len() || self.tls.wants_write(), resume);
        }
        self.socket.set_nonblocking(false).unwrap();
        chunks
    }

    fn wait(&self, writes: bool, resume: Instant) {
        let pause = resume.saturating_duration_since(Instant::now());
        let mut flags = PollFlags::empty();
        if writes {
            flags |= PollFlags::OUT;
        }
        let reads = pause.is_zero();
        if reads {
            flags |= PollFlags::IN;
        }
        let longest = if reads {
            Duration::from_millis(100)
        } else {
            pause
        };
        let timeout = Timespec {
            tv_sec: longest.as_secs().try_into().unwrap(),
            tv_nsec: longest.subsec_nanos().into(),
        };
        let _ = rustix::event::poll(&mut [PollFd::new(&self.socket, flags)], Some(&timeout));
    }
}

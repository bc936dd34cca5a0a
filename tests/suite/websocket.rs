//! WebSockets through the router, by a client library: the cases that RFC 6455's test suites go through, each against an
//! app that keeps to the RFC, so that whatever is answered otherwise is the router's doing.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Message, WebSocket, WebSocketConfig};

use crate::harness::{DEADLINE, Host, lacks};
use crate::routing::{router, shop};

/// The largest message here: what Autobahn's goes up to.
const LARGEST: usize = 16 << 20;

fn connect(router: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(router).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let config = WebSocketConfig::default()
        .max_message_size(Some(2 * LARGEST))
        .max_frame_size(Some(2 * LARGEST));
    let url = "ws://shop.localhost/ws";
    let (socket, response) =
        tungstenite::client::client_with_config(url, stream, Some(config)).unwrap();
    assert_eq!(response.status(), 101);
    socket
}

fn echo(socket: &mut WebSocket<TcpStream>, message: Message) {
    socket.send(message.clone()).unwrap();
    let answer = socket.read().unwrap();
    assert!(
        answer == message,
        "{} bytes came back of {}",
        answer.len(),
        message.len()
    );
}

/// The code that the other side closes with.
fn closed_with(socket: &mut WebSocket<TcpStream>) -> Option<CloseCode> {
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A frame as it is on the wire, masked with zeros.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let mut bytes = match length {
        0..126 => vec![first, 0x80 | length],
        _ => vec![first, 0x80 | 126, 0, length],
    };
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn frame(opcode: OpCode, last: bool, payload: &[u8]) -> Message {
    Message::Frame(Frame::message(payload.to_vec(), opcode, last))
}

#[test]
fn messages_of_every_size_and_shape_come_back() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    shop(&host, "websocket-echo");
    let router = router(&host);
    let mut socket = connect(router);
    for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1 << 20, LARGEST] {
        echo(&mut socket, Message::text("*".repeat(length)));
        let bytes: Vec<u8> = (0..=255).cycle().take(length).collect();
        echo(&mut socket, Message::binary(bytes));
    }
    echo(&mut socket, Message::text("κόσμε \u{10ffff} \0"));
    // In pieces, with others in between.
    let text = OpCode::Data(Data::Text);
    let more = OpCode::Data(Data::Continue);
    for _ in 0..100 {
        socket.send(frame(text, false, b"frag")).unwrap();
        socket
            .send(Message::Ping(b"between".to_vec().into()))
            .unwrap();
        assert_eq!(
            socket.read().unwrap(),
            Message::Pong(b"between".to_vec().into())
        );
        socket.send(frame(more, false, b"")).unwrap();
        socket.send(frame(more, true, b"ment")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("fragment"));
    }
    // Many at once, answered in their order.
    for number in 0..500 {
        socket.write(Message::text(number.to_string())).unwrap();
    }
    socket.flush().unwrap();
    for number in 0..500 {
        assert_eq!(socket.read().unwrap(), Message::text(number.to_string()));
    }
    // Pongs that nobody asked for are nothing.
    socket
        .send(Message::Pong(b"alone".to_vec().into()))
        .unwrap();
    for length in [0, 1, 125] {
        let payload = vec![0xfe; length];
        socket.send(Message::Ping(payload.clone().into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong(payload.into()));
    }
    socket.close(None).unwrap();
    assert_eq!(closed_with(&mut socket), None);
}

#[test]
fn whoever_breaks_the_protocol_is_told_by_the_app_and_nobody_else() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    shop(&host, "websocket-echo");
    let router = router(&host);
    // The first byte of a frame: its last, three reserved bits, its opcode.
    let cases: [(&str, u8, &[u8], CloseCode); 8] = [
        ("a reserved bit", 0xc1, b"x", CloseCode::Protocol),
        (
            "a kind of data that is none",
            0x83,
            b"x",
            CloseCode::Protocol,
        ),
        (
            "a kind of control that is none",
            0x8b,
            b"x",
            CloseCode::Protocol,
        ),
        ("a continuation of nothing", 0x80, b"x", CloseCode::Protocol),
        (
            "a ping that is too long",
            0x89,
            &[0; 126],
            CloseCode::Protocol,
        ),
        ("a ping in pieces", 0x09, b"x", CloseCode::Protocol),
        (
            "text that is none",
            0x81,
            b"\xce\xba\xff",
            CloseCode::Invalid,
        ),
        ("half a code", 0x88, b"x", CloseCode::Protocol),
    ];
    for (what, first, payload, code) in cases {
        let mut socket = connect(router);
        socket.get_mut().write_all(&raw(first, payload)).unwrap();
        assert_eq!(closed_with(&mut socket), Some(code), "{what}");
    }
}

#[test]
fn a_close_is_answered_with_its_code() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    shop(&host, "websocket-echo");
    let router = router(&host);
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        let mut socket = connect(router);
        let code = CloseCode::from(code);
        let reason = "because".into();
        socket.close(Some(CloseFrame { code, reason })).unwrap();
        assert_eq!(closed_with(&mut socket), Some(code));
        // And then the connection ends.
        assert!(matches!(
            socket.read(),
            Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed)
        ));
    }
}

#[test]
fn many_talk_at_once() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    shop(&host, "websocket-echo");
    let router = router(&host);
    thread::scope(|scope| {
        for talker in 0..32 {
            scope.spawn(move || {
                let mut socket = connect(router);
                for turn in 0..50 {
                    echo(
                        &mut socket,
                        Message::text(format!("{talker} {turn} ").repeat(turn * 20)),
                    );
                }
            });
        }
    });
}

#[test]
fn a_client_that_is_gone_is_noticed_by_the_app() {
    if lacks("python3") {
        return;
    }
    let host = Host::new();
    shop(&host, "websocket-echo");
    let mut socket = connect(router(&host));
    echo(&mut socket, Message::text("here"));
    drop(socket);
    host.wait_for_log("app[web.1]: peer gone");
}

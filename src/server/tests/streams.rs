//! Responses that come bit by bit.

use super::*;

impl Server {
    fn tell(&self, path: &str, body: &str) {
        let length = body.len();
        let mut client = self.client();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(client.response().0, 200);
    }
}

impl Client {
    /// Reads until what has come ends with `text`, and forgets it all.
    fn wait_for(&mut self, text: &str) {
        while !self.bytes.ends_with(text.as_bytes()) {
            assert!(self.read() > 0, "the end instead of {text:?}");
        }
        self.bytes.clear();
    }

    /// Reads to the end of the connection.
    fn rest(&mut self) -> Vec<u8> {
        while self.read() > 0 {}
        std::mem::take(&mut self.bytes)
    }
}

#[test]
fn pieces_come_as_they_are_made_and_the_connection_goes_on() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    client.send("GET /tail HTTP/1.1\r\nHost: a\r\n\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wait_for("Transfer-Encoding: chunked\r\n\r\n");
    for piece in ["one", "two"] {
        server.tell("/say", piece);
        client.wait_for(&format!("3\r\n{piece}\r\n"));
    }
    server.tell("/say", "");
    server.tell("/end", "");
    // The request that waited behind it is answered now.
    while client.bytes.len() < 5 {
        assert!(client.read() > 0);
    }
    assert_eq!(client.bytes.drain(..5).collect::<Vec<_>>(), b"0\r\n\r\n");
    assert_eq!(client.response().1, "pong");
    assert_eq!(client.get("/streams"), "0 open, 0 pieces");
}

#[test]
fn a_flood_leaves_room_for_others() {
    let server = Server::start(ConnectionLimits::default());
    let mut reader = server.client();
    reader.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut received = 0;
    while received < 32 << 20 {
        received += reader.read();
        reader.bytes.clear();
        if received % 8 == 0 {
            assert_eq!(server.client().get("/ping"), "pong");
        }
    }
}

#[test]
fn a_reader_that_takes_nothing_has_one_piece_waiting_and_is_hung_up_on() {
    let server = Server::start(ConnectionLimits {
        write_time: Duration::from_millis(100),
        ..ConnectionLimits::default()
    });
    let mut client = server.client();
    client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for("/streams", "1 open");
    server.wait_for("/streams", "0 open");
    // What fits into the socket, and the piece that waited here.
    let received = client.rest().len();
    assert!((1..1 << 20).contains(&received), "{received}");
}

#[test]
fn one_that_has_nothing_to_say_stays_open() {
    let idle_time = Duration::from_millis(100);
    let server = Server::start(ConnectionLimits {
        idle_time,
        write_time: idle_time,
        ..ConnectionLimits::default()
    });
    let mut client = server.client();
    client.send("GET /tail HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wait_for("\r\n\r\n");
    for _ in 0..3 {
        // Each of these waits for as long as an idle connection may.
        assert!(server.client().ended());
    }
    server.tell("/say", "still here");
    client.wait_for("still here\r\n");
}

#[test]
fn a_client_that_leaves_is_noticed_without_a_piece() {
    let server = Server::start(ConnectionLimits::default());
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("GET /tail HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.wait_for("/streams", "3 open");
    clients.pop();
    server.wait_for("/streams", "2 open");
    // One that only says that it will ask for nothing more still listens.
    clients[0].stream.shutdown(Shutdown::Write).unwrap();
    clients.pop();
    server.wait_for("/streams", "1 open");
    server.tell("/say", "you");
    clients[0].wait_for("you\r\n");
}

#[test]
fn a_stream_that_nobody_waits_for_any_more_is_not_begun() {
    let server = Server::start(ConnectionLimits::default());
    server
        .client()
        .send("GET /tail/slow HTTP/1.1\r\nHost: a\r\n\r\n");
    server.wait_for_counts("1 gone");
    server.gate.as_ref().unwrap().send(()).unwrap();
    server.wait_for_counts("2 gone");
    server.wait_for("/streams", "0 open");
}

#[test]
fn head_gets_the_head_and_an_old_client_everything_until_the_end() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    client.send("HEAD /tail HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wait_for("Transfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.get("/streams"), "0 open, 0 pieces");

    let mut old = server.client();
    old.send("GET /tail HTTP/1.0\r\n\r\n");
    old.wait_for("Connection: close\r\n\r\n");
    server.tell("/say", "plain");
    server.tell("/end", "");
    assert_eq!(old.rest(), b"plain");
}

#[test]
fn stopping_cuts_a_stream_off_and_does_not_wait_for_it() {
    let server = Server::start(ConnectionLimits {
        stop_time: PATIENCE,
        ..ConnectionLimits::default()
    });
    let mut client = server.client();
    client.send("GET /tail HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wait_for("\r\n\r\n");
    server.tell("/say", "before");
    client.wait_for("6\r\nbefore\r\n");
    let begun = Instant::now();
    drop(server);
    assert!(begun.elapsed() < PATIENCE / 2);
    // No last chunk: the client knows that it has not seen the end.
    assert_eq!(client.rest(), b"");
}

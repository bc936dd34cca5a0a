//! Bodies: as a whole, streamed to a worker, too long, broken off.

use super::*;

/// What the digest of `length` bytes of `a` is answered as.
fn digest(length: usize) -> String {
    let mut hash = Sha256::new();
    let block = vec![b'a'; 1 << 20];
    for _ in 0..length >> 20 {
        hash.update(&block);
    }
    format!("{length} {:x?}", hash.finalize())
}

#[test]
fn a_body_over_the_bound_is_refused() {
    let server = Server::start(ConnectionLimits::default());
    let mut declared = server.client();
    declared.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n");
    assert_eq!(declared.response().0, 413);
    assert!(declared.ended());

    let mut chunked = server.client();
    chunked.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    for _ in 0..16 {
        chunked.send(&chunk);
    }
    let _ = chunked.stream.write_all(b"1\r\na\r\n0\r\n\r\n");
    let (status, body) = chunked.response();
    assert_eq!((status, body.contains("content_too_large")), (413, true));

    let mut exact = server.client();
    exact.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n");
    exact.send("a".repeat(1 << 20));
    assert_eq!(exact.response().1.len(), 1 << 20);
    assert_eq!(exact.get("/ping"), "pong");
}

#[test]
fn a_big_upload_waits_for_its_worker_and_arrives_whole() {
    const LENGTH: usize = 100 << 20;
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    client.send(format!(
        "PUT /blob/slow HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
    ));

    // The worker waits at the gate: what is taken meanwhile is all that is ever held in memory.
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let block = vec![b'a'; 1 << 20];
    let mut sent = 0;
    while let Ok(length) = client.stream.write(&block) {
        sent += length;
        assert!(
            sent < 4 << 20,
            "the server takes more than a bounded channel holds"
        );
    }
    assert_eq!(server.client().get("/ping"), "pong");
    server.gate.as_ref().unwrap().send(()).unwrap();
    client.stream.set_write_timeout(None).unwrap();
    while sent < LENGTH {
        sent += client
            .stream
            .write(&block[..block.len().min(LENGTH - sent)])
            .unwrap();
    }
    assert_eq!(client.response(), (200, digest(LENGTH)));
    assert_eq!(client.get("/ping"), "pong");
}

#[test]
fn an_upload_in_chunks_arrives_whole() {
    let server = Server::start(ConnectionLimits::default());
    let mut client = server.client();
    client.send("PUT /blob HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.response().0, 100);
    for _ in 0..32 {
        client.send(format!("8000\r\n{}\r\n", "a".repeat(0x8000)));
    }
    client.send("0\r\n\r\nGET /ping HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response(), (200, digest(1 << 20)));
    assert_eq!(client.response().1, "pong");
    client.send("PUT /blob HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response(), (200, digest(0)));
}

#[test]
fn an_upload_that_breaks_off_is_an_error_for_its_worker_only() {
    let server = Server::start(ConnectionLimits {
        workers: 1,
        ..ConnectionLimits::default()
    });
    for _ in 0..3 {
        server
            .client()
            .send("PUT /blob HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    }
    server.wait_for_counts("3 gone");
    let mut broken = server.client();
    broken.send("PUT /blob HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeX");
    assert_eq!(broken.response().0, 400);
    let mut client = server.client();
    client.send("PUT /blob HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response(), (200, digest(0)));
}

#[test]
fn an_answer_before_the_end_of_an_upload_reaches_the_client() {
    let server = Server::start(ConnectionLimits::default());
    for path in ["/blob/unread", "/blob/refused"] {
        let mut client = server.client();
        client.send(format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"
        ));
        // Much more than a socket holds.
        for _ in 0..90 {
            if client.stream.write_all(&[b'a'; 10_000]).is_err() {
                break;
            }
        }
        let (status, body) = client.response();
        assert!(
            (status, &*body) == (200, "enough") || status == 404,
            "{status} {body}"
        );
    }
}

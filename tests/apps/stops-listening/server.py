"""Listens on $PORT, answers each request with $DYNO; after GET /close it lives on and listens no more, until SIGUSR1 lets it
listen again. `pid` has its number."""

import os
import signal
import socket

with open("pid", "w") as file:
    file.write(str(os.getpid()))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


def serve():
    """Answers until it is told to close."""
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536)
            body = os.environ["DYNO"].encode() + b"\n"
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)
            if request.startswith(b"GET /close "):
                return listener.close()


while True:
    serve()
    print("closed", flush=True)
    signal.sigwait([signal.SIGUSR1])

#!/usr/bin/env python3
"""Clients in large numbers, for bench/load.sh.

    bench/load.py hold HOST PORT COUNT          connections that say nothing, until standard input ends
    bench/load.py echo COUNT SECONDS COMMAND... so many commands at once that echo a line each; five lines a second to each

`hold` prints how many were taken within ten seconds, and again how many are still open when it ends. `echo` prints the median and the
99th percentile of the time from a line to its echo, in microseconds, and how many lines were echoed.
"""

import os
import resource
import select
import selectors
import socket
import subprocess
import sys
import time

PATIENCE = 60
PAUSE = 0.2


def hold(host: str, port: int, count: int) -> None:
    waiting, held = selectors.DefaultSelector(), []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((host, port))
        waiting.register(client, selectors.EVENT_WRITE)
        held.append(client)
    taken, deadline = 0, time.monotonic() + 10
    while taken < count and time.monotonic() < deadline:
        for key, _ in waiting.select(0.1):
            waiting.unregister(key.fileobj)
            taken += key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    print(taken, flush=True)
    sys.stdin.read()

    def is_open(client: socket.socket) -> bool:
        try:
            return client.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    print(sum(map(is_open, held)), flush=True)


def echo(count: int, seconds: float, command: list[str]) -> None:
    def start() -> subprocess.Popen:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    sessions = []
    # A few begin at a time, as they would in life.
    while len(sessions) < count:
        new = [start() for _ in range(min(8, count - len(sessions)))]
        for session in new:
            session.stdin.write(b"ready\n")
        for session in new:
            ready, _, _ = select.select([session.stdout], [], [], PATIENCE)
            if not ready or session.stdout.read(6) != b"ready\n":
                raise SystemExit(f"no echo from {command[0]}")
        sessions += new
    print("ready", flush=True)
    sys.stdin.readline()
    poll = selectors.DefaultSelector()
    for session in sessions:
        poll.register(session.stdout, selectors.EVENT_READ)
    begin = time.monotonic()
    # Each has its turn in the pause, so that they are not one burst.
    due = {session.stdout: begin + PAUSE * number / count for number, session in enumerate(sessions)}
    into = {session.stdout: session.stdin for session in sessions}
    sent, times = {}, []
    while time.monotonic() < begin + seconds or sent:
        now = time.monotonic()
        if now > begin + seconds + PATIENCE:
            raise SystemExit("a line was not echoed")
        for out, at in due.items():
            if at <= now < begin + seconds and out not in sent:
                sent[out] = time.perf_counter()
                into[out].write(b"a line\n")
                due[out] = at + PAUSE
        for key, _ in poll.select(0.002):
            os.read(key.fd, 4096)
            times.append(time.perf_counter() - sent.pop(key.fileobj))
    for session in sessions:
        session.stdin.close()
    status = [session.wait() for session in sessions]
    if any(status):
        raise SystemExit(f"{sum(map(bool, status))} of {count} sessions failed")
    times.sort()
    print(f"{times[len(times) // 2] * 1e6:.0f} {times[len(times) * 99 // 100] * 1e6:.0f} {len(times)}")


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "hold":
        hold(arguments[0], int(arguments[1]), int(arguments[2]))
    else:
        echo(int(arguments[0]), float(arguments[1]), arguments[2:])


main()

#!/usr/bin/env python3
"""Types into a command, key by key, and measures how long each takes until its echo.

    bench/keystrokes.py KEYS FIRST COMMAND [ARGUMENT...]

FIRST is typed first, with a line feed, unless it is empty. The first keys are not counted. Prints the median and the
99th percentile in microseconds. COMMAND has pipes, is to lead to a program on a terminal, which echoes, and is ended
when all is done.
"""

import os
import select
import subprocess
import sys
import time

WARM_UP = 50
PATIENCE = 10
PAUSE = 0.002


def main() -> int:
    keys, first, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        into, out = process.stdin.fileno(), process.stdout.fileno()

        def read() -> bytes:
            ready, _, _ = select.select([out], [], [], PATIENCE)
            piece = os.read(out, 1 << 16) if ready else b""
            if not piece:
                raise SystemExit(f"no echo from {command[0]}")
            return piece

        if first:
            os.write(into, first.encode() + b"\n")
        heard = b""
        while b"ready" not in heard:
            heard += read()
        times = []
        for number in range(WARM_UP + keys):
            # A letter that is not in what was said before; each is awaited, so none is taken for another.
            key = b"xyz"[number % 3 : number % 3 + 1]
            time.sleep(PAUSE)
            start = time.perf_counter()
            os.write(into, key)
            while key not in read():
                pass
            times.append(time.perf_counter() - start)
            if number % 60 == 59:
                # A terminal takes no line without an end.
                os.write(into, b"\r" if first else b"\n")
                heard = b""
                while heard.count(b"\n") < 2:
                    heard += read()
        process.kill()
    times = sorted(times[WARM_UP:])
    print(f"{times[len(times) // 2] * 1e6:.0f} {times[len(times) * 99 // 100] * 1e6:.0f}")
    return 0


sys.exit(main())

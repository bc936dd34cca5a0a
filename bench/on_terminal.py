#!/usr/bin/env python3
"""Runs a command on a terminal of its own and reads what it prints as fast as it can.

    bench/on_terminal.py COMMAND [ARGUMENT...]

Prints the seconds from start to end and the number of bytes; exits as the command did.
"""

import os
import pty
import sys
import time


def main() -> int:
    start = time.monotonic()
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    count = 0
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # EIO: nobody has the terminal any more
            break
        if not piece:
            break
        count += len(piece)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(f"{time.monotonic() - start:.6f} {count}")
    return status if status >= 0 else 128 - status


sys.exit(main())

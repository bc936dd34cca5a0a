"""Crashes the first $CRASHES times that it is started, and serves from then on.

Nothing that it could write down outlives its dyno, so a process outside counts: the one that listens on 127.0.0.1 at
$COUNTER_PORT says in a line which start this is, from 1 on.
"""

import os
import socket
import sys

import web

with socket.create_connection(("127.0.0.1", int(os.environ["COUNTER_PORT"])), timeout=20) as counter:
    start = int(counter.makefile().readline())
if start <= int(os.environ.get("CRASHES", "3")):
    print(f"start {start}: crashing", flush=True)
    sys.exit(1)
print(f"start {start}: serving", flush=True)
web.serve()

"""Runs, and never listens on $PORT."""

import signal

print("not listening", flush=True)
while True:
    signal.pause()

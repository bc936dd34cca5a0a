"""A process of the host that is not to be reached: it writes each signal that comes to a file.

    victim.py MARK FILE
"""

import os
import signal
import sys
import time

log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def note(number, frame):
    os.write(log, f"{signal.Signals(number).name}\n".encode())


for number in (signal.SIGWINCH, signal.SIGURG, signal.SIGIO, signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, note)
os.write(1, b"ready\n")
while True:
    time.sleep(3600)

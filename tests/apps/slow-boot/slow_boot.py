"""Listens on $PORT only after $DELAY seconds."""

import os
import time

import web

print("booting", flush=True)
time.sleep(float(os.environ.get("DELAY", "3")))
web.serve()

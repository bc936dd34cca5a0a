"""A web server that SIGTERM cannot end."""

import signal

import web

signal.signal(signal.SIGTERM, lambda *_: print("SIGTERM ignored", flush=True))
web.serve()

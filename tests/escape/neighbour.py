"""Another sandbox beside the one of the attempts: it has a secret in many places, and waits until its input ends.

    neighbour.py MARK NAME SECRET
"""

import ctypes
import json
import os
import socket
import sys
import threading

_, mark, name, secret = sys.argv
ready = {"port": None, "key": None}


def serve(listener):
    while True:
        client, _ = listener.accept()
        client.sendall(secret.encode())
        client.close()


for folder in ("/tmp", "/dev/shm"):
    try:
        with open(f"{folder}/{name}", "w") as file:
            file.write(secret)
    except OSError:
        pass
listeners = []
try:
    listeners.append(socket.create_server(("127.0.0.1", int(os.environ.get("PORT", 0)))))
    ready["port"] = listeners[0].getsockname()[1]
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + name)
    abstract.listen()
    listeners.append(abstract)
except OSError:
    pass
for listener in listeners:
    threading.Thread(target=serve, args=[listener], daemon=True).start()
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
key = int.from_bytes(os.urandom(3), "little") + 1
segment = libc.shmget(key, 4096, 0o1666)
if segment >= 0:
    ctypes.memmove(libc.shmat(segment, None, 0), secret.encode(), len(secret))
    ready["key"] = key
print("@@" + json.dumps(ready), flush=True)
sys.stdin.read()
libc.shmctl(segment, 0, None)
for folder in ("/tmp", "/dev/shm"):
    try:
        os.unlink(f"{folder}/{name}")
    except OSError:
        pass

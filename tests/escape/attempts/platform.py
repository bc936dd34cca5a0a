"""What belongs to the platform itself. Outside of any sandbox a server of dyno's runs beside the attempts."""

import fcntl
import os
import socket

from inside import Held, NotHere, attempt, each, facts, outside, read


def platform(name):
    if not facts["platform"].get(name):
        raise NotHere("there is no such thing beside this sandbox")
    return facts["platform"][name]


@attempt("The socket of the platform's daemon cannot be talked to by its path")
def daemon_socket():
    with socket.socket(socket.AF_UNIX) as it:
        it.settimeout(3)
        it.connect(platform("socket"))
        it.sendall(b"GET /apps HTTP/1.1\r\nHost: x\r\nAccept: application/vnd.heroku+json; version=3\r\nConnection: close\r\n\r\n")
        return it.recv(100).decode()


@attempt("The state of the platform cannot be read, in which all apps' config vars are")
def state():
    with open(platform("state"), "rb") as file:
        return file.read(15).decode()


@attempt("Nothing of the platform's folder can be listed")
def state_folder():
    return os.listdir(os.path.dirname(platform("state")))


@attempt("No socket of the platform's that /proc/net/unix tells of can be talked to")
def daemon_sockets():
    folder = os.path.dirname(platform("state"))
    paths = [line.split()[7] for line in read("/proc/net/unix", 1 << 22).splitlines()[1:] if len(line.split()) > 7]

    def one(path):
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as it:
                it.settimeout(2)
                try:
                    it.connect(path)
                except OSError:
                    continue
                return path
        raise PermissionError(1, "")

    return each([path for path in paths if path.startswith(folder) or path.startswith("@" + folder)], one)


@attempt("What is claimed for other apps (ports, users) cannot be claimed anew")
def claims():
    folder = platform("claims")
    if not outside("is there", folder):
        raise NotHere("nothing is claimed")
    return os.listdir(folder)


@attempt("The platform's server cannot be ended")
def end_the_server():
    pid = platform("pid")
    if "dyno" not in read(f"/proc/{pid}/cmdline"):
        raise Held("it is another's number")
    os.kill(pid, 0)
    return f"process {pid}"


def takes(name):
    port = platform(name)
    outside("stop the server")
    try:
        with socket.socket() as it:
            it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            it.bind((facts["platform"]["address of " + name], port))
            it.listen()
            it.settimeout(1)
            outside("connects to", port, facts["platform"]["address of " + name])
            # Else it is a port of its own, or its supervisor has it.
            it.accept()
            return f"a client came to port {port}"
    finally:
        outside("start the server")


@attempt("While the platform's server is away nobody takes its API's port, to which clients send tokens")
def api_port():
    return takes("api port")


@attempt("While the platform's server is away nobody takes its router's port, to which visitors send passwords")
def router_port():
    return takes("router port")

"""Unix sockets of the host."""

import errno
import os
import socket

from inside import Held, NotHere, attempt, each, facts, outside, read


def said(address, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as it:
        it.settimeout(3)
        it.connect(address)
        return it.recv(4096).decode()


@attempt("Abstract sockets of the host, as X servers and some session buses have, cannot be talked to", secret="abstract")
def abstract():
    return said("\0" + facts["abstract name"])


@attempt("The same by datagrams")
def abstract_datagram():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as it:
        it.sendto(b"escaped", "\0" + facts["abstract datagram name"])
    return outside("abstract datagram")


@attempt("Abstract sockets of the neighbour cannot be talked to", secret="neighbour abstract")
def neighbour_s_abstract():
    return said("\0" + facts["neighbour name"])


@attempt("The names of abstract sockets are the sandbox's own: none can be taken from the host")
def abstract_names():
    with socket.socket(socket.AF_UNIX) as it:
        try:
            it.bind("\0" + facts["abstract name"])
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "the host's name is met"
            raise
    raise Held("a name of its own")


@attempt("A socket in the host's /tmp cannot be talked to", secret="socket file")
def in_tmp():
    return said(facts["tmp folder"] + "/socket")


@attempt("No socket that /proc/net/unix tells of can be talked to", secret="socket file")
def listed():
    paths = [line.split()[7] for line in read("/proc/net/unix", 1 << 22).splitlines()[1:] if len(line.split()) > 7]
    wanted = [path for path in paths if facts["name"] in path and path.startswith("/")]
    return each(wanted, said)


@attempt("Daemons of the host in /run cannot be talked to")
def in_run():
    def one(path):
        with socket.socket(socket.AF_UNIX) as it:
            it.settimeout(1)
            it.connect(path)
            return path

    usual = ["/run/dbus/system_bus_socket", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/journal/stdout",
             "/run/systemd/private", "/run/udev/control", "/run/user/%d/bus" % os.getuid(), "/var/run/nscd/socket", *facts["daemons"]]
    return each(usual, one)

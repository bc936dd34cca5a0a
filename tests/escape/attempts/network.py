"""The host's network, its ports, and what else sockets reach."""

import errno
import os
import socket
import struct

from inside import Held, NotHere, attempt, call, each, facts, in_user_namespace, outside, read

REFUSED = (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT)


def said(address, family=socket.AF_INET):
    with socket.socket(family) as it:
        it.settimeout(3)
        it.connect(address)
        return it.recv(4096).decode()


@attempt("What listens on the host's loopback address alone cannot be talked to", secret="loopback")
def loopback():
    return said(("127.0.0.1", facts["port"]))


@attempt("The same by IPv6", secret="loopback")
def loopback_6():
    if not facts["port 6"]:
        raise NotHere("no IPv6 on the host")
    return said(("::1", facts["port 6"]), socket.AF_INET6)


@attempt("A datagram does not come to what listens on the host's loopback address")
def datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as it:
        it.sendto(b"escaped", ("127.0.0.1", facts["datagram port"]))
    return outside("datagram")


@attempt("What the neighbour listens on cannot be talked to directly", secret="neighbour port")
def neighbour_s_port():
    if not facts["neighbour port"]:
        raise NotHere("it listens on none")
    return said(("127.0.0.1", facts["neighbour port"]))


@attempt("No port of the host's can be listened on but the sandbox's own")
def listen():
    with socket.create_server(("127.0.0.1", facts["free port"])):
        return outside("connects to", facts["free port"]) and "the host connected"


@attempt("A client that asks `localhost` for a service of the host does not come to a sandbox on [::1]")
def shadow():
    with socket.create_server(("::1", facts["port"]), family=socket.AF_INET6):
        return outside("connects by IPv6 to", facts["port"]) and "the host connected"


@attempt("No sandbox listens beside a service that shares its port (SO_REUSEPORT)")
def beside():
    with socket.socket() as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        it.bind(("127.0.0.1", facts["shared port"]))
        it.listen()
        it.settimeout(2)
        for _ in range(64):
            outside("connects to", facts["shared port"])
        it.settimeout(0.2)
        it.accept()
        return "a client of the host's came"


@attempt("Packets cannot be made or read raw (IP)")
def raw():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    return "a raw socket"


@attempt("Packets cannot be made or read raw (link)")
def packets():
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    return "a packet socket"


@attempt("The same as root of user and network namespaces of its own")
def packets_in_a_namespace():
    return in_user_namespace(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) and "a packet socket", 0x40000000)


@attempt("The packet filter is not reached, in which many faults were")
def filters():
    return in_user_namespace(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) and "a netfilter socket", 0x40000000)


@attempt("Interfaces cannot be changed")
def interfaces_change():
    it = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    it.bind((0, 0))
    # RTM_NEWLINK on the loopback interface that changes nothing.
    body = struct.pack("BxHiII", 0, 0, 1, 0, 0)
    it.send(struct.pack("IHHII", 16 + len(body), 16, 5, 1, 0) + body)
    number = struct.unpack("i", it.recv(4096)[16:20])[0]
    if number:
        raise OSError(-number, os.strerror(-number))
    return "done"


def family(name, number, kind, protocol=0):
    @attempt(f"No socket of {name}", name="family-" + name.split("(")[0].strip().lower().replace(" ", "-").replace("'", ""))
    def one():
        try:
            socket.socket(number, kind, protocol).close()
        except OSError as error:
            if error.errno in REFUSED:
                raise
            if error.errno == errno.EPROTONOSUPPORT and number != 16:
                return "its code was asked"
            raise NotHere(f"the kernel says {errno.errorcode[error.errno]}")
        return "made"


family("a hypervisor (vsock)", 40, 1)
family("the kernel's ciphers (alg)", 38, 5)
family("device events (uevent)", 16, 3, 15)
family("the audit log", 16, 3, 9)
family("others' sockets (sock_diag)", 16, 3, 4)
family("the kernel's connector", 16, 3, 11)
family("generic netlink", 16, 3, 16)
family("packets past the kernel (XDP)", 44, 3)
family("IPsec's keys", 15, 3, 2)


@attempt("No socket of rarely used families (Bluetooth, CAN, TIPC, RDS, SMC, …), whose modules are loaded on demand")
def rare_families():
    made = []
    for number in range(3, 46):
        if number in (10, 16, 17, 38, 40, 44, 15):
            continue
        for kind in (1, 2, 3, 5):
            try:
                socket.socket(number, kind).close()
                made.append(number)
                break
            except OSError:
                pass
    return made


@attempt("Which interfaces and addresses the host has is not seen")
def interfaces():
    seen = sorted(name for _, name in socket.if_nameindex())
    return seen == outside("interfaces") and seen


@attempt("Which connections the host has is not seen")
def connections():
    return each(["/proc/net/tcp"], lambda path: f":{facts['port']:04X} " in read(path, 1 << 20) and "the host's listener is in /proc/net/tcp")


@attempt("Other programs' sockets are not listed by /proc/net/unix")
def unix_sockets():
    return each(["/proc/net/unix"], lambda path: facts["abstract name"] in read(path, 1 << 22) and "the host's socket is in it")


@attempt("Nothing that the person's other programs trust `localhost` for: all ports that listen are the sandbox's own")
def port_scan():
    for port in outside("listening ports"):
        with socket.socket() as it:
            it.settimeout(0.5)
            if it.connect_ex(("127.0.0.1", port)) == 0:
                return f"port {port} answers"
    raise Held("none answers")

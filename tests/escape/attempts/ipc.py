"""Shared memory, semaphores, message queues and the kernel's keys."""

import ctypes
import os

from inside import Held, NotHere, attempt, call, facts, libc, outside, read


def error():
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attach(key):
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(key, 0, 0)
    if segment < 0:
        raise error()
    place = libc.shmat(segment, None, 0o10000)
    if place in (None, ctypes.c_void_p(-1).value):
        raise error()
    return ctypes.string_at(place, 200).decode(errors="replace")


@attempt("Shared memory of the host cannot be attached", secret="shared memory")
def shared_memory():
    return attach(facts["shared memory key"])


@attempt("Shared memory of the neighbour cannot be attached", secret="neighbour shared memory")
def neighbour_s_shared_memory():
    if not facts["neighbour key"]:
        raise NotHere("it has none")
    return attach(facts["neighbour key"])


@attempt("Shared memory of the host is not listed (/proc/sysvipc)")
def list_shared_memory():
    return str(facts["shared memory key"]) in read("/proc/sysvipc/shm") and "listed"


@attempt("Semaphores of the host cannot be had")
def semaphores():
    if libc.semget(facts["shared memory key"], 0, 0) < 0:
        raise error()
    return "had"


@attempt("Messages of the host cannot be taken", secret="message")
def messages():
    queue = libc.msgget(facts["shared memory key"], 0)
    if queue < 0:
        raise error()
    room = ctypes.create_string_buffer(300)
    # IPC_NOWAIT; it is put back by the host.
    if libc.msgrcv(queue, room, 200, ctypes.c_long(0), 0o4000) < 0:
        raise error()
    return room.raw.decode(errors="replace")


@attempt("POSIX message queues of the host cannot be opened")
def message_queue():
    return call(240, facts["message queue"].encode(), os.O_RDONLY, 0, 0) >= 0 and "opened"


@attempt("POSIX shared memory of the host cannot be read", secret="posix shared memory")
def posix_shared_memory():
    return read("/dev/shm/" + facts["posix shared memory"])


def key_of(serial):
    room = ctypes.create_string_buffer(300)
    # KEYCTL_READ
    length = call(250, 11, serial, room, 300)
    return room.raw[:length].decode()


@attempt("A key of the host's user cannot be found by its name", secret="key")
def key_by_name():
    if not facts["key"]:
        raise NotHere("the host's user has no keys")
    # KEYCTL_SEARCH in the user's keyring.
    return key_of(call(250, 10, -4, b"user", facts["key name"].encode(), 0))


@attempt("A key of the host's user cannot be read by its number", secret="key")
def key_by_number():
    if not facts["key"]:
        raise NotHere("the host's user has no keys")
    return key_of(facts["key"])


@attempt("The session keyring of the host's user cannot be joined or linked")
def keyrings():
    # KEYCTL_GET_KEYRING_ID of the user's session keyring, made if it is not there.
    return call(250, 0, -5, 1)


@attempt("Programs of the host cannot be made to look for a key (request_key)")
def key_upcall():
    try:
        call(249, b"user", b"escape-none", b"escape", 0)
    except PermissionError:
        raise
    except OSError as error:
        return f"the kernel looked: {error}"
    return "found"

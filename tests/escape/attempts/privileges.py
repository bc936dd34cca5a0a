"""Becoming more than one was."""

import ctypes
import os
import stat
import struct

from inside import Held, NotHere, attempt, call, facts, in_child, in_user_namespace, libc, outside, read


def status(name, file="/proc/self/status"):
    return next(line.split()[1] for line in read(file).splitlines() if line.startswith(name + ":"))


@attempt("It is not the host's root, whatever it is called inside")
def host_s_root():
    return outside("user of", facts["run mark"]) == 0 and "uid 0 on the host"


@attempt("It is not the user on the host whose files it is kept from")
def host_s_user():
    return outside("user of", facts["run mark"]) == outside("user") and "the same uid on the host"


@attempt("A process cannot become root")
def become_root():
    def work():
        os.setresuid(0, 0, 0)
        return "root" if os.getuid() == 0 else ""

    return in_child(work)


@attempt("A process cannot become another user")
def become_another():
    def work():
        other = os.getuid() + 1
        os.setresuid(other, other, other)
        return f"user {other}"

    return in_child(work)


@attempt("A process cannot join a group")
def join_a_group():
    def work():
        os.setgroups([0, 6, 42])
        return "groups"

    return in_child(work)


@attempt("A process has no capability")
def capabilities():
    return int(status("CapEff"), 16) and status("CapEff")


@attempt("No program can give a process a capability (the bounding set is empty)")
def bounding_set():
    return int(status("CapBnd"), 16) and status("CapBnd")


@attempt("No program gives privilege (no_new_privs)")
def no_new_privileges():
    return status("NoNewPrivs") == "0" and "it would"


@attempt("Nobody becomes root of a user namespace of its own, with all capabilities in it")
def root_of_a_namespace():
    return in_user_namespace(lambda: int(status("CapEff"), 16) and status("CapEff"))


@attempt("A file cannot be given to another user")
def give_away():
    open("given", "w").close()
    os.chown("given", os.getuid() + 1, -1)
    return "given"


@attempt("A program cannot be given capabilities")
def file_capabilities():
    open("capable", "w").close()
    os.setxattr("capable", "security.capability", struct.pack("<IIIII", 0x2000000, 1 << 21, 0, 0, 0))
    return "CAP_SYS_ADMIN"


@attempt("No capability of the parent's is passed on (ambient)")
def ambient():
    def work():
        # All that is permitted becomes inheritable, as it must be.
        header, sets = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
        call(125, header, sets)
        words = list(struct.unpack("6I", sets.raw))
        words[2], words[5] = words[1], words[4]
        call(126, header, struct.pack("6I", *words))
        # PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN.
        call(157, 47, 2, 0, 0, 0)
        return "raised"

    return in_child(work)


@attempt("Nobody reads a file that its mode keeps from everybody")
def past_the_mode():
    path = "unreadable"
    with open(path, "w") as file:
        os.fchmod(file.fileno(), 0)
    os.close(os.open(path, os.O_RDONLY))
    return "read"


@attempt("No user of the host can be mapped into a namespace of its own")
def map_ids():
    def work():
        user = os.getuid()
        call(272, 0x10000000)
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"5 {user} 1")
        return os.getuid() == 5 and "mapped"

    return in_child(work)

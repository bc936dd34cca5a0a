"""How much of the kernel can be reached: system calls that no app needs, in which faults were or which only root may use. Such a
call is answered before the kernel looks at what it was given; if it says that the arguments are wrong, it got further."""

import ctypes
import errno
import mmap
import os

from inside import Held, NotHere, attempt, call, in_child, in_user_namespace

room = ctypes.create_string_buffer(4096)
AT_THE_DOOR = (errno.EPERM, errno.ENOSYS, errno.EACCES)


def entry(name, number, *words):
    @attempt(f"`{name}` is refused at the door", name=name.replace(" ", "-").replace("_", "-"))
    def one():
        def work():
            try:
                call(number, *words)
            except OSError as error:
                if error.errno in AT_THE_DOOR:
                    raise
                return "got as far as " + errno.errorcode[error.errno]
            return "done"

        return in_child(work)


for what in [
    ("mount", 165, b"none", b"/none", b"none", 0, 0),
    ("umount2", 166, b"/none", 0),
    ("pivot_root", 155, b"/none", b"/none"),
    ("chroot", 161, b"/"),
    ("setns", 308, -1, 0),
    ("fsopen", 430, b"none", 0),
    ("open_tree", 428, -100, b"/", 1),
    ("move_mount", 429, -1, b"", -1, b"", 0),
    ("mount_setattr", 442, -1, b"", 0, room, 32),
    ("bpf", 321, 0, room, 0),
    ("perf_event_open", 298, room, 0, -1, -1, 0),
    ("userfaultfd", 323, 1),
    ("fanotify_init", 300, 0x200, 0),
    ("add_key", 248, b"user", b"escape", b"x", 1, -1),
    ("request_key", 249, b"user", b"escape-none", 0, 0),
    ("keyctl", 250, 0, -3, 0),
    ("io_uring_setup", 425, 1, room),
    ("io_setup", 206, 1, 0),
    ("syslog", 103, 10, 0, 0),
    ("kexec_load", 246, 0, 0, 0, 0xFF),
    ("init_module", 175, 0, 0, b""),
    ("finit_module", 313, -1, b"", 0),
    ("delete_module", 176, b"escape_none", 0o4000),
    ("acct", 163, b"/none/none"),
    ("swapon", 167, b"/none/none", 0),
    ("swapoff", 168, b"/none/none"),
    ("reboot", 169, 0, 0, 0, 0),
    ("quotactl", 179, 0x800001 << 8, 0, 0, 0),
    ("settimeofday", 164, 0, 0),
    ("clock_settime", 227, 0, 0),
    ("clock_adjtime", 305, 0, ctypes.create_string_buffer(256)),
    ("adjtimex", 159, ctypes.create_string_buffer(256)),
    ("sethostname", 170, b"", 1 << 20),
    ("setdomainname", 171, b"", 1 << 20),
    ("iopl", 172, 0),
    ("ioperm", 173, 0x80, 1, 0),
    ("modify_ldt", 154, 0, room, 64),
    ("memfd_secret", 447, 0),
    ("statmount", 457, room, room, 0, 0),
    ("listmount", 458, room, room, 0, 0),
    ("lsm_list_modules", 461, room, room, 0),
    ("process_madvise", 440, -1, 0, 0, 0, 0),
    ("pidfd_getfd", 438, -1, 0, 0),
    ("move_pages", 279, 0, 0, 0, 0, 0, 0),
    ("migrate_pages", 256, 0, 0, 0, 0),
    ("ustat", 136, 0, room),
    ("name_to_handle_at", 303, -100, b"/none", room, room, 0),
    ("open_by_handle_at", 304, -1, room, 0),
]:
    entry(*what)


for name, flag in [("user", 0x10000000), ("mount", 0x20000), ("PID", 0x20000000), ("network", 0x40000000), ("IPC", 0x8000000),
                   ("host name", 0x4000000), ("control group", 0x2000000), ("time", 0x80)]:
    def made(flag=flag):
        def work():
            # An ordinary user makes the others in one of users.
            try:
                call(272, flag)
            except PermissionError:
                call(272, 0x10000000 | flag)
            return "made"

        return in_child(work)

    attempt(f"No {name} namespace can be made", name=f"namespace-{name.lower().replace(' ', '-')}")(made)


@attempt("No namespace can be made by clone")
def namespace_by_clone():
    def work():
        child = call(56, 0x10000000 | 17, 0, 0, 0, 0)
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return "made"

    return in_child(work)


@attempt("No namespace can be made by clone3, whose flags a filter cannot see")
def namespace_by_clone3():
    def work():
        words = (ctypes.c_uint64 * 11)(0x10000000, 0, 0, 0, 17)
        child = call(435, words, 88)
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        return "made"

    return in_child(work)


@attempt("Calls of 32-bit programs, a second entry to the kernel, end the process")
def calls_of_i386():
    def work():
        code = mmap.mmap(-1, 4096, prot=7)
        # mov eax, 20 (getpid); int 0x80; ret
        code.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))
        result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
        return result > 0 and "answered"

    return in_child(work)

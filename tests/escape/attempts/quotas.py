"""What one sandbox can take of what all share."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import threading
import time

from inside import Held, NotHere, attempt, call, facts, libc, outside, read

GIB = 1 << 30


@attempt("No more processes than a bound: 600 are refused")
def forks():
    ours, theirs = os.pipe()
    for count in range(600):
        try:
            if os.fork() == 0:
                os.close(theirs)
                os.read(ours, 1)
                os._exit(0)
        except BlockingIOError:
            raise Held(f"{count}")
    return "600 processes"


@attempt("No more threads than a bound: 600 are refused")
def threads():
    wait = threading.Event()
    threading.stack_size(65536)
    for count in range(600):
        try:
            threading.Thread(target=wait.wait, daemon=True).start()
        except RuntimeError:
            raise Held(f"{count}")
    return "600 threads"


def roomy():
    if int(read("/proc/meminfo").split()[1]) < 3 << 20:
        raise NotHere("the host itself has less than 3 GiB of memory")


@attempt("No more memory than a bound: 1.7 GiB are not had for as long as 8 s", alone=True)
def memory():
    roomy()
    blocks = []
    for _ in range(17):
        blocks.append(bytearray(b"x") * (GIB // 10))
    time.sleep(8)
    return f"{len(blocks) / 10} GiB"


@attempt("No more memory than a bound by files in it: 1.7 GiB in /dev/shm", alone=True)
def memory_by_files():
    roomy()
    with open("/dev/shm/escape", "wb") as file:
        os.unlink("/dev/shm/escape")
        os.posix_fallocate(file.fileno(), 0, 17 * GIB // 10)
        time.sleep(8)
        return "1.7 GiB"


@attempt("No more of the kernel's memory than a bound by empty files: 500,000 in file systems in memory")
def empty_files():
    # Where the state is on one itself, that is the disk.
    seen, files = {outside("device of the folder")}, 0
    for line in read("/proc/mounts", 1 << 20).splitlines():
        _, place, kind = line.split()[:3]
        try:
            device = os.stat(place).st_dev
            if kind != "tmpfs" or device in seen or not os.access(place, os.W_OK):
                continue
            room = os.statvfs(place)
        except OSError:
            continue
        seen.add(device)
        files += room.f_ffree if room.f_files else 1 << 32
    if len(seen) == 1:
        raise Held("no file system in memory")
    return files > 500000 and f"{files} files"


@attempt("No more of the disk than a bound: 1 GiB is refused")
def disk():
    room = os.statvfs(".")
    if room.f_bavail * room.f_frsize < 3 * GIB:
        raise NotHere("the host itself has not as much")
    with open("large", "wb") as file:
        os.unlink("large")
        os.posix_fallocate(file.fileno(), 0, GIB)
        return "1 GiB"


@attempt("Others of the host's user can still watch files when a sandbox has taken all that it can get (inotify)")
def watches():
    while libc.inotify_init1(0) >= 0:
        pass
    return not outside("can watch files") and "the host cannot"


@attempt("No more terminals than a bound: 1,000 are refused")
def terminals():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    taken = []
    while len(taken) < 1000:
        try:
            taken.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
        except OSError as error:
            raise Held(f"{len(taken)}, {errno.errorcode[error.errno]}")
    return "1,000 terminals"


@attempt("Others of the host's user can still pass descriptors when a sandbox has as many under way as it can")
def descriptors_under_way():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    null, sent, pairs = os.open("/dev/null", os.O_RDONLY), 0, []
    try:
        while sent < 2_000_000 and len(pairs) < limit // 2 - 50:
            pairs.append(socket.socketpair())
            pairs[-1][0].setblocking(False)
            try:
                while True:
                    socket.send_fds(pairs[-1][0], [b"x"], [null] * 253)
                    sent += 253
            except BlockingIOError:
                pass
    except OSError:
        pass
    return not outside("can pass descriptors") and f"not beside {sent}"


@attempt("Others of the host's user have pipes of the usual size when a sandbox has as many as it can")
def pipes():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for _ in range(min(limit // 2 - 50, 500)):
        _, there = os.pipe()
        try:
            fcntl.fcntl(there, 1031, 1 << 20)
        except OSError:
            pass
    size = outside("size of a pipe")
    return size < 65536 and f"{size} bytes"


@attempt("Others of the host's user can still queue signals and make timers when a sandbox has taken all that it can get")
def signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    limit = resource.getrlimit(resource.RLIMIT_SIGPENDING)[1]
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (limit, limit))
    queued = 0
    while queued < 2_000_000 and libc.sigqueue(os.getpid(), signal.SIGRTMIN, 0) == 0:
        queued += 1
    return not outside("can queue signals") and f"not beside {queued}"


@attempt("Others of the host's user can still make message queues when a sandbox has taken all that it can get")
def message_queues():
    made = 0
    while made < 5000:
        queue = ctypes.create_string_buffer(b"escape-%d-%d" % (os.getpid(), made))
        room = (ctypes.c_long * 8)(0, 10, 8192)
        try:
            # mq_open, exclusively.
            call(240, queue, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600, room)
            call(241, queue)
        except OSError:
            break
        made += 1
    return not outside("can make message queues") and f"not beside {made}"


@attempt("Others of the host can still use asynchronous reads when a sandbox has taken all that it can get (io_setup)")
def asynchronous():
    contexts = []
    for size in (1 << 15, 1 << 13, 1 << 11, 1 << 9, 1 << 7, 1):
        while len(contexts) < 3000:
            context = ctypes.c_ulong()
            try:
                call(206, size, ctypes.byref(context))
            except OSError as error:
                refused = error
                break
            contexts.append(context)
    if not contexts:
        raise refused
    return not outside("can read asynchronously") and f"not beside {len(contexts)} contexts"


@attempt("Others of the host's user can still have keys when a sandbox has taken all that it can get")
def keys():
    for number in range(2500):
        call_or_stop = libc.syscall(248, b"user", b"escape-%d" % number, b"x", ctypes.c_long(1), ctypes.c_long(-2))
        if call_or_stop == -1:
            break
    return not outside("can have keys") and f"not beside {number}"


@attempt("No process can raise a limit that it was given")
def limits():
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard == resource.RLIM_INFINITY:
        return "there is none on processes"
    outer = outside("limit on processes")
    if hard == outer:
        return "it is the host's"
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (hard + 1, hard + 1))
    except ValueError as error:
        raise Held(str(error))
    return "raised"

"""Processes of the host and of other sandboxes."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import subprocess
import sys
import time

from inside import HERE, Held, NotHere, attempt, call, each, facts, libc, outside, processes, read


@attempt("Processes of the host are not seen")
def see():
    return each(processes(), lambda pid: facts["victim mark"] in read(f"/proc/{pid}/cmdline") and f"process {pid}")


@attempt("Variables of the host's processes cannot be read", secret="victim")
def environ():
    return each(processes(), lambda pid: pid != os.getpid() and "ESCAPE_VICTIM" in read(f"/proc/{pid}/environ") and read(f"/proc/{pid}/environ"))


@attempt("Variables of the neighbour cannot be read", secret="neighbour variable")
def neighbour_s_environ():
    return each(processes(), lambda pid: "ESCAPE_NEIGHBOUR" in read(f"/proc/{pid}/environ") and read(f"/proc/{pid}/environ"))


def signals(send):
    outside("forget signals")
    refused = "it came to nobody"
    try:
        send()
    except OSError as error:
        refused = errno.errorcode[error.errno]
    came = outside("signals")
    if came:
        return came
    raise Held(refused)


@attempt("No process of the host can be signalled by its number")
def signal_one():
    return signals(lambda: os.kill(facts["victim"], signal.SIGWINCH))


@attempt("No process of the host can be signalled by all numbers at once")
def signal_all():
    return signals(lambda: os.kill(-1, signal.SIGURG))


@attempt("No group of processes of the host can be signalled")
def signal_group():
    return signals(lambda: os.killpg(facts["victim"], signal.SIGWINCH))


@attempt("No process of the host can be signalled by a pidfd")
def signal_by_pidfd():
    return signals(lambda: signal.pidfd_send_signal(os.pidfd_open(facts["victim"]), signal.SIGWINCH))


@attempt("The kernel signals no process of the host on behalf of a descriptor (F_SETOWN)")
def signal_by_owner():
    def send():
        ours, theirs = os.pipe()
        fcntl.fcntl(ours, fcntl.F_SETOWN, facts["victim"])
        fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        os.write(theirs, b"x")

    return signals(send)


@attempt("No process of the host can be traced")
def trace():
    PTRACE_SEIZE = 0x4206
    if facts["victim mark"] not in read(f"/proc/{facts['victim']}/cmdline"):
        raise Held("it is another's number")
    call(101, PTRACE_SEIZE, facts["victim"], 0, 0)
    return "seized"


@attempt("The memory of no process of the host can be read")
def memory():
    def of(pid):
        if facts["victim mark"] not in read(f"/proc/{pid}/cmdline"):
            return None
        start = int(read(f"/proc/{pid}/maps").split("-")[0], 16)
        room = ctypes.create_string_buffer(64)
        local, far = (ctypes.c_size_t * 2)(ctypes.addressof(room), 64), (ctypes.c_size_t * 2)(start, 64)
        return call(310, pid, local, 1, far, 1, 0)

    return each([facts["victim"], *processes()], of)


def not_the_app():
    if os.path.basename(read("/proc/1/cmdline").split("\0")[0]).startswith("python"):
        raise NotHere("PID 1 is the app itself")


def of_pid_1(name):
    not_the_app()
    return read(f"/proc/1/{name}") if not name.endswith("/") else os.listdir(f"/proc/1/{name}")


@attempt("PID 1's variables cannot be read")
def pid_1_environ():
    return of_pid_1("environ")


@attempt("PID 1's memory cannot be looked at")
def pid_1_maps():
    return of_pid_1("maps")


@attempt("PID 1's descriptors cannot be listed")
def pid_1_descriptors():
    return of_pid_1("fd/")


@attempt("PID 1's program cannot be opened through it")
def pid_1_program():
    not_the_app()
    os.close(os.open("/proc/1/exe", os.O_RDONLY))
    return os.readlink("/proc/1/exe")


@attempt("PID 1 cannot be traced")
def pid_1_trace():
    not_the_app()
    call(101, 0x4206, 1, 0, 0)
    return "seized"


@attempt("PID 1's limits cannot be changed")
def pid_1_limits():
    not_the_app()
    now = (ctypes.c_ulong * 2)()
    call(302, 1, 7, 0, now)
    call(302, 1, 7, now, 0)
    return "set anew"


@attempt("PID 1 cannot be kept from processors")
def pid_1_processors():
    not_the_app()
    mask = ctypes.create_string_buffer(128)
    length = call(204, 1, 128, mask)
    call(203, 1, length, mask)
    return "set anew"


@attempt("PID 1's priority cannot be changed")
def pid_1_priority():
    not_the_app()
    os.setpriority(os.PRIO_PROCESS, 1, os.getpriority(os.PRIO_PROCESS, 1))
    return "set anew"


@attempt("Limits of the host's processes cannot be changed")
def limits_of_others():
    limit = (ctypes.c_ulong * 2)(77, 1000)
    try:
        call(302, facts["victim"], 7, limit, 0)
    except OSError as error:
        raise Held(errno.errorcode[error.errno])
    return outside("victim's limit") == 77


@attempt("No priority of the host's processes can be changed by naming the user")
def priority_of_the_user():
    try:
        os.setpriority(os.PRIO_USER, 0, 3)
    except OSError as error:
        raise Held(errno.errorcode[error.errno])
    return outside("victim's priority") == 3


@attempt("No disk priority of the host's processes can be changed by naming the user")
def disk_priority_of_the_user():
    try:
        call(251, 3, os.getuid(), 3 << 13)
    except OSError as error:
        raise Held(errno.errorcode[error.errno])
    return outside("victim's disk priority") == 3


@attempt("No process gets ahead of all others (a real-time priority)")
def real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return "SCHED_FIFO"


@attempt("No process gets ahead of others (a negative nice value)")
def nice():
    return os.nice(-5) < outside("priority") and "nice"


@attempt("Descriptors of the host's processes cannot be taken")
def take_descriptor():
    if facts["victim mark"] not in read(f"/proc/{facts['victim']}/cmdline"):
        raise Held("it is another's number")
    return call(438, os.pidfd_open(facts["victim"]), 1, 0)


@attempt("No process takes itself out of the order in which the kernel ends processes when memory runs out")
def memory_order():
    usual = outside("memory order")
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(usual))
    now = int(read("/proc/self/oom_score_adj"))
    return now <= usual and f"{now}, as the host's own"


@attempt("No process outlives its sandbox")
def outlive():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, 32):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            os.closerange(0, 256)
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", facts["outliver mark"]])
        os._exit(0)
    os.wait()
    # Looked for when the sandbox has ended.
    return "it was started"


@attempt("A crash writes no core, and hands none to a program of the host")
def core():
    if os.fork() == 0:
        limit = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
        os.chdir(facts["app"])
        os.abort()
    _, status = os.wait()
    return os.WCOREDUMP(status) and "a core"


@attempt("It is not known which memory of the kernel two descriptors share (kcmp)")
def compare():
    call(312, os.getpid(), os.getpid(), 0, 0, 1)
    return "compared"


@attempt("No process of the neighbour can be seen")
def neighbour_s_processes():
    return each(processes(), lambda pid: "ESCAPE-NEIGHBOUR-" in read(f"/proc/{pid}/cmdline") and f"process {pid}")

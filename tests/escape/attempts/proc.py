"""What /proc tells of the host."""

import os

from inside import Held, NotHere, attempt, facts, outside, read


def tells(name, path, rule):
    @attempt(rule, name=name)
    def one():
        return read(path)[:40]


tells("interrupts", "/proc/interrupts", "When devices of the host are used is not told (/proc/interrupts)")
tells("timers", "/proc/timer_list", "The kernel's timers are not told (/proc/timer_list)")
tells("slabs", "/proc/slabinfo", "The kernel's memory is not told (/proc/slabinfo)")
tells("pages", "/proc/kpagecount", "The host's pages are not told (/proc/kpagecount)")
tells("configuration", "/proc/config.gz", "How the kernel was built is not told (/proc/config.gz)")
tells("disks", "/proc/diskstats", "What the host's disks do is not told (/proc/diskstats)")
tells("modules", "/proc/modules", "Which modules the kernel has is not told (/proc/modules)")
tells("boot", "/proc/cmdline", "How the host was booted is not told (/proc/cmdline)")
tells("pressure", "/proc/pressure/cpu", "How busy the host is is not told (/proc/pressure)")


@attempt("Addresses of the kernel are not told (/proc/kallsyms)")
def addresses():
    return any(line[:16].strip("0 ") for line in read("/proc/kallsyms").splitlines()[:200]) and "addresses"


@attempt("Names of the host's user's keys are not told (/proc/keys)")
def keys():
    if not facts["key"]:
        raise NotHere("the host's user has no keys")
    return facts["key name"] in read("/proc/keys") and "the name of a key"


@attempt("How many keys users of the host have is not told (/proc/key-users)")
def key_users():
    return len(read("/proc/key-users").split("\n")) > 2 and read("/proc/key-users")


@attempt("Locks of the host's processes are not told (/proc/locks)")
def locks():
    if not outside("hold a lock", facts["program"]):
        raise NotHere("the host has no such file")
    inode = os.stat(facts["program"]).st_ino
    try:
        return f":{inode} " in read("/proc/locks") and "the host's lock"
    finally:
        outside("hold no lock")


@attempt("Which boot of the host this is, is not told (boot_id)")
def boot_id():
    return read("/proc/sys/kernel/random/boot_id") == outside("boot id") and "the host's"


@attempt("How much memory the host has is not told (/proc/meminfo)")
def memory():
    return read("/proc/meminfo").split()[1] == outside("memory") and "the host's"


@attempt("Where the app's processes may be seen on the host is not told (/proc/self/cgroup, mountinfo of PID 1)")
def pid_1():
    return any(hint in read("/proc/1/mountinfo", 1 << 20) for hint in facts["hints"]) and "a path of the host"

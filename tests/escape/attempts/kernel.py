"""Control groups, /sys and switches of the kernel."""

import ctypes
import os

from inside import Held, NotHere, attempt, call, each, facts, in_child, in_user_namespace, libc, outside, read


def writable(*paths):
    def one(path):
        os.close(os.open(path, os.O_WRONLY))
        return path + " is open for writing"

    return each(paths, one)


@attempt("What drives the kernel's devices is not seen in /sys")
def sys_devices():
    return os.listdir("/sys/devices")


@attempt("Nothing of /sys can be written")
def sys_write():
    found = ["/sys/kernel/mm/ksm/run", "/sys/power/state", "/sys/kernel/uevent_helper", "/sys/kernel/profiling", "/sys/block/vda/uevent",
             "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/module/kernel/parameters/panic", "/sys/devices/system/cpu/uevent"]
    return writable(*found)


@attempt("No control group can be made")
def group_make():
    path = "/sys/fs/cgroup/escape"
    os.mkdir(path)
    is_group = os.path.exists(path + "/cgroup.procs")
    os.rmdir(path)
    if is_group:
        return "made " + path
    raise Held("a folder of its own")


@attempt("The tree of control groups cannot be mounted")
def group_mount():
    def work():
        os.makedirs("groups", exist_ok=True)
        if libc.mount(b"none", b"groups", b"cgroup2", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "")
        listed = os.listdir("groups")
        libc.umount2(b"groups", 2)
        return listed

    return in_child(work)


@attempt("The same as root of user, mount and control group namespaces of its own")
def group_mount_in_a_namespace():
    def work():
        os.makedirs("groups", exist_ok=True)
        if libc.mount(b"none", b"groups", b"cgroup2", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "")
        return os.listdir("groups")

    return in_user_namespace(work, 0x2000000 | 0x20000)


@attempt("Where in the host's control groups the sandbox is, is not seen")
def group_path():
    text = read("/proc/self/cgroup")
    return all(line.endswith("/") or "/.." in line for line in text.split()) is False and outside("is the group of", text)


@attempt("The program that gets crashes cannot be changed (core_pattern)")
def core_pattern():
    return writable("/proc/sys/kernel/core_pattern")


@attempt("The program that loads modules cannot be changed (modprobe)")
def modprobe():
    return writable("/proc/sys/kernel/modprobe")


@attempt("The kernel's emergency keys cannot be pressed (sysrq)")
def sysrq():
    return writable("/proc/sysrq-trigger")


@attempt("No program of a user's can be made the one for a kind of file (binfmt_misc)")
def binfmt():
    return in_user_namespace(lambda: call(165, b"none", b"/proc/sys/fs/binfmt_misc", b"binfmt_misc", 0, 0) == 0 and "mounted", 0x20000)


@attempt("Switches of the kernel's memory cannot be changed")
def memory_switches():
    return writable("/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches", "/proc/sys/vm/swappiness")


@attempt("Switches of the network cannot be changed")
def network_switches():
    return writable("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/core/somaxconn")


@attempt("Quotas of the user namespace cannot be raised")
def quotas_raise():
    return writable("/proc/sys/user/max_user_namespaces", "/proc/sys/user/max_inotify_instances")


@attempt("The numbers of the next processes cannot be chosen")
def last_pid():
    now = read("/proc/sys/kernel/ns_last_pid")
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(now)
    return "chosen"


@attempt("A host name cannot be set")
def host_name():
    import socket

    name = socket.gethostname()
    socket.sethostname(name)
    return "set to " + name


@attempt("Firmware and security modules are not spoken to (/sys/firmware, /sys/kernel/security)")
def firmware():
    return each(["/sys/firmware", "/sys/kernel/security", "/sys/kernel/debug", "/sys/kernel/tracing"], lambda path: os.listdir(path))

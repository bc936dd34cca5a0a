"""Files of the host, and of other sandboxes."""

import ctypes
import fcntl
import os
import stat
import struct
import time

from inside import Held, NotHere, attempt, call, each, facts, in_child, in_user_namespace, libc, outside, processes, read


@attempt("A file below a home of the host cannot be read", secret="home")
def home_file():
    return read(facts["home file"])


@attempt("A folder below a home of the host cannot be listed")
def home_folder():
    return os.listdir(os.path.dirname(facts["home file"]))


@attempt("No number of `..` leads out of the sandbox", secret="home")
def dots():
    return read("/proc/self/cwd/" + "../" * 60 + facts["home file"])


@attempt("The root folder or working folder of no process leads out", secret="home")
def process_roots():
    starts = [f"/proc/{pid}/{link}" for pid in processes() for link in ("root", "cwd")]
    return each(starts, lambda start: read(start + "/" + "../" * 60 + facts["home file"]))


@attempt("No descriptor leads out that the caller of the sandbox had open", secret="home")
def caller_s_descriptors():
    def by(descriptor):
        file = os.open(os.path.basename(facts["home file"]), os.O_RDONLY, dir_fd=descriptor)
        return os.read(file, 4096).decode()

    return each(range(3, 256), by)


@attempt("No descriptor of PID 1 or another process leads out", secret="home")
def others_descriptors():
    def links():
        for pid in processes():
            try:
                for descriptor in os.listdir(f"/proc/{pid}/fd"):
                    yield f"/proc/{pid}/fd/{descriptor}"
            except OSError:
                pass

    return each(links(), lambda link: read(link + "/" + os.path.basename(facts["home file"])))


@attempt("chroot and a folder outside of it, the old way out, does not lead out", secret="home")
def chroot_twice():
    def work():
        os.makedirs("inner", exist_ok=True)
        away = os.open("/", os.O_RDONLY)
        os.chroot("inner")
        os.fchdir(away)
        for _ in range(60):
            os.chdir("..")
        os.chroot(".")
        return read(facts["home file"])

    return in_child(work)


@attempt("The same as root of a user namespace of its own", secret="home")
def chroot_twice_as_root():
    def work():
        os.makedirs("inner", exist_ok=True)
        away = os.open("/", os.O_RDONLY)
        os.chroot("inner")
        os.fchdir(away)
        for _ in range(60):
            os.chdir("..")
        os.chroot(".")
        return read(facts["home file"])

    return in_user_namespace(work)


@attempt("A file that a sandbox makes in /tmp is not there outside")
def tmp_write():
    path = facts["tmp folder"] + "/made-inside"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    except OSError as error:
        raise Held(str(error))
    return outside("is there", path)


@attempt("A file of the host's /tmp cannot be read", secret="tmp")
def tmp_read():
    return read(facts["tmp folder"] + "/secret")


@attempt("A file of the host's /var/tmp cannot be read", secret="var tmp")
def var_tmp_read():
    return read(facts["var tmp file"])


@attempt("Passwords of the host cannot be read")
def shadow():
    text = read("/etc/shadow")
    # That of an image is the image's own.
    return outside("is the host's", "/etc/shadow", text) and text[:20]


def writes(folder):
    name = f"{folder}/.escape-{os.getpid()}"
    with open(name, "w"):
        pass
    there = outside("is there", name)
    os.unlink(name)
    return there and "a file in " + folder


@attempt("No file can be made in the host's /usr")
def usr_write():
    return writes("/usr/bin")


@attempt("No file can be made in the host's /etc")
def etc_write():
    return writes("/etc")


@attempt("The view of the host's files cannot be made writable")
def remount():
    def work():
        for path in (b"/usr", b"/"):
            # Remount, bind, not read-only.
            if libc.mount(b"none", path, None, ctypes.c_ulong(32 | 4096), None) == 0:
                return "remounted " + path.decode()
        raise OSError(ctypes.get_errno(), "")

    return in_child(work)


@attempt("The same as root of user and mount namespaces of its own: file systems can be mounted")
def mounts_in_a_namespace():
    def work():
        os.makedirs("place", exist_ok=True)
        if libc.mount(b"none", b"place", b"tmpfs", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "")
        return "a tmpfs of its own"

    return in_user_namespace(work, 0x20000)


@attempt("What is mounted over the host's files cannot be uncovered")
def uncover():
    os.makedirs("place", exist_ok=True)

    def work():
        covered = [line.split()[1] for line in read("/proc/mounts", 1 << 20).splitlines()]
        gone = [path for path in reversed(covered) if path in ("/etc/passwd", "/etc/hosts", "/app", "/run", "/tmp", "/proc/keys")
                and libc.umount2(path.encode(), 2) == 0]
        if gone:
            return gone
        if libc.mount(b"none", b"place", b"tmpfs", 0, None) == 0 and libc.umount2(b"place", 2) == 0:
            return "umount"
        raise OSError(ctypes.get_errno(), "")

    return in_child(work)


@attempt("No program that runs as root by its set-user-ID bit gives root")
def set_user_id():
    if os.geteuid() == 0:
        raise NotHere("root already")
    for folder in ("/usr/bin", "/bin", "/usr/sbin", facts["app"]):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            found = os.stat(f"{folder}/{name}", follow_symlinks=False)
            if not (stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_ISUID):
                continue
            # It waits for input that never comes, or ends at once: looked at between exec and its end.
            mine, theirs = os.pipe()
            child = os.fork()
            if child == 0:
                os.dup2(mine, 0)
                null = os.open("/dev/null", os.O_RDWR)
                os.dup2(null, 1)
                os.dup2(null, 2)
                os.close(theirs)
                os.execv(f"{folder}/{name}", [name])
            deadline = time.monotonic() + 0.2
            root = False
            while not root and time.monotonic() < deadline:
                try:
                    root = "Uid:\t%d\t0" % os.getuid() in read(f"/proc/{child}/status")
                except OSError:
                    break
            os.close(theirs)
            try:
                os.kill(child, 9)
            except OSError:
                root = True
            os.waitpid(child, 0)
            if root:
                return f"{folder}/{name}"
    raise Held("none does")


@attempt("No device can be made and opened")
def make_device():
    path = "device"
    if os.path.exists(path):
        os.unlink(path)
    # The kernel's log.
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 11))
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    return "opened the kernel's log by a node of its own"


def opens(paths):
    def one(path):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return path

    return each(paths, one)


@attempt("The kernel's memory, ports and log cannot be opened")
def kernel_devices():
    return opens(["/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/proc/kcore", "/dev/cpu/0/msr"])


@attempt("No disk can be opened")
def disks():
    found = [line.split()[3] for line in read("/proc/partitions").splitlines()[2:] if line]
    if not found:
        raise NotHere("the host has no disk")
    return opens(["/dev/" + name for name in found])


@attempt("No file system in user space can be served to the kernel (/dev/fuse)")
def fuse():
    return opens(["/dev/fuse"])


@attempt("No network interface can be made by /dev/net/tun")
def tun():
    return opens(["/dev/net/tun"])


@attempt("Terminals, input devices and the console of the host cannot be opened")
def consoles():
    found = ["/dev/console", "/dev/tty0", "/dev/tty1", "/dev/ttyS0", "/dev/vcs", "/dev/vcsa1", "/dev/uinput", "/dev/input/event0"]
    # Where it is there, a console may be a pseudo-terminal of the sandbox's own.
    return opens([path for path in found if os.path.exists(path) and os.major(os.stat(path).st_rdev) != 136])


@attempt("Other devices of the host cannot be opened")
def other_devices():
    usual = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}

    def others():
        for name in sorted(os.listdir("/dev")):
            path = "/dev/" + name
            if name not in usual and not name.startswith("tty") and stat.S_ISCHR(os.lstat(path).st_mode):
                yield path

    return opens(list(each_name(others)))


def each_name(generator):
    names = iter(generator())
    while True:
        try:
            yield next(names)
        except StopIteration:
            return
        except OSError:
            continue


@attempt("A file of the neighbour's cannot be read by its path outside", secret="neighbour file")
def neighbour_s_path():
    return read(facts["neighbour folder"] + "/neighbour-secret")


@attempt("What the neighbour has in /tmp cannot be read", secret="neighbour tmp")
def neighbour_s_tmp():
    return read("/tmp/" + facts["neighbour name"])


@attempt("What the neighbour has in /dev/shm cannot be read", secret="neighbour shm")
def neighbour_s_shm():
    return read("/dev/shm/" + facts["neighbour name"])


@attempt("The neighbour's files cannot be reached by its processes", secret="neighbour file")
def neighbour_s_root():
    return each(processes(), lambda pid: pid != os.getpid() and read(f"/proc/{pid}/cwd/neighbour-secret"))


@attempt("No file of the host can be opened by its number (open_by_handle_at)")
def by_handle():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    call(303, -100, b"/", handle, ctypes.byref(mount), 0)
    folder = os.open("/", os.O_RDONLY)
    os.close(call(304, folder, handle, os.O_RDONLY))
    return "the root folder"


@attempt("The number of a file of the host cannot be learnt (name_to_handle_at)")
def handle_of():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    call(303, -100, b"/usr", handle, ctypes.byref(mount), 0)
    return handle.raw[:16].hex()


def watch(paths, question):
    inotify = libc.inotify_init1(os.O_NONBLOCK)
    watched = [path for path in paths if libc.inotify_add_watch(inotify, path.encode(), ctypes.c_uint(0x21)) >= 0]
    if not watched:
        raise Held("nothing to watch")
    outside(question)
    try:
        events = os.read(inotify, 4096)
    except BlockingIOError:
        raise Held("no event")
    return f"{len(events)} bytes of events"


@attempt("Which programs the host runs is not seen by watching /usr")
def watch_programs():
    return watch(["/usr/bin"], "open a program")


@attempt("What the host reads of /etc is not seen by watching")
def watch_etc():
    return watch(["/etc/passwd", "/etc/hostname", "/etc/os-release", "/etc/hosts"], "open /etc")


@attempt("That the host uses /dev/null is not seen by watching")
def watch_null():
    return watch(["/dev/null"], "open /dev/null")


def lock(path):
    file = os.open(path, os.O_RDONLY)
    if not outside("hold a lock", path):
        raise NotHere("the host has no such file")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "the host's lock is met"
    finally:
        outside("hold no lock")
    raise Held("a lock of its own")


@attempt("Locks of the host on its programs are not met, and so none can be taken from it")
def lock_program():
    # The host's, whatever it is.
    return lock(facts["program"])


@attempt("Locks of the host on /etc are not met, and so none can be taken from it")
def lock_etc():
    return lock("/etc/passwd")


@attempt("Locks of the host on /dev/null are not met, and so none can be taken from it")
def lock_null():
    return lock("/dev/null")


@attempt("The times of the host's devices cannot be changed")
def null_times():
    before = outside("times of", "/dev/null")
    os.utime("/dev/null")
    return outside("times of", "/dev/null") != before


@attempt("No link to a file of the host can be made in the app's folder")
def hard_link():
    target = facts["program"]
    if os.path.exists("linked"):
        os.unlink("linked")
    os.link(target, "linked")
    return "linked " + target


@attempt("Where the host keeps things is not said by the list of mounts")
def mount_list():
    return each(["/proc/self/mountinfo"], lambda path: any(hint in read(path, 1 << 20) for hint in facts["hints"]) and "a path of the host")

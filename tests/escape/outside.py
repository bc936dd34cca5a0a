"""Sets up what the attempts are to reach, runs them in a sandbox, answers what only someone outside can see, and judges.

    outside.py KIND [--promised | --only ID...]

KIND is none, dyno, bwrap or docker. Sandboxes are made as the user who runs this. The results are printed as JSON: of each attempt its
id, group, rule, verdict (held, broken, not applicable or fault) and why. `--promised` leaves out what `gaps` says of a dyno here.

From the environment: DYNO_BIN, the program (for dyno, and for none, whose platform it is); ESCAPE_IMAGE, docker's image; ESCAPE_FOLDER,
where all is made, else /tmp. Further DYNO_... variables are settings.
"""

import argparse
import ctypes
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
import inside  # noqa: E402

PYTHON = "/usr/bin/python3"
MARK = inside.MARK
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
DEADLINE = 600  # seconds for one sandbox with all of its attempts


def text_of(path):
    with open(path, "rb", buffering=0) as file:
        return file.read(1 << 20).decode(errors="replace")


def write(path, text, mode=0o600):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    os.chmod(path, mode)


def processes_with(mark):
    """Python's processes with this word among their arguments."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = text_of(f"/proc/{name}/cmdline").split("\0")
        except OSError:
            continue
        if mark in words and os.path.basename(words[0]).startswith("python") and int(name) != os.getpid():
            yield int(name)


def gaps():
    """What may be broken in a dyno of this user's here, with the reason."""
    said = subprocess.run([os.environ["DYNO_BIN"], "doctor"], stdout=subprocess.PIPE, check=True).stdout.decode()
    is_open = [line for line in said.splitlines() if line.startswith("  OPEN ")]
    user, before, found = "root" if os.getuid() == 0 else "user", "", {}
    for line in text_of(HERE + "/gaps").splitlines():
        if line.startswith("#"):
            continue
        name, when, why = line.split(" ", 2)
        before = why.replace("as above", before, 1)
        if when in ("always", user) or any(when in line for line in is_open):
            found[name] = before
    return found


class Stage:
    """What there is on the host for the attempts to reach."""

    def __init__(self, kind):
        self.kind = kind
        self.name = "escape-" + os.urandom(4).hex()
        self.base = tempfile.mkdtemp(prefix=self.name + ".", dir=os.environ.get("ESCAPE_FOLDER", "/tmp"))
        # Whoever the sandbox's user is, it is not kept out by this folder's mode.
        os.chmod(self.base, 0o755)
        self.secrets, self.ends, self.lock = {}, [], None
        self.facts = {"name": self.name, "kind": kind}
        self.env = {"HOME": self.base + "/home", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "TERM": "xterm",
                    **{name: value for name, value in os.environ.items() if name.startswith(("DYNO_", "DOCKER_", "XDG_RUNTIME_DIR")) and name != "DYNO_BIN"}}
        os.mkdir(self.base + "/home", 0o700)

    def secret(self, name):
        return self.secrets.setdefault(name, f"SECRET-{name.replace(' ', '-')}-{os.urandom(8).hex()}")

    def set_up(self):
        facts = self.facts
        home = tempfile.mkdtemp(prefix=self.name, dir=os.path.expanduser("~"))
        self.ends.append(lambda: shutil.rmtree(home))
        facts["home file"] = home + "/secret"
        write(home + "/secret", self.secret("home"), 0o600)
        self.leak = os.open(home, os.O_RDONLY)
        os.set_inheritable(self.leak, True)

        folder = f"/tmp/{self.name}-host"
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        self.ends.append(lambda: shutil.rmtree(folder))
        facts["tmp folder"] = folder
        write(folder + "/secret", self.secret("tmp"), 0o644)
        facts["var tmp file"] = f"/var/tmp/{self.name}"
        write(facts["var tmp file"], self.secret("var tmp"), 0o644)
        self.ends.append(lambda: os.unlink(facts["var tmp file"]))
        facts["program"] = next(path for path in ("/usr/bin/env", "/bin/busybox") if os.path.exists(path))

        self.listeners()
        self.victim()
        self.shared()
        ours, theirs = os.openpty()
        self.other_terminal = ours, theirs
        facts["host's terminal"] = os.ttyname(theirs)
        facts["hints"] = [self.name, *re.findall(r" - \S+ (/dev/[a-z]+\d*) ", text_of("/proc/self/mountinfo"))[:1]]
        facts["run mark"], facts["outliver mark"] = self.name + "-run", self.name + "-outliver"
        facts["platform"] = {}
        if self.kind in ("dyno", "none") and "DYNO_BIN" in os.environ:
            self.platform()
        if self.kind == "docker":
            facts["platform"] = {"socket": os.environ["DOCKER_HOST"].removeprefix("unix://")}

    def serve(self, listener, said):
        def loop():
            while True:
                try:
                    client, _ = listener.accept()
                    client.sendall(said.encode())
                    client.close()
                except OSError:
                    return

        threading.Thread(target=loop, daemon=True).start()
        return listener

    def listeners(self):
        facts = self.facts
        facts["port"] = facts["port 6"] = None
        first = self.serve(socket.create_server(("127.0.0.1", 0)), self.secret("loopback"))
        facts["port"] = first.getsockname()[1]
        try:
            six = self.serve(socket.create_server(("::1", 0), family=socket.AF_INET6), self.secret("loopback"))
            facts["port 6"] = six.getsockname()[1]
        except OSError:
            pass
        self.datagrams = socket.socket(type=socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", 0))
        facts["datagram port"] = self.datagrams.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as free:
            facts["free port"] = free.getsockname()[1]
        shared = socket.socket()
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(("127.0.0.1", 0))
        shared.listen(128)
        self.serve(shared, "own")
        facts["shared port"] = shared.getsockname()[1]
        facts["abstract name"], facts["abstract datagram name"] = self.name + "-abstract", self.name + "-datagram"
        for address, secret in [("\0" + facts["abstract name"], "abstract"), (facts["tmp folder"] + "/socket", "socket file")]:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
            listener.listen(64)
            self.serve(listener, self.secret(secret))
        os.chmod(facts["tmp folder"] + "/socket", 0o777)
        facts["daemons"] = []
        if os.access("/run", os.W_OK):
            facts["daemons"] = [f"/run/{self.name}"]
            daemon = socket.socket(socket.AF_UNIX)
            daemon.bind(facts["daemons"][0])
            daemon.listen(64)
            os.chmod(facts["daemons"][0], 0o777)
            self.serve(daemon, "")
            self.ends.append(lambda: os.unlink(facts["daemons"][0]))
        self.abstract_datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.abstract_datagrams.bind("\0" + facts["abstract datagram name"])
        for listener in (self.datagrams, self.abstract_datagrams):
            listener.settimeout(0.5)

    def victim(self):
        self.facts["victim mark"] = self.name + "-victim"
        self.signals = self.base + "/home/signals"
        victim = subprocess.Popen([PYTHON, HERE + "/victim.py", self.facts["victim mark"], self.signals], start_new_session=True,
                                  stdout=subprocess.PIPE, env={**self.env, "ESCAPE_VICTIM": self.secret("victim")})
        victim.stdout.readline()
        self.facts["victim"] = victim.pid
        self.ends.append(lambda: (victim.kill(), victim.wait()))

    def shared(self):
        facts, key = self.facts, int.from_bytes(os.urandom(3), "little") + 1
        facts["shared memory key"] = key
        secret = self.secret("shared memory").encode()
        segment = libc.shmget(key, 4096, 0o1666)
        ctypes.memmove(libc.shmat(segment, None, 0), secret, len(secret))
        semaphores, queue = libc.semget(key, 1, 0o1666), libc.msgget(key, 0o1666)
        message = struct.pack("l", 1) + self.secret("message").encode()
        libc.msgsnd(queue, message, ctypes.c_size_t(len(message) - 8), 0)
        self.ends.append(lambda: (libc.shmctl(segment, 0, None), libc.semctl(semaphores, 0, 0), libc.msgctl(queue, 0, None)))
        facts["message queue"] = self.name + "-queue"
        libc.syscall(240, facts["message queue"].encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
        self.ends.append(lambda: libc.syscall(241, facts["message queue"].encode()))
        facts["posix shared memory"] = self.name + "-memory"
        path = "/dev/shm/" + facts["posix shared memory"]
        write(path, self.secret("posix shared memory"), 0o666)
        self.ends.append(lambda: os.unlink(path))
        facts["key name"] = self.name + "-key"
        secret = self.secret("key").encode()
        # In the user's keyring, for its user to read.
        number = libc.syscall(248, b"user", facts["key name"].encode(), secret, ctypes.c_long(len(secret)), ctypes.c_long(-4))
        facts["key"] = number if number > 0 else None
        if number > 0:
            libc.syscall(250, ctypes.c_long(5), ctypes.c_long(number), ctypes.c_long(0x3F3F0000))
            self.ends.append(lambda: libc.syscall(250, ctypes.c_long(9), ctypes.c_long(number), ctypes.c_long(-4)))

    def platform(self):
        os.mkdir(self.base + "/state", 0o700)
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as free:
                ports.append(free.getsockname()[1])
        self.env.update(DYNO_HOME=self.base + "/state", DYNO_LISTEN=f"127.0.0.1:{ports[0]}", DYNO_ROUTER=f"127.0.0.1:{ports[1]}",
                        DYNO_IDLE_LINGER="60", DYNO_SETTLE_TIME="0")
        self.ends.append(lambda: self.dyno("server:stop", "--all"))
        self.start_server()
        user = f"/tmp/dyno-{os.getuid()}"
        claims = "/run/dyno" if os.getuid() == 0 else os.path.join(os.environ["XDG_RUNTIME_DIR"], "dyno") if "XDG_RUNTIME_DIR" in os.environ else user
        server = int(text_of(self.base + "/state/server.lock").split()[0])
        self.facts["platform"] = {"socket": self.base + "/state/api.sock", "state": self.base + "/state/state.db", "claims": claims,
                                  "api port": ports[0], "address of api port": "127.0.0.1", "router port": ports[1],
                                  "address of router port": "127.0.0.1", "pid": server}

    def dyno(self, *words, folder=None):
        return subprocess.run([os.environ["DYNO_BIN"], *words], env=self.env, cwd=folder or self.base, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)

    def start_server(self):
        # An emulated guest on a busy host takes its time.
        deadline = time.monotonic() + 240
        while True:
            outcome = self.dyno("apps")
            if outcome.returncode == 0:
                return True
            if time.monotonic() > deadline:
                raise SystemExit("no server of dyno's: " + outcome.stderr.decode())

    def folder(self, name):
        """A folder with all that runs inside."""
        path = f"{self.base}/{name}"
        os.mkdir(path)
        for each in ("inside.py", "neighbour.py", "attempts"):
            (shutil.copytree if os.path.isdir(f"{HERE}/{each}") else shutil.copy)(f"{HERE}/{each}", f"{path}/{each}")
        write(path + "/Procfile", "attempts: true\n", 0o644)
        os.chmod(path, 0o777 if self.kind == "docker" else 0o755)
        return path

    def command(self, folder, name, words, terminal, env=()):
        """The words that run `words` in a sandbox of the kind with `folder` as the app."""
        if self.kind == "none":
            return ["env", *[f"{key}={value}" for key, value in env], PYTHON, "-B", *words]
        if self.kind == "dyno":
            extra = [word for key, value in env for word in ("-e", f"{key}={value}")]
            return [os.environ["DYNO_BIN"], "run", "-q", *([] if terminal else ["--no-tty"]), *extra, " ".join(["exec", PYTHON, "-B", *words])]
        if self.kind == "bwrap":
            # As in bubblewrap's own example for a shell, with what its manual page asks for beside.
            system = ["--ro-bind", "/usr", "/usr"]
            for path in ("/bin", "/sbin", "/lib", "/lib64"):
                if os.path.islink(path):
                    system += ["--symlink", os.readlink(path), path]
                elif os.path.isdir(path):
                    system += ["--ro-bind", path, path]
            extra = [word for key, value in env for word in ("--setenv", key, value)]
            return ["bwrap", *system, "--ro-bind", "/etc", "/etc", "--dir", "/tmp", "--dir", "/var", "--dir", "/run", "--proc", "/proc", "--dev", "/dev",
                    "--bind", folder, "/app", "--chdir", "/app", "--unshare-all", "--share-net", "--die-with-parent", "--new-session", *extra, PYTHON, "-B", *words]
        extra = [word for key, value in env for word in ("-e", f"{key}={value}")]
        return ["docker", "run", "--rm", "--name", f"{self.name}-{name}", "-it" if terminal else "-i", *extra, "-v", f"{folder}:/app", "-w", "/app",
                os.environ["ESCAPE_IMAGE"], PYTHON, "-B", *words]

    def neighbour(self):
        folder = self.folder("neighbour")
        secret = self.secret("neighbour")
        for name in ("file", "tmp", "shm", "variable", "port", "shared memory", "abstract"):
            self.secrets["neighbour " + name] = secret
        write(folder + "/neighbour-secret", secret, 0o644)
        name = self.name + "-n"
        words = ["neighbour.py", "ESCAPE-NEIGHBOUR-" + self.name, name, secret]
        one = subprocess.Popen(self.command(folder, "neighbour", words, False, [("ESCAPE_NEIGHBOUR", secret)]), cwd=folder, env=self.env,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.ends.insert(len(self.ends) - 1, lambda: (one.stdin.close(), one.wait()))
        line = one.stdout.readline().decode()
        if MARK not in line:
            raise SystemExit("the neighbour did not start: " + line)
        ready = json.loads(line.split(MARK)[1])
        self.facts.update({"neighbour name": name, "neighbour folder": folder, "neighbour port": ready["port"], "neighbour key": ready["key"]})

    # What the attempts ask.

    def answer(self, question, arguments):
        return getattr(self, "ask_" + re.sub(r"\W+", "_", question.lower()))(*arguments)

    def ask_is_there(self, path):
        return os.path.lexists(path)

    def ask_is_the_host_s(self, path, text):
        try:
            return text_of(path) == text
        except PermissionError:
            # To the person, too, it cannot be read.
            return True

    def ask_device_of_the_folder(self):
        return os.stat(self.base).st_dev

    def ask_open_a_program(self):
        for name in sorted(os.listdir("/usr/bin"))[:40]:
            try:
                text_of("/usr/bin/" + name)[:1]
            except OSError:
                pass
        return True

    def ask_open_etc(self):
        for name in ("passwd", "hostname", "os-release", "hosts"):
            try:
                text_of("/etc/" + name)
            except OSError:
                pass
        return True

    def ask_open_dev_null(self):
        with open("/dev/null", "r+b", buffering=0) as file:
            file.write(b"x")
            file.read(1)
        return True

    def ask_hold_a_lock(self, path):
        self.ask_hold_no_lock()
        try:
            self.lock = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    def ask_hold_no_lock(self):
        if self.lock is not None:
            os.close(self.lock)
        self.lock = None
        return True

    def ask_times_of(self, path):
        return os.stat(path).st_mtime_ns

    def ask_forget_signals(self):
        if os.path.exists(self.signals):
            os.truncate(self.signals, 0)
        return True

    def ask_signals(self):
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            came = text_of(self.signals) if os.path.exists(self.signals) else ""
            if came:
                return came.strip()
            time.sleep(0.02)
        return ""

    def ask_victim_s_limit(self):
        return int(re.search(r"Max open files\s+(\d+)", text_of(f"/proc/{self.facts['victim']}/limits"))[1])

    def ask_victim_s_priority(self):
        return os.getpriority(os.PRIO_PROCESS, self.facts["victim"])

    def ask_victim_s_disk_priority(self):
        return libc.syscall(252, 1, self.facts["victim"]) >> 13

    def ask_priority(self):
        return os.getpriority(os.PRIO_PROCESS, 0)

    def ask_memory_order(self):
        return int(text_of("/proc/self/oom_score_adj"))

    def ask_what_the_host_s_terminal_shows(self):
        ready = select.select([self.other_terminal[0]], [], [], 0.3)[0]
        return bool(ready) and os.read(self.other_terminal[0], 1000).decode()

    def ask_terminal_s_size(self):
        return list(struct.unpack("HHHH", fcntl.ioctl(self.terminal[1], termios.TIOCGWINSZ, bytes(8)))[:2])

    def ask_terminal_s_interrupt(self):
        return termios.tcgetattr(self.terminal[1])[6][termios.VINTR][0]

    def ask_terminal_has_another_session(self):
        try:
            return struct.unpack("i", fcntl.ioctl(self.terminal[0], 0x5429, bytes(4)))[0] != self.running.pid
        except OSError:
            # None: whose it was has ended.
            return True

    def ask_datagram(self, listener=None):
        try:
            return (listener or self.datagrams).recv(100).decode()
        except TimeoutError:
            return ""

    def ask_abstract_datagram(self):
        return self.ask_datagram(self.abstract_datagrams)

    def ask_connects_to(self, port, address="127.0.0.1"):
        with socket.socket() as it:
            it.settimeout(1)
            return it.connect_ex((address, port)) == 0

    def ask_connects_by_ipv6_to(self, port):
        with socket.socket(socket.AF_INET6) as it:
            it.settimeout(1)
            return it.connect_ex(("::1", port)) == 0

    def ask_interfaces(self):
        return sorted(name for _, name in socket.if_nameindex())

    def ask_listening_ports(self):
        lines = [line.split() for line in text_of("/proc/net/tcp").splitlines()[1:]]
        return [self.facts["port"]] + [int(line[1].split(":")[1], 16) for line in lines if line[3] == "0A"][:20]

    def ask_is_the_group_of(self, text):
        for pid in processes_with(self.facts["run mark"]):
            paths = [line.split(":", 2)[2] for line in text_of(f"/proc/{pid}/cgroup").split()]
            return any(path != "/" and path in [line.split(":", 2)[2] for line in text.split()] for path in paths)
        return False

    def ask_can_watch_files(self):
        descriptor = libc.inotify_init1(0)
        if descriptor >= 0:
            os.close(descriptor)
        return descriptor >= 0

    def ask_can_pass_descriptors(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                socket.send_fds(ours, [b"x"], [0])
            except OSError:
                return False
        return True

    def ask_size_of_a_pipe(self):
        one, other = os.pipe()
        size = fcntl.fcntl(one, 1032)
        os.close(one)
        os.close(other)
        return size

    def ask_can_queue_signals(self):
        if libc.sigqueue(os.getpid(), signal.SIGRTMIN, 0) != 0:
            return False
        signal.sigtimedwait([signal.SIGRTMIN], 1)
        return True

    def ask_can_make_message_queues(self):
        name = (self.name + "-more").encode()
        queue = libc.syscall(240, name, os.O_CREAT | os.O_RDWR, 0o600, (ctypes.c_long * 8)(0, 10, 8192))
        if queue >= 0:
            os.close(queue)
            libc.syscall(241, name)
        return queue >= 0

    def ask_can_read_asynchronously(self):
        context = ctypes.c_ulong()
        if libc.syscall(206, 1, ctypes.byref(context)) != 0:
            return False
        libc.syscall(207, context)
        return True

    def ask_can_have_keys(self):
        number = libc.syscall(248, b"user", self.name.encode(), b"x", ctypes.c_long(1), ctypes.c_long(-2))
        return number > 0

    def ask_limit_on_processes(self):
        import resource

        return resource.getrlimit(resource.RLIMIT_NPROC)[1]

    def ask_user(self):
        return os.getuid()

    def ask_user_of(self, mark):
        for pid in processes_with(mark):
            return int(re.search(r"Uid:\s+(\d+)", text_of(f"/proc/{pid}/status"))[1])
        raise SystemExit("the attempts' own process is not found")

    def ask_boot_id(self):
        return text_of("/proc/sys/kernel/random/boot_id")

    def ask_memory(self):
        return text_of("/proc/meminfo").split()[1]

    def ask_stop_the_server(self):
        outcome = self.dyno("server:stop")
        return outcome.returncode == 0

    def ask_start_the_server(self):
        return self.start_server()

    # The run.

    def run(self, number, ids, results):
        """One sandbox that makes these attempts; all that may be together if there are none."""
        folder = self.folder(f"app{number}")
        with open(folder + "/facts.json", "w") as file:
            json.dump(self.facts, file)
        if self.kind == "dyno":
            outcome = self.dyno("deploy", "--no-web", folder=folder)
            if outcome.returncode != 0:
                raise SystemExit("no deploy: " + outcome.stderr.decode())
        self.terminal = ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

        def take_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        words = ["inside.py", self.facts["run mark"], *ids]
        self.running = subprocess.Popen(self.command(folder, f"app{number}", words, True), cwd=folder, env=self.env, stdin=theirs, stdout=theirs,
                                        stderr=theirs, preexec_fn=take_terminal, pass_fds=[self.leak])
        pending, shown, current, deadline, ended = b"", [], None, time.monotonic() + DEADLINE, False
        while not ended and time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.2)[0]:
                if self.running.poll() is not None:
                    break
                continue
            try:
                pending += os.read(ours, 65536)
            except OSError:
                break
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                before, mark, line = line.decode(errors="replace").partition(MARK)
                if not mark:
                    shown.append(before.strip())
                    continue
                message = json.loads(line)
                if "ask" in message:
                    answer = self.answer(message["ask"], message["arguments"])
                    os.write(ours, f"{MARK}{json.dumps(answer)}\n".encode())
                elif "begins" in message:
                    current = message["begins"]
                    if os.environ.get("ESCAPE_VERBOSE"):
                        print(current, file=sys.stderr)
                elif "attempt" in message:
                    results[message["attempt"]] = message["verdict"], message["why"]
                    current = None
                else:
                    ended = True
        if current and not ended:
            results[current] = ("held", "the sandbox was ended") if inside.ATTEMPTS[current].alone else ("fault", "the sandbox was ended")
        try:
            self.running.wait(20 if ended else 5)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        if not ended and not current:
            raise SystemExit("the attempts did not run: " + "\n".join(shown[-20:]))
        if self.kind == "docker":
            subprocess.run(["docker", "rm", "-f", f"{self.name}-app{number}"], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for descriptor in (ours, theirs):
            os.close(descriptor)

    def judge_outlive(self, results):
        if results.get("processes.outlive", ("",))[0] != "broken":
            return
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and list(processes_with(self.facts["outliver mark"])):
            time.sleep(0.1)
        alive = list(processes_with(self.facts["outliver mark"]))
        for pid in alive:
            os.kill(pid, signal.SIGKILL)
        results["processes.outlive"] = ("broken", "it lives on") if alive else ("held", "it ended with the sandbox")

    def clean(self):
        for end in reversed(self.ends):
            try:
                end()
            except (OSError, subprocess.SubprocessError) as error:
                print("not cleaned:", error, file=sys.stderr)
        subprocess.run(["chmod", "-R", "u+rwX", self.base], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["none", "dyno", "bwrap", "docker"])
    parser.add_argument("--promised", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    attempts, results = inside.load(), {}
    unknown = set(options.only) - set(attempts)
    if unknown:
        raise SystemExit(f"no attempts {unknown}")
    stage = Stage(options.kind)
    try:
        stage.set_up()
        stage.neighbour()
        known = gaps() if options.promised else {}
        wanted = options.only or [name for name in attempts if name not in known]
        together = [name for name in wanted if not attempts[name].alone]
        runs = ([together] if together else []) + [[name] for name in wanted if attempts[name].alone]
        for number, ids in enumerate(runs):
            stage.run(number, ids, results)
            if "processes.outlive" in ids:
                stage.judge_outlive(results)
    finally:
        stage.clean()
    rows = []
    for name in wanted:
        one = attempts[name]
        verdict, why = results.get(name, ("fault", "it was not made"))
        if verdict == "broken" and one.secret:
            verdict, why = ("broken", "the secret was had") if stage.secrets[one.secret] in why else ("held", "another's")
        rows.append({"id": name, "group": one.group, "rule": one.rule, "verdict": verdict, "why": why})
    json.dump(rows, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

"""Runs attempts inside a sandbox: `inside.py MARK [ID...]`, else all of them. It needs python3 alone. By MARK its process is
known outside.

Each attempt is a function of `attempts/GROUP.py` with the rule that it tries to break. It runs in a process of its own and

- returns what it got: the rule is broken, as far as can be seen from here. Of a rule about a secret what counts is
  whether the secret is in it, which `outside.py` knows;
- raises Held, or any OSError: the rule holds;
- raises NotHere: it cannot be tried in this place, and why.

What only someone outside can see is asked by `outside(question, ...)`. Answers and results are lines of JSON on the
terminal, in which the runner outside reads and writes.
"""

import ctypes
import errno
import importlib
import json
import os
import select
import signal
import socket
import sys
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = "@@"
GROUPS = ["files", "processes", "terminals", "network", "kernel", "calls", "quotas", "privileges", "proc", "ipc", "sockets", "platform"]
ATTEMPTS = {}
LIMIT = 180  # seconds for one attempt

libc = ctypes.CDLL(None, use_errno=True)
facts = {}
_talk = None
_heard = bytearray()


class Held(Exception):
    """The rule holds, and how."""


class NotHere(Exception):
    """The attempt cannot be made here, and why."""


class Attempt:
    def __init__(self, name, group, rule, function, secret, alone):
        self.name, self.group, self.rule, self.function, self.secret, self.alone = name, group, rule, function, secret, alone


def attempt(rule, secret=None, alone=False, name=None):
    """Makes a function an attempt to break `rule`. `secret`: it is broken only if what is returned has this secret in it, one of
    `outside.py`'s. `alone`: in a sandbox of its own, as that may not live through it."""

    def register(function):
        group = function.__module__.rpartition(".")[2]
        identity = group + "." + (name or function.__name__.replace("_", "-"))
        assert identity not in ATTEMPTS, identity
        ATTEMPTS[identity] = Attempt(identity, group, rule, function, secret, alone)
        return function

    return register


def load():
    sys.path.insert(0, HERE)
    sys.modules["inside"] = sys.modules[__name__]
    for group in GROUPS:
        importlib.import_module("attempts." + group)
    return ATTEMPTS


def call(number, *words):
    """A system call by its number on x86-64. Raises OSError."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def outside(question, *arguments):
    """Asks the runner outside of the sandbox."""
    _talk.sendall(json.dumps({"ask": question, "arguments": arguments}).encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        piece = _talk.recv(65536)
        if not piece:
            raise RuntimeError("no answer from outside")
        answer += piece
    answer = json.loads(answer)
    if isinstance(answer, dict) and "not here" in answer:
        raise NotHere(answer["not here"])
    return answer


def read(path, most=65536):
    with open(path, "rb", buffering=0) as file:
        return file.read(most).decode(errors="replace")


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def each(values, of):
    """The first of `of(value)` that is something; values at which it meets an OSError are passed over. Else Held."""
    refused = "nothing found"
    for value in values:
        try:
            found = of(value)
        except OSError as error:
            refused = errno.errorcode.get(error.errno, str(error))
            continue
        if found:
            return found
    raise Held(refused)


def in_child(work):
    """What `work` returns in a process of its own, as text. Its errors are raised here."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = ["done", work()]
        except OSError as error:
            said = ["error", error.errno]
        except Held as held:
            said = ["held", str(held)]
        except BaseException as error:
            said = ["fault", repr(error)]
        os.write(theirs, json.dumps(said).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Held(signal.Signals(os.WTERMSIG(status)).name)
    kind, what = json.loads(said)
    if kind == "error":
        raise OSError(what, os.strerror(what))
    if kind == "held":
        raise Held(what)
    if kind == "fault":
        raise RuntimeError(what)
    return what


def in_user_namespace(work, flags=0):
    """As `in_child`, as root of a new user namespace, with further ones by `flags`."""

    def inner():
        user, group = os.getuid(), os.getgid()
        call(272, 0x10000000 | flags)
        for name, text in [("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")]:
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
        return work()

    return in_child(inner)


def _say(line):
    os.write(1, f"{MARK}{json.dumps(line)}\n".encode())


def _hear():
    # What an attempt typed into this terminal is passed over.
    while True:
        while b"\n" in _heard:
            end = _heard.index(b"\n") + 1
            line = bytes(_heard[:end])
            del _heard[:end]
            if MARK.encode() in line:
                return line.partition(MARK.encode())[2]
        piece = os.read(0, 65536)
        if not piece:
            raise SystemExit("the runner outside is gone")
        _heard.extend(piece)


def _child(one, theirs):
    global _talk
    _talk = theirs
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        got = one.function()
        said = ["broken", str(got)] if got else ["held", "nothing came of it"]
    except Held as held:
        said = ["held", str(held)]
    except NotHere as why:
        said = ["not applicable", str(why)]
    except OSError as error:
        said = ["held", errno.errorcode.get(error.errno, str(error))]
    except BaseException as error:
        said = ["fault", f"{type(error).__name__}: {error}"]
    theirs.sendall(json.dumps({"result": said}).encode() + b"\n")
    os._exit(0)


def try_out(one):
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        _child(one, theirs)
    theirs.close()
    deadline, pending, said = time.monotonic() + LIMIT, b"", None
    while said is None:
        ready = select.select([ours], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            said = ["fault", f"no result within {LIMIT} s"]
            break
        piece = ours.recv(65536)
        if not piece:
            break
        pending += piece
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            message = json.loads(line)
            if "result" in message:
                said = message["result"]
            else:
                _say(message)
                ours.sendall(_hear())
    if said is None:
        _, status = os.waitpid(child, 0)
        said = ["held", signal.Signals(os.WTERMSIG(status)).name] if os.WIFSIGNALED(status) else ["fault", f"left with {status}"]
    for what in (lambda: os.killpg(child, signal.SIGKILL), lambda: os.waitpid(child, 0)):
        try:
            what()
        except OSError:
            pass
    return said


def main():
    load()
    with open(os.path.join(HERE, "facts.json")) as file:
        facts.update(json.load(file))
    facts["app"] = os.getcwd()
    try:
        modes = termios.tcgetattr(0)
        modes[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(0, termios.TCSANOW, modes)
    except termios.error:
        pass
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    asked = sys.argv[2:]
    for one in ATTEMPTS.values():
        if one.name in asked or not asked and not one.alone:
            _say({"begins": one.name})
            verdict, why = try_out(one)
            _say({"attempt": one.name, "verdict": verdict, "why": why[:4000] if one.secret else why[:300]})
    _say({"end": True})


if __name__ == "__main__":
    main()

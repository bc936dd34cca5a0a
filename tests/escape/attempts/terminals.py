"""The person's terminal, and those of others."""

import fcntl
import os
import struct
import termios

from inside import Held, NotHere, attempt, facts, outside


def terminal():
    return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)


@attempt("Nothing can be typed into the person's terminal (TIOCSTI)")
def typing():
    for character in b"escaped\n":
        fcntl.ioctl(0, termios.TIOCSTI, bytes([character]))
    # Whether it was the person's is seen by the size.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 66, 0, 0))
    if outside("terminal's size") == [6, 66]:
        return "typed"
    raise Held("into a terminal of its own")


@attempt("Nothing can be typed into a terminal of the sandbox's own: the call is refused")
def typing_into_its_own():
    ours, theirs = os.openpty()
    if os.fork() == 0:
        os.setsid()
        try:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            fcntl.ioctl(theirs, termios.TIOCSTI, b"x")
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.wait()[1] == 0 and "typed"


@attempt("A terminal of the host cannot be opened by its number")
def host_s_terminal():
    file = os.open(facts["host's terminal"], os.O_RDWR | os.O_NOCTTY)
    os.write(file, b"escaped")
    return outside("what the host's terminal shows")


@attempt("The size of the person's terminal cannot be changed")
def size():
    for descriptor in (0, terminal()):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 7, 77, 0, 0))
    return outside("terminal's size") == [7, 77]


@attempt("The modes of the person's terminal cannot be changed")
def modes():
    now = termios.tcgetattr(0)
    before = now[6][termios.VINTR]
    now[6][termios.VINTR] = b"\x07"
    termios.tcsetattr(0, termios.TCSANOW, now)
    changed = outside("terminal's interrupt") == 7
    now[6][termios.VINTR] = before
    termios.tcsetattr(0, termios.TCSANOW, now)
    return changed


@attempt("The person's terminal cannot be made another's (TIOCSCTTY by force)")
def steal():
    if os.fork() == 0:
        os.setsid()
        try:
            fcntl.ioctl(0, termios.TIOCSCTTY, 1)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.wait()[1] != 0:
        raise Held("refused")
    return outside("terminal has another session")


@attempt("No other line discipline, such as those of modems, can be set on a terminal (TIOCSETD)")
def discipline():
    ours, theirs = os.openpty()
    taken = []
    for number in range(1, 31):
        try:
            fcntl.ioctl(theirs, termios.TIOCSETD, struct.pack("i", number))
            taken.append(number)
        except OSError as error:
            refused = error
    if not taken:
        raise refused
    return f"disciplines {taken}"


@attempt("The console's keyboard and selection are not reached (TIOCLINUX)")
def selection():
    ours, theirs = os.openpty()
    try:
        fcntl.ioctl(theirs, 0x541C, b"\x06")
    except PermissionError:
        raise
    except OSError as error:
        return f"the kernel looked at it: {error}"
    return "done"


@attempt("The console's messages cannot be had (TIOCCONS)")
def console():
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCCONS)
    return "had"


@attempt("The neighbour's terminal cannot be opened")
def neighbour_s_terminal():
    own = {os.ttyname(descriptor) for descriptor in range(3) if os.isatty(descriptor)}
    others = [name for name in os.listdir("/dev/pts") if name.isdigit() and f"/dev/pts/{name}" not in own]
    opened = []
    for name in others:
        try:
            os.close(os.open(f"/dev/pts/{name}", os.O_RDWR | os.O_NOCTTY))
            opened.append(name)
        except OSError:
            pass
    return opened

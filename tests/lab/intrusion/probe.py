"""Carries a guest's attempts out where the guest runs: `probe.py WHO [NAME]`. Prints a line of JSON for each: who, name, won, said.

With a name its exit status is `WON` where that attempt has got through: what it prints may be lost in what it wrote.

Part of the drill's application, whose runtime is the machine's Python alone; so nothing but the standard library.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
WON = 7
LIBC = ctypes.CDLL(None, use_errno=True)
F: dict[str, object] = {}


def connect(address, port):
    """Say whether a TCP connection to an address can be made; a link-local one by each interface in turn."""
    if not address.lower().startswith("fe80"):
        with socket.create_connection((address, port), 2):
            return True
    for number, _name in socket.if_nameindex():
        with socket.socket(socket.AF_INET6) as sock:
            sock.settimeout(1)
            if sock.connect_ex((address, port, 0, number)) == 0:
                return True
    return False


def datagram(address, port):
    """Say whether an answer to a datagram comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.sendto(b"\0" * 40, (address, port))
        return bool(sock.recv(1))


def unix(path, kind=socket.SOCK_STREAM):
    """Say whether a local socket takes a connection."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(2)
        sock.connect(path)
        return True


def read(path):
    """Say whether a file holds something that one can read."""
    with open(path, "rb") as file:
        return len(file.read(64)) > 0


def write(path, content=b"x"):
    """Say whether a file can be written."""
    with open(path, "ab") as file:
        file.write(content)
    return True


def readable(paths):
    """Say whether one of some files can be read."""
    return any(_tried(read, path) for path in paths)


def reachable(places):
    """Say whether a connection to one of some addresses with their ports can be made."""
    return any(_tried(connect, *place) for place in places)


def victim(places):
    """Say whether the victim's application answers at one of some addresses with their ports; one's own may be there as well."""
    return any(_tried(_answers, *place) for place in places)


def _answers(address, port):
    with socket.create_connection((address, port), 2) as sock:
        sock.settimeout(5)
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        text = b""
        while block := sock.recv(65536):
            text += block
    return b"VICTIM" in text


def _tried(act, *arguments):
    try:
        return act(*arguments)
    except OSError:
        return False


def entries(path, own=()):
    """List a folder without what is one's own."""
    return sorted(set(os.listdir(path)) - set(own))


def others():
    """List the processes of other uids that one can look into."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid != os.getuid():
                found.append(int(name))
        except OSError:
            continue
    return found


def everybody(act):
    """Say whether an act succeeds on some process that is another's; on low numbers, too, as one may not see them."""
    mine = {int(name) for name in entries("/proc") if name.isdigit()} - set(others())
    for pid in sorted({*others(), *range(1, 3000)} - mine):
        try:
            if not _own(pid) and act(pid):
                return True
        except OSError:
            continue
    return False


def _own(pid):
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.getuid()
    except OSError:
        return False


def signalled(pid):
    """Say whether a process that is not one's own takes a signal; only asks."""
    os.kill(pid, 0)
    return True


def foreign_signal():
    """Say whether any number but those of one's own processes and threads takes a signal."""
    for pid in range(1, 100000):
        try:
            os.kill(pid, 0)
        except OSError:
            continue
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.getuid():
                return True
        except OSError:
            # It is there, and is hidden.
            return True
    return False


def call(number, *arguments):
    """Make a system call by its number (of x86-64); raises where the kernel refuses it."""
    result = LIBC.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return True


def run(*command):
    """Say whether a command succeeds; it gets no input."""
    pid = os.fork()
    if pid == 0:
        nothing = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        try:
            os.execvp(command[0], command)
        except OSError:
            os._exit(127)
    return os.waitpid(pid, 0)[1] == 0


def bind(port, address="0.0.0.0"):
    """Say whether a port can be listened on."""
    with socket.socket() as sock:
        sock.bind((address, port))
        sock.listen(1)
        return True


def fill(folder, megabytes):
    """Write so much, in files of half a gigabyte; say whether it stayed."""
    block = b"\xa5" * (1 << 20)
    for number in range(megabytes):
        with open(os.path.join(folder, f"fill{number // 500}"), "ab") as file:
            file.write(block)
    time.sleep(15)
    return True


def inodes(folder, count):
    """Make so many empty files; say whether they stayed."""
    for number in range(count):
        inner = os.path.join(folder, f"d{number // 2000}")
        if number % 2000 == 0:
            os.makedirs(inner, exist_ok=True)
        open(os.path.join(inner, str(number)), "wb").close()
    time.sleep(15)
    return True


def hog(megabytes):
    """Hold so much memory for a while."""
    held = [os.urandom(1 << 20) for _ in range(megabytes)]
    time.sleep(12)
    return len(held) == megabytes


def forks(count):
    """Have so many processes at once."""
    made = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                time.sleep(20)
                os._exit(0)
            made.append(pid)
        return True
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)


def open_files(count):
    """Have so many files open at once."""
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    return len(held) == count


def flood(megabytes):
    """Write so much to one's own log; say whether the folder of logs has grown by as much."""
    line = b"x" * 1000 + b"\n"
    for _ in range(megabytes * 1000):
        os.write(1, line)
    size = sum(os.stat(os.path.join("..", "logs", n)).st_size for n in os.listdir("../logs"))
    return size > megabytes << 19


def raise_limit(which):
    """Raise a limit of one's own above what it is."""
    soft, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY:
        return False
    try:
        resource.setrlimit(which, (soft, hard + 1))
    except ValueError as error:
        # As CPython says EPERM.
        raise PermissionError(str(error)) from None
    return True


def route_change():
    """Add an address to loopback by netlink."""
    body = struct.pack("BBBBI", socket.AF_INET, 32, 0, 0, 1) + struct.pack(
        "HH4s", 8, 2, bytes([10, 99, 0, 1])
    )
    message = struct.pack("IHHII", 16 + len(body), 20, 0x405, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(2)
        sock.send(message)
        code = struct.unpack("i", sock.recv(4096)[16:20])[0]
    if code:
        raise OSError(-code, os.strerror(-code))
    return True


def carry_out(row):
    """Give how an attempt ended, tried in a child of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.alarm(int(row["seconds"]) + 1)
        try:
            won = bool(eval(row["code"], globals()))  # the drill's own table
            said = "it got through" if won else "nothing came of it"
        except (OSError, MemoryError) as error:
            won, said = False, f"{type(error).__name__}: {error}"[:200]
        except BaseException as error:
            # What is wrong with the attempt itself has shown nothing.
            won, said = True, f"the attempt is broken: {type(error).__name__}: {error}"[:200]
        try:
            os.write(writer, json.dumps([won, said]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        text = file.read()
    status = os.waitpid(pid, 0)[1]
    number = status & 127
    # Who goes on until the alarm has not been kept from anything.
    won, said = (
        json.loads(text) if text else (row["alone"] and number == signal.SIGALRM, f"ended by signal {number}")
    )
    return {"who": row["who"], "name": row["name"], "won": won, "said": said}


def main(who, name=None):
    """Carry out all of a guest's attempts, or one."""
    with open(os.path.join(HERE, "stage.json")) as file:
        stage = json.load(file)
    F.update(stage["facts"])
    for row in stage["attempts"]:
        if row["who"] == who and (row["name"] == name if name else not row["alone"]):
            result = carry_out(row)
            print("ATTEMPT " + json.dumps(result), flush=True)
            if name:
                return WON if result["won"] else 0
    print("ATTEMPT " + json.dumps({"who": who, "done": True}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

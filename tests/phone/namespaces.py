"""The body of a test phone, run as a program: namespaces, emulation, power. Standard library only.

    python namespaces.py ROOT EMULATOR PORT DATA_BYTES KERNEL

One JSON line a request on stdin ({"do": "on" | "off" | "kill_adbd"}), one a reply on stdout. A first process
writes the maps of ids and dies with its parent; the second, in a user namespace where 64-bit ARM programs are
emulated, answers; each time the phone is switched on, a third becomes process 1 of new pid, mount and network
namespaces. When the end of stdin comes, or any of them dies, everything that runs on the phone is gone.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, NEW_USER, NEW_PIDS, NEW_NETWORK = 0x20000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, REMOUNT, BIND, RECURSIVE, PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
DIE_WITH_PARENT, SET_NAME = 1, 15
SHELL_UID = 2000
LISTEN_FD = 3
INIT_WAITS_S = 0.2
ENVIRONMENT = {
    "PATH": "/product/bin:/system/bin:/vendor/bin",
    "ANDROID_ROOT": "/system",
    "ANDROID_DATA": "/data",
    "HOME": "/",
    "TMPDIR": "/data/local/tmp",
    "QEMU_CPU": "cortex-a76",
}
ADBD = "/apex/com.android.adbd/bin/adbd"
WRITABLE = ("data", "mnt")
DEVICES = ("null", "zero", "full", "urandom", "random")
FACES = ("sys/kernel/random/boot_id", "loadavg", "version", "uptime", "vmstat")
"""Files of /proc that the phone shows as `ROOT/../proc/<name>` says."""
BINFMT = (
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)


def check(result: int, what: str) -> None:
    """Raise OSError, with what was tried, when a call of the C library failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    check(libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    def text(value: str | None) -> bytes | None:
        return None if value is None else value.encode()

    done = libc.mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(data))
    check(done, f"mount {kind or source}")


def die_with_parent() -> None:
    check(libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0), "prctl")


class Body:
    """The phone while its namespaces exist: on or off."""

    def __init__(self, words: list[str], is_root: bool) -> None:
        root, emulator, port, data_bytes, kernel = words
        self.root, self.port, self.is_root = root, int(port), is_root
        self.environment = {**ENVIRONMENT, "QEMU_UNAME": kernel}
        self.boot_process = self.init = 0
        mount("none", "/", None, RECURSIVE | PRIVATE)
        self._emulate(emulator)
        if int(data_bytes):
            owner = f",uid={SHELL_UID},gid={SHELL_UID}" if is_root else ""
            mount("tmpfs", f"{root}/data/local/tmp", "tmpfs", 0, f"size={data_bytes},mode=0771{owner}")

    def _emulate(self, emulator: str) -> None:
        """Have this user namespace, and no other, run 64-bit ARM programs with the emulator."""
        place = os.path.join(os.path.dirname(self.root), "binfmt")
        os.makedirs(place, exist_ok=True)
        mount("binfmt_misc", place, "binfmt_misc")
        with open(f"{place}/register", "wb", buffering=0) as file:
            file.write(f"{BINFMT}{emulator}:FP".encode())

    def on(self) -> None:
        """Start the phone; returns when its adbd has been started."""
        self.off()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        ours, theirs = os.pipe()
        self.boot_process = fork(lambda: boot(self, listener, theirs))
        os.close(theirs)
        listener.close()
        with os.fdopen(ours, "r", encoding="utf-8") as told:
            said = dict(line.rstrip("\n").split(" ", 1) for line in told)
        self.init = int(said.get("init", 0))
        if "started" not in said:
            self.off()
            raise OSError(0, said.get("error", "the phone's first process ended"))

    def off(self) -> None:
        """Power loss: every process of the phone ends now."""
        if self.init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
        if self.boot_process:
            os.waitpid(self.boot_process, 0)
        self.init = self.boot_process = 0

    def kill_adbd(self) -> None:
        """End adbd; init starts it again."""
        if self.init:
            os.kill(self.init, signal.SIGUSR1)


def fork(act: Callable[[], None]) -> int:
    """Run `act` in a child, which ends with it; returns the child's number."""
    child = os.fork()
    if child:
        return child
    try:
        act()
    except BaseException as error:  # nothing may get back into the parent's code
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(1)


def boot(body: Body, listener: socket.socket, told: int) -> None:
    """Make the namespaces of one boot, and process 1 in them; ends after it."""
    die_with_parent()
    try:
        unshare(NEW_MOUNTS | NEW_PIDS | NEW_NETWORK)
        child = fork(lambda: init(body, listener, told))
        os.write(told, f"init {child}\n".encode())
        os.close(told)
        listener.close()
        os.waitpid(child, 0)
    except OSError as error:
        os.write(told, f"error {error.strerror}\n".encode())
    os._exit(0)


def init(body: Body, listener: socket.socket, told: int) -> None:
    """Process 1: mounts, then adbd for ever; what adbd started ends with it, as Android's init has it."""
    adbd = 0

    def on_signal(*_: object) -> None:
        if adbd:
            os.kill(adbd, signal.SIGKILL)

    signal.signal(signal.SIGUSR1, on_signal)
    try:
        die_with_parent()
        libc.prctl(SET_NAME, b"init", 0, 0, 0)
        mounts(body.root)
        os.dup2(listener.fileno(), LISTEN_FD, inheritable=True)
        adbd = start_adbd(body, told)
        os.write(told, b"started now\n")
    except OSError as error:
        os.write(told, f"error {error.strerror}\n".encode())
        os._exit(1)
    os.close(told)
    while True:
        child, _ = os.waitpid(-1, 0)
        if child == adbd:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            time.sleep(INIT_WAITS_S)
            adbd = start_adbd(body, LISTEN_FD)


def mounts(root: str) -> None:
    """The phone's own /proc, /dev and terminals over its tree, of which little can be written."""
    mount(root, root, None, BIND | RECURSIVE)
    for name in WRITABLE:
        mount(f"{root}/{name}", f"{root}/{name}", None, BIND | RECURSIVE)
    mount("proc", f"{root}/proc", "proc")
    for name in FACES:
        face = os.path.join(os.path.dirname(root), "proc", os.path.basename(name))
        if os.path.exists(face):
            mount(face, f"{root}/proc/{name}", None, BIND)
    for name in DEVICES:
        with open(f"{root}/dev/{name}", "ab"):
            pass
        mount(f"/dev/{name}", f"{root}/dev/{name}", None, BIND)
    mount("devpts", f"{root}/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620")
    mount("none", root, None, BIND | REMOUNT | READ_ONLY)


def start_adbd(body: Body, told: int) -> int:
    def become() -> None:
        if told != LISTEN_FD:
            os.close(told)
        os.setsid()
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        if not body.is_root:
            be_shell_in_a_namespace(f"{body.root}/proc/self")
        os.chroot(body.root)
        os.chdir("/")
        if body.is_root:
            os.setgroups([])
            os.setresgid(SHELL_UID, SHELL_UID, SHELL_UID)
            os.setresuid(SHELL_UID, SHELL_UID, SHELL_UID)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.closerange(LISTEN_FD + 1, 256)
        os.umask(0o022)
        os.execve(ADBD, ["adbd"], body.environment)

    return fork(become)


def be_shell_in_a_namespace(own: str) -> None:
    """Be the shell user in one more user namespace: emulation is found in the one around, where only 0 may
    set it up. Not possible after a chroot.
    """
    unshare(NEW_USER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{SHELL_UID} 0 1"),
        ("gid_map", f"{SHELL_UID} 0 1"),
    ):
        with open(f"{own}/{name}", "w", encoding="ascii") as file:
            file.write(text)


def write_maps(child: int, is_root: bool) -> None:
    """Who is who inside: everybody as outside for root, else only this user, as 0."""

    def write(name: str, text: str) -> None:
        with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:
            file.write(text)

    if not is_root:
        write("setgroups", "deny")
    for name, own in (("uid_map", os.getuid()), ("gid_map", os.getgid())):
        write(name, "0 0 65536" if is_root else f"0 {own} 1")


def answer(body: Body) -> None:
    """Requests until the end of stdin."""
    actions = {"on": body.on, "off": body.off, "kill_adbd": body.kill_adbd}
    for line in sys.stdin:
        try:
            actions[json.loads(line)["do"]]()
            reply = {"ok": True, "init": body.init}
        except OSError as error:
            reply = {"ok": False, "error": error.strerror}
        print(json.dumps(reply), flush=True)
    body.off()


def live(arguments: list[str], ready: int, mapped: int) -> None:
    """The second process: its user namespace, the body, the requests."""
    is_root = os.getuid() == 0
    try:
        unshare(NEW_USER | NEW_MOUNTS)
        os.write(ready, b"1")
        os.read(mapped, 1)
        if is_root:
            os.setresuid(0, 0, 0)
        die_with_parent()
        body = Body(arguments, is_root)
    except OSError as error:
        print(json.dumps({"ok": False, "error": error.strerror}), flush=True)
        os._exit(1)
    print(json.dumps({"ok": True}), flush=True)
    answer(body)
    os._exit(0)


def probe(ready: int, mapped: int) -> None:
    """Say whether all that a phone needs is permitted here, without leaving anything."""
    try:
        unshare(NEW_USER | NEW_MOUNTS)
        os.write(ready, b"1")
        os.read(mapped, 1)
        mount("none", "/", None, RECURSIVE | PRIVATE)
        mount("binfmt_misc", "/tmp", "binfmt_misc")
        unshare(NEW_PIDS | NEW_NETWORK)
        child = fork(probe_init)
        _, status = os.waitpid(child, 0)
        reply = {"ok": status == 0, "error": "a /proc of its own is not permitted"}
    except OSError as error:
        reply = {"ok": False, "error": error.strerror}
    print(json.dumps(reply), flush=True)
    os._exit(0)


def probe_init() -> None:
    mount("proc", "/mnt", "proc")
    os._exit(0)


def main() -> None:
    """Start the second process and wait for it."""
    die_with_parent()
    is_ready, ready = os.pipe()
    mapped, is_mapped = os.pipe()
    second = (
        (lambda: probe(ready, mapped))
        if "--probe" in sys.argv
        else (lambda: live(sys.argv[1:], ready, mapped))
    )
    child = fork(second)
    os.close(ready)
    if os.read(is_ready, 1):
        write_maps(child, os.getuid() == 0)
        os.write(is_mapped, b"1")
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()

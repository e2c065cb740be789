"""Start a Python module under the kernel's eyes: `python watched_start.py SOCKET MODULE`.

Puts a seccomp filter on this process and all that it will start: calls that reach for the network, start a
program or could go round the filter are reported to the one who listens on SOCKET, who decides about them.
It needs no privilege, sees C++ code as well as Python, and nothing can take it off again. Runs in any
environment: standard library only. Imports of the modules named in BENCH_WATCH_IMPORTS are reported as
attempts to open the file `/watched-import/NAME`, which is no file.
"""

import ctypes
import os
import platform
import runpy
import socket
import struct
import sys

SET_NO_NEW_PRIVILEGES = 38
SET_MODE_FILTER, NEW_LISTENER = 1, 8
ALLOW, NOTIFY, KILL_PROCESS = 0x7FFF0000, 0x7FC00000, 0x80000000
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_OFFSET, MACHINE_OFFSET = 0, 4  # in struct seccomp_data
SECCOMP = {"x86_64": 317, "aarch64": 277}
AUDIT_MACHINE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = {
    "x86_64": {"socket": 41, "connect": 42, "execve": 59, "execveat": 322, "io_uring_setup": 425},
    "aarch64": {"socket": 198, "connect": 203, "execve": 221, "execveat": 281, "io_uring_setup": 425},
}
IMPORTS_VARIABLE = "BENCH_WATCH_IMPORTS"
IMPORT_MARK = "/watched-import/"


def program(machine: str) -> bytes:
    """The filter in classic BPF: report the calls of `CALLS`, allow the rest, end a process of another
    instruction set's system calls.
    """
    numbers = sorted(CALLS[machine].values())
    steps = [(LOAD, 0, 0, MACHINE_OFFSET), (JUMP_EQUAL, 1, 0, AUDIT_MACHINE[machine])]
    steps += [(RETURN, 0, 0, KILL_PROCESS), (LOAD, 0, 0, NUMBER_OFFSET)]
    for index, number in enumerate(numbers):
        steps.append((JUMP_EQUAL, len(numbers) - index, 0, number))
    steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, NOTIFY)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def install() -> int:
    """Put the filter on this process; returns the descriptor of its reports. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    code = program(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if library.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    number = SECCOMP[platform.machine()]
    listener = library.syscall(number, SET_MODE_FILTER, NEW_LISTENER, ctypes.create_string_buffer(header))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return int(listener)


def watch_imports() -> None:
    """Report imports of the named modules through a call that the filter sees."""
    named = tuple(filter(None, os.environ.get(IMPORTS_VARIABLE, "").split(",")))
    library = ctypes.CDLL(None)

    def hook(event: str, details: tuple[object, ...]) -> None:
        if event == "import" and str(details[0]) in named:
            library.execve(f"{IMPORT_MARK}{details[0]}".encode(), None, None)  # fails: there is no such file

    if named:
        sys.addaudithook(hook)


def main() -> None:
    """Hand over the descriptor, then become the module."""
    place, module = sys.argv[1:3]
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(place)
        try:
            listener = install()
        except OSError as error:
            door.sendall(f"refused: {error}".encode())
            sys.exit(1)
        socket.send_fds(door, [b"ready"], [listener])
        os.close(listener)
        door.recv(1)  # somebody reads the reports now
    watch_imports()
    sys.argv = [module, *sys.argv[3:]]
    sys.path[0] = ""
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

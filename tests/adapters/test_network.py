"""Nothing phones home: every framework that is here converts, loads and runs in its worker while the kernel
reports what reaches for the network or starts a program; and the watch itself sees what it should.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adapters.catalogue import ADAPTERS, adapter
from adapters.environments import FOLDER_VARIABLE, environment, folder_of
from adapters.install import environments_of, missing_parts
from adapters.protocol import Setting
from benchsuite.device.frameworks import why_not_here
from benchsuite.loaded import loaded
from benchsuite.policy import Policy
from benchsuite.watched import Attempt, WatchedDevice
from models.errors import BenchError
from models.onnx_file import read_user_model
from models.tiny import write_convolutions

FORBIDDEN_IMPORTS = ("MNN.tools", "openvino_telemetry", "pip")
INSTALLERS = ("pip", "uv", "conda", "curl", "wget")
QUICK = Policy(warm_up_seconds=0.02, warm_up_limit_seconds=0.1)


@pytest.fixture
def device() -> Iterator[WatchedDevice]:
    place = WatchedDevice(FORBIDDEN_IMPORTS)
    yield place
    place.close()


def watched(device: WatchedDevice, folder: Path, program: str) -> list[Attempt]:
    """What a Python program is seen to try."""
    (folder / "misbehaving.py").write_text(program, encoding="utf-8")
    try:
        process = device.start("misbehaving", Path(sys.executable), folder)
    except BenchError as error:
        pytest.skip(str(error))
    assert process.receive(30.0) == "done"
    process.end(grace_seconds=5.0)
    return device.attempts


PYTHON_SOCKET = """
import socket
try: socket.create_connection(("127.0.0.1", 9), timeout=1)
except OSError as error: assert error.errno == 1, error
"""
C_SOCKET = """
import ctypes
library = ctypes.CDLL(None, use_errno=True)
assert library.socket(2, 1, 0) == -1 and ctypes.get_errno() == 1
"""
THREAD_SOCKET = """
import socket, threading
def reach():
    try: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError: pass
one = threading.Thread(target=reach)
one.start(); one.join()
"""
CHILD_SOCKET = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import socket; socket.socket()"], stderr=subprocess.DEVNULL)
"""
NAME = """
import socket
try: socket.getaddrinfo("example.invalid", 80)
except OSError: pass
"""
DEEDS = {"python": PYTHON_SOCKET, "c": C_SOCKET, "thread": THREAD_SOCKET, "child": CHILD_SOCKET, "name": NAME}


@pytest.mark.parametrize("deed", DEEDS)
def test_whoever_reaches_for_the_network_is_seen_and_refused(
    deed: str, device: WatchedDevice, tmp_path: Path
) -> None:
    attempts = watched(device, tmp_path, DEEDS[deed] + "\nprint('done', flush=True)\n")
    network = [one for one in attempts if one.is_network]
    assert network, attempts
    assert all(one.call in ("socket", "connect") for one in network)


def test_what_stays_on_this_machine_is_left_alone(device: WatchedDevice, tmp_path: Path) -> None:
    program = "import socket; socket.socketpair(); socket.socket(socket.AF_UNIX); print('done', flush=True)"
    assert [one for one in watched(device, tmp_path, program) if one.is_network] == []


def test_programs_and_imports_are_seen(device: WatchedDevice, tmp_path: Path) -> None:
    package = tmp_path / "MNN"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tools.py").touch()
    program = (
        "import subprocess, sys, MNN\n"
        "subprocess.run([sys.executable, '-m', 'pip', '--version'], stdout=subprocess.DEVNULL)\n"
        "import MNN.tools\n"
        "print('done', flush=True)\n"
    )
    attempts = watched(device, tmp_path, program)
    assert installers(attempts) != []
    assert "/watched-import/MNN.tools" in [one.what for one in attempts]
    assert "/watched-import/MNN" not in [one.what for one in attempts]


def installers(attempts: list[Attempt]) -> list[str]:
    """Programs started that install or fetch something."""
    words = {one.what: {Path(word).name for word in one.what.split()} for one in attempts}
    return [what for what, names in words.items() if names & set(INSTALLERS)]


@pytest.mark.parametrize("framework", ADAPTERS)
def test_a_framework_keeps_to_itself(
    framework: str, device: WatchedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From conversion to outputs; its home is empty, so that what is done once only is done now."""
    row = adapter(framework)
    reason = why_not_here(row)
    missing = missing_parts(row)
    if reason is not None or missing:
        pytest.skip(reason or f"not installed: {', '.join(missing)}")
    known = {name: folder_of(environment(name)) for name in environments_of(row)}
    monkeypatch.setenv(FOLDER_VARIABLE, str(next(iter(known.values()), tmp_path).parent))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "net.onnx"
    write_convolutions(path, channels=8, pixels=16, layers=2)
    model = read_user_model(path, {})
    refused = ""
    try:
        with loaded(device, row, model, Setting(1, "fp32"), policy=QUICK, cache=tmp_path / "cache") as held:
            held.ask(do="run", iterations=3, rewarm=0)
            held.ask(do="outputs", path=str(tmp_path / "outputs.npz"))
    except BenchError as error:
        refused = str(error)
        if not error.what.startswith("refused"):
            raise
    seen = [json.dumps([one.call, one.what]) for one in device.attempts]
    assert [one for one in device.attempts if one.is_network] == [], seen
    assert installers(device.attempts) == [], seen
    assert [one for one in device.attempts if "/watched-import/" in one.what] == [], seen
    if refused:  # it was quiet as far as it came
        pytest.skip(refused)
    with np.load(tmp_path / "outputs.npz") as archive:
        assert archive.files

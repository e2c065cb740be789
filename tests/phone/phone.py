"""A test phone: started from the parts, switched off and on, heated, its files looked at."""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchsuite.device.scratch import make_scratch
from tests.phone.cable import Cable, free_port
from tests.phone.chips import S21, Chip, chip_files
from tests.phone.conditions import Conditions
from tests.phone.root import write_properties
from tests.phone.setup import Parts, parts

SHELL_UID = 2000
BIG_FILE_BYTES = 1 << 16
REPLY_TIMEOUT_S = 30
KEYS = "data/misc/adb/adb_keys"


class Phone:
    """One phone with its cable. Use it as a context manager, or the fixtures of `tests/phone/fixtures.py`.

    `data_bytes` makes /data/local/tmp a disk of that size, which can be full; it outlives a power loss.
    """

    def __init__(self, chip: Chip = S21, *, serial: str = "R5CR30TEST1", data_bytes: int = 0) -> None:
        made: Parts = parts()
        self.chip = chip
        self._folder = make_scratch()  # what a killed test left is removed by the next
        self.root = self._folder / "root"
        _copy_tree(made.root, self.root)
        write_properties(self.root, {**chip.properties, "ro.serialno": serial})
        _write_files(self.root, chip_files(chip))
        self._own_what_shell_writes()
        (self._folder / "proc").mkdir()
        self.conditions = Conditions(self.root, self._folder / "proc", chip)
        self.port = free_port()
        words = [str(self.root), str(made.emulator), str(self.port), str(data_bytes), chip.kernel]
        self._body = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(__file__).parent / "namespaces.py"), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.cable = Cable(self.port)
        self._init = 0
        try:
            self._reply()
            self.on()
        except BaseException:
            self.close()
            raise

    @property
    def serial(self) -> str:
        """As an adb server names it after `adb connect`: the cable's end at this side."""
        return f"127.0.0.1:{self.cable.port}"

    @property
    def tmp(self) -> Path:
        """/data/local/tmp, seen from this machine (also while the phone is off)."""
        return Path(f"/proc/{self._holder()}/root{self.root}/data/local/tmp")

    def on(self) -> None:
        """Switch it on: a new boot id, what does not survive a boot is as at first."""
        self._new_boot()
        self._init = int(self._ask("on")["init"])
        self.cable.power(True)

    def off(self) -> None:
        """Power loss: every process ends at once; files stay. Connections are reset, new ones refused."""
        self.cable.power(False)
        self._ask("off")
        self._init = 0

    def reboot(self) -> None:
        """Off and on."""
        self.off()
        self.on()

    def kill_adbd(self) -> None:
        """End adbd and all that it started, as Android's init does; init starts it again after 0.2 s."""
        self._ask("kill_adbd")

    def authorise(self, public_key: Path) -> None:
        """What the user does with "Allow USB debugging?" for the key of a computer (adbkey.pub)."""
        keys = self.root / KEYS
        known = keys.read_text(encoding="utf-8") if keys.exists() else ""
        keys.write_text(known + public_key.read_text(encoding="utf-8").strip() + "\n", encoding="utf-8")
        _give(keys)

    def forget_keys(self) -> None:
        """Revoke all authorisations; connections that stand stay, as on a phone."""
        (self.root / KEYS).unlink(missing_ok=True)

    def processes(self) -> dict[int, str]:
        """Command lines of what runs on the phone, by process number here, without init and adbd."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_ours(entry):
                words = _read_bytes(entry / "cmdline").split(b"\0")
                text = b" ".join(words[2:] if b"qemu" in words[0] else words).decode(errors="replace").strip()
                if text and not text.endswith("adbd"):
                    found[int(entry.name)] = text
        return found

    def close(self) -> None:
        """End the phone and remove its files."""
        self.cable.close()
        if self._body.stdin is not None:
            self._body.stdin.close()
        try:
            self._body.wait(10)
        except subprocess.TimeoutExpired:
            self._body.send_signal(signal.SIGKILL)
            self._body.wait()
        for stream in (self._body.stdout, self._body.stderr):
            if stream is not None:
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _new_boot(self) -> None:
        self.boot_id = str(uuid.uuid4())
        self.conditions.write_proc("boot_id", self.boot_id)
        volatile = self.root / "mnt/volatile"
        shutil.rmtree(volatile, ignore_errors=True)
        volatile.mkdir()
        _give(volatile)
        for name, value in (("screen", "Asleep"), ("fixed_performance", "false")):
            (volatile / name).write_text(f"{value}\n", encoding="ascii")
            _give(volatile / name)

    def _own_what_shell_writes(self) -> None:
        for name in ("data/local/tmp", "data/misc/adb"):
            _give(self.root / name)
        for space in ("global", "system", "secure"):
            place = self.root / "data/system/settings" / space
            place.mkdir(parents=True)
            _give(place)

    def _is_ours(self, entry: Path) -> bool:
        """Whether a process lives in the pid namespace of the phone's process 1, and is not that."""
        try:
            here = os.readlink(f"/proc/{self._init}/ns/pid")
            return entry.name != str(self._init) and os.readlink(entry / "ns/pid") == here
        except OSError:
            return False

    def _holder(self) -> int:
        children = Path(f"/proc/{self._body.pid}/task/{self._body.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])

    def _ask(self, action: str) -> dict[str, Any]:
        assert self._body.stdin is not None
        self._body.stdin.write(json.dumps({"do": action}) + "\n")
        self._body.stdin.flush()
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._body.stdout is not None
        assert self._body.stderr is not None
        line = self._body.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": self._body.stderr.read().strip()}
        if not reply.get("ok"):
            raise RuntimeError(f"the test phone: {reply.get('error')}")
        return reply


def _copy_tree(source: Path, target: Path) -> None:
    """Copy; big files, which nobody on the phone may write, are the same file."""

    def copy(one: str, other: str) -> None:
        if os.path.getsize(one) >= BIG_FILE_BYTES:
            try:
                os.link(one, other)
                return
            except OSError:
                pass  # another file system
        shutil.copy2(one, other)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)


def _write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="ascii")


def _give(path: Path) -> None:
    """Let the phone's shell user own a file; without root that user is who we are."""
    if os.getuid() == 0:
        os.chown(path, SHELL_UID, SHELL_UID)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""

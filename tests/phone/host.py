"""A private adb server for tests: own port, own key, no search for emulators; the user's is not touched."""

import os
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

TIMEOUT_S = 60


def adb_binary() -> str | None:
    """`$ADB`, the one that adbutils carries, or the one on the PATH."""
    if os.environ.get("ADB"):
        return os.environ["ADB"]
    spec = find_spec("adbutils")
    if spec is not None and spec.origin is not None:
        carried = Path(spec.origin).parent / "binaries" / "adb"
        if carried.is_file():
            return str(carried)
    return shutil.which("adb")


class AdbHome:
    """`environment` is what a client needs to speak to this server: give it to subprocesses."""

    def __init__(self, folder: Path, binary: str) -> None:
        self.binary, self.folder = binary, folder
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            self.port = int(trial.getsockname()[1])
        self.environment = {
            "ANDROID_ADB_SERVER_PORT": str(self.port),
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
            "ADB": binary,
        }
        # Where the key and the log are; not in `environment`, because caches are under HOME too.
        self._private = {"HOME": str(folder), "TMPDIR": str(folder)}
        (folder / ".android").mkdir(parents=True, exist_ok=True)
        self.run("keygen", str(folder / ".android/adbkey"))
        self.public_key = folder / ".android/adbkey.pub"
        self.run("start-server")

    def run(
        self, *words: str, check: bool = True, timeout_s: float = TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """One call of adb."""
        return subprocess.run(
            [self.binary, *words],
            env={**os.environ, **self.environment, **self._private},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=check,
        )

    def connect(self, serial: str) -> str:
        """Connect, from nothing: a stale entry would say "already connected". Returns what adb said."""
        self.disconnect(serial)
        return self.run("connect", serial, check=False).stdout.strip()

    def disconnect(self, serial: str) -> None:
        """Forget the device; nothing when it is not known."""
        self.run("disconnect", serial, check=False)

    def shell(
        self, serial: str, script: str, timeout_s: float = TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run one string in the phone's shell; exit code, stdout and stderr apart."""
        return self.run("-s", serial, "shell", script, check=False, timeout_s=timeout_s)

    def close(self) -> None:
        """End the server."""
        self.run("kill-server", check=False)

"""The slower test phone: a virtual machine with a kernel of its own, eight cores, real /proc and placement.

Made of the other phone's tree as an initramfs, Debian's kernel for 64-bit ARM and its qemu. Beyond the other:
`taskset` with all cores of the chip, memory of its own, a kernel that says so itself.
"""

import hashlib
import io
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock

from benchsuite.device.debian import fetch, read_pins, unpack
from benchsuite.device.scratch import make_scratch
from models.errors import BenchError
from tests.phone.cable import Cable, free_port
from tests.phone.chips import S21, Chip, chip_files
from tests.phone.conditions import Conditions
from tests.phone.phone import KEYS, SHELL_UID
from tests.phone.root import write_properties
from tests.phone.setup import COMPLETE, HERE, Parts, Unavailable, folder, make, parts

PINS = HERE / "debian-vm.toml"
DRIVERS = ("net/net_failover", "net/virtio_net", "virtio/virtio_mmio")
MODULES = ("net/core/failover", *(f"drivers/{one}" for one in DRIVERS))
MEMORY_MB = 1024
INIT = """#!/system/bin/sh
export PATH=/system/bin ANDROID_ROOT=/system ANDROID_DATA=/data HOME=/ TMPDIR=/data/local/tmp ADBD_PORT=5555
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts -o mode=0620,ptmxmode=0666 devpts /dev/pts
for one in failover net_failover virtio_net virtio_mmio; do insmod /modules/$one.ko; done
ifconfig lo up
ifconfig eth0 10.0.2.15 up
exec </dev/null >/dev/null 2>&1
while true; do as_shell /apex/com.android.adbd/bin/adbd; sleep 0.2; done
"""


class VmParts:
    """Where qemu, its libraries, the kernel and the modules lie."""

    def __init__(self) -> None:
        digest = hashlib.sha256(PINS.read_bytes() + (HERE / "as_shell.c").read_bytes())
        self.folder = folder() / f"vm-{digest.hexdigest()[:12]}"

    def made(self) -> Self:
        """Make them when they are not there; raises `Unavailable`."""
        phone = make()
        with FileLock(self.folder.parent / "vm.lock", timeout=1800):
            if not (self.folder / COMPLETE).is_file():
                try:
                    self._make(phone)
                except (
                    BenchError,
                    OSError,
                    RuntimeError,
                    lzma.LZMAError,
                    subprocess.SubprocessError,
                ) as error:
                    raise Unavailable(f"the virtual phone: {' '.join(str(error).split())}") from error
        return self

    def present(self) -> Self:
        """Only look; raises `Unavailable`."""
        parts()
        if not (self.folder / COMPLETE).is_file():
            raise Unavailable("the virtual phone is not set up: python -m tests.phone.setup --vm")
        return self

    def _make(self, phone: Parts) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=".vm-") as temporary:
            unpacked, made = Path(temporary) / "unpacked", Path(temporary) / "made"
            unpacked.mkdir()
            (made / "modules").mkdir(parents=True)
            unpack(fetch(read_pins(PINS)).values(), unpacked)
            shutil.copytree(unpacked / "usr/lib/x86_64-linux-gnu", made / "lib", ignore=_only_libraries)
            shutil.copy(unpacked / "usr/bin/qemu-system-aarch64", made)
            shutil.copy(next((unpacked / "boot").glob("vmlinuz-*")), made / "kernel")
            kernel = next((unpacked / "usr/lib/modules").glob("*/kernel"))
            for name in MODULES:
                module = made / "modules" / f"{Path(name).name}.ko"
                module.write_bytes(lzma.decompress((kernel / f"{name}.ko.xz").read_bytes()))
            target = ["-target", "aarch64-linux-musl", "-mcpu=generic", "-O2", "-static", "-s"]
            source = [str(HERE / "as_shell.c"), "-o", str(made / "as_shell")]
            command = [sys.executable, "-m", "ziglang", "cc", *target, *source]
            subprocess.run(command, check=True, capture_output=True, timeout=600)
            (made / COMPLETE).touch()
            shutil.rmtree(self.folder, ignore_errors=True)
            os.replace(made, self.folder)


def _only_libraries(where: str, names: list[str]) -> set[str]:
    return {one for one in names if ".so" not in one or os.path.isdir(os.path.join(where, one))}


class VmPhone:
    """As `Phone`, in a virtual machine: serial, cable, close. It must be authorised when it is made."""

    def __init__(self, public_key: Path, chip: Chip = S21) -> None:
        made = VmParts().present()
        self._folder = make_scratch()
        root = self._folder / "root"
        shutil.copytree(parts().root, root, symlinks=True)
        names = {name: value for name, value in chip.properties.items() if name != "service.adb.listen_addrs"}
        write_properties(root, names)
        for name, text in chip_files(chip).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="ascii")
        Conditions(root, self._folder, chip)
        shutil.copytree(made.folder / "modules", root / "modules")
        shutil.copy(made.folder / "as_shell", root / "system/bin")
        (root / "init").write_text(INIT, encoding="ascii")
        (root / "init").chmod(0o755)
        (root / KEYS).write_text(public_key.read_text(encoding="utf-8").strip() + "\n", encoding="utf-8")
        write_archive(root, self._folder / "initramfs", mine=("data/local/tmp", KEYS, "data/misc/adb"))
        port = free_port()
        command = _command(made.folder, self._folder, port, sum(len(one.cores) for one in chip.clusters))
        null = subprocess.DEVNULL
        with (self._folder / "qemu.log").open("wb") as log:
            self._machine = subprocess.Popen(command, stdin=null, stdout=null, stderr=log)
        self.cable = Cable(port)

    @property
    def serial(self) -> str:
        """As an adb server names it."""
        return f"127.0.0.1:{self.cable.port}"

    def log(self) -> str:
        """What the machine and its kernel said."""
        places = (self._folder / "console.log", self._folder / "qemu.log")
        return "\n".join(one.read_text(errors="replace") for one in places if one.exists())

    def close(self) -> None:
        """Switch the machine off and remove its files."""
        self.cable.close()
        self._machine.kill()
        self._machine.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _command(made: Path, own: Path, port: int, cores: int) -> list[str]:
    """qemu, through the C library that it was built for."""
    libraries = made / "lib"
    forward = f"hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:5555"
    command = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
    command += [str(made / "qemu-system-aarch64"), "-M", "virt", "-cpu", "cortex-a76", "-nodefaults"]
    command += ["-accel", "tcg,thread=multi", "-smp", str(cores), "-m", str(MEMORY_MB), "-no-reboot"]
    command += ["-kernel", str(made / "kernel"), "-initrd", str(own / "initramfs"), "-display", "none"]
    command += ["-append", "console=ttyAMA0 rdinit=/init quiet panic=-1", "-monitor", "none"]
    command += ["-netdev", f"user,id=n,restrict=on,{forward}", "-device", "virtio-net-device,netdev=n"]
    return [*command, "-serial", f"file:{own / 'console.log'}"]


def write_archive(root: Path, target: Path, mine: tuple[str, ...]) -> None:
    """Write a tree as a cpio archive, for a kernel to unpack: `mine` is the shell user's, the rest 0's."""
    with target.open("wb") as file:
        for number, (name, mode, content) in enumerate(_entries(root), start=1):
            owner = SHELL_UID if name in mine or name.startswith("data/system/settings") else 0
            _write_entry(file, number, name, mode, owner, content)
        _write_entry(file, 0, "TRAILER!!!", 0, 0, b"")


def _entries(root: Path) -> Iterator[tuple[str, int, bytes]]:
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            content = os.readlink(path).encode()
        else:
            content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        yield path.relative_to(root).as_posix(), found.st_mode, content


def _write_entry(
    file: io.BufferedWriter, number: int, name: str, mode: int, owner: int, content: bytes
) -> None:
    numbers = (number, mode, owner, owner, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % one for one in numbers) + name.encode() + b"\0"
    file.write(head + b"\0" * (-len(head) % 4))
    file.write(content + b"\0" * (-len(content) % 4))

"""The file system of the test phone: Android's tree, of Debian's packages and of stand-ins for services."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LIBRARIES = "apex/com.android.runtime/lib64"
ADBD = "apex/com.android.adbd/bin/adbd"
LOADER = "ld-linux-aarch64.so.1"
MAKE_TIMEOUT_S = 300
FOLDERS = (
    ("acct", 0o755),
    ("apex", 0o755),
    ("data", 0o771),
    ("data/local", 0o751),
    ("data/local/tmp", 0o771),
    ("data/misc/adb", 0o750),
    ("dev", 0o755),
    ("dev/pts", 0o755),
    ("linkerconfig", 0o755),
    ("mnt", 0o755),
    ("odm", 0o755),
    ("proc", 0o755),
    ("product/bin", 0o755),
    ("sdcard", 0o755),
    ("storage", 0o755),
    ("sys", 0o755),
    ("system/bin", 0o755),
    ("system/etc", 0o755),
    ("vendor/bin", 0o755),
)
LINKS = {
    "bin": "/system/bin",
    "etc": "/system/etc",
    "d": "/sys/kernel/debug",
    "dev/ptmx": "pts/ptmx",
    "dev/fd": "/proc/self/fd",
}
USERS = {"root": 0, "system": 1000, "shell": 2000}
"""Android's users, which its C library knows by heart and Debian's reads from files."""
NOT_ON_A_PHONE = frozenset(
    {"sh", "bash", "toysh", "su", "login", "sulogin", "getty", "init", "oneit", "reboot"}
)
AUTHENTICATION_OFF = bytes.fromhex("1f010039")
AUTHENTICATION_KEPT = bytes.fromhex("1f2003d5")
"""`strb wzr, [x8]`, by which Debian switches adbd's authentication off, and the `nop` that leaves it on."""


def build_root(root: Path, unpacked: Path, emulator: Path) -> None:
    """Make the tree in the empty folder `root` from unpacked packages."""
    for name, mode in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    for name, place in LINKS.items():
        (root / name).symlink_to(place)
    _libraries(root, unpacked)
    _shell_and_tools(root, unpacked, emulator)
    _adbd(root, unpacked, emulator)
    _services(root)
    etc = root / "system/etc"
    passwd = "".join(f"{name}::{uid}:{uid}::/:/system/bin/sh\n" for name, uid in USERS.items())
    (etc / "passwd").write_text(passwd, encoding="ascii")
    (etc / "group").write_text("".join(f"{name}::{gid}:\n" for name, gid in USERS.items()), encoding="ascii")


def _libraries(root: Path, unpacked: Path) -> None:
    """Every library under its soname: what Android's own Bionic is on a phone."""
    folder = root / LIBRARIES
    folder.mkdir(parents=True)
    for place in (unpacked / "usr/lib/aarch64-linux-gnu", unpacked / "usr/lib/aarch64-linux-gnu/android"):
        for file in place.glob("*.so*"):
            if file.is_file():
                shutil.copy(file, folder / file.name)


def _shell_and_tools(root: Path, unpacked: Path, emulator: Path) -> None:
    binaries = root / "system/bin"
    shutil.copy(unpacked / "usr/lib/aarch64-linux-musl/bin/mksh", binaries / "sh")
    shutil.copy(unpacked / "usr/bin/toybox", binaries / "toybox")
    _relocate(binaries / "toybox", root, unpacked, emulator)
    listed = _output([str(emulator), "-L", str(root), str(binaries / "toybox")])
    for name in listed.split():
        if name not in NOT_ON_A_PHONE:
            (binaries / name).symlink_to("toybox")


def _adbd(root: Path, unpacked: Path, emulator: Path) -> None:
    """adbd with authentication as on a phone, asking our library for properties."""
    program = root / ADBD
    program.parent.mkdir(parents=True)
    code = (unpacked / "usr/lib/android-sdk/platform-tools/adbd").read_bytes()
    program.write_bytes(with_authentication(code))
    program.chmod(0o755)
    _relocate(program, root, unpacked, emulator, "--add-needed", "libphoneproperties.so")
    source = Path(__file__).parent / "properties.c"
    library = root / LIBRARIES / "libphoneproperties.so"
    target = ["-target", "aarch64-linux-gnu.2.31", "-shared", "-fPIC", "-O1", "-s"]
    _output([sys.executable, "-m", "ziglang", "cc", *target, str(source), "-o", str(library)])


def with_authentication(code: bytes) -> bytes:
    """adbd's code with the one store gone that switches authentication off; raises ValueError when it is not
    the code that this was written for.
    """
    places = [
        at
        for at in range(8, len(code) - 12, 4)
        if code[at : at + 4] == AUTHENTICATION_OFF and _is_there(code, at)
    ]
    if len(places) != 1:
        raise ValueError(
            f"adbd has {len(places)} places that switch authentication off, not 1: another version?"
        )
    return code[: places[0]] + AUTHENTICATION_KEPT + code[places[0] + 4 :]


def _is_there(code: bytes, at: int) -> bool:
    """Whether the store is the one between `nop; adr x0; ldr x8, [x8]` and `bl; adrp`."""
    words = [int.from_bytes(code[at + 4 * step : at + 4 * step + 4], "little") for step in range(-3, 3)]
    nop, adr, ldr, _, call, page = words
    return (
        nop == 0xD503201F
        and adr & 0x9F00001F == 0x10000000
        and ldr & 0xFFC003FF == 0xF9400108
        and call >> 26 == 0b100101
        and page & 0x9F000000 == 0x90000000
    )


def _relocate(program: Path, root: Path, unpacked: Path, emulator: Path, *more: str) -> None:
    """Let a program find the loader and libraries where the phone has them; patchelf itself runs emulated."""
    place = f"/{LIBRARIES}"
    words = ["--set-interpreter", f"{place}/{LOADER}", "--force-rpath", "--set-rpath", place, *more]
    libraries = root / LIBRARIES
    loader = [str(emulator), str(libraries / LOADER), "--library-path", str(libraries)]
    _output([*loader, str(unpacked / "usr/bin/patchelf"), *words, str(program)])


def _services(root: Path) -> None:
    for script in (Path(__file__).parent / "system").glob("*.sh"):
        place = root / "system/bin" / script.stem
        place.unlink(missing_ok=True)
        shutil.copy(script, place)
        place.chmod(0o755)


def write_properties(root: Path, properties: Mapping[str, str]) -> None:
    """Write build.prop."""
    lines = [f"{name}={value}\n" for name, value in properties.items()]
    (root / "system/build.prop").write_text("".join(lines), encoding="utf-8")


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=MAKE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout

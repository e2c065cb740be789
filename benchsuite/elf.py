"""Where the machine code lies in a shared library: the program headers of an ELF file, and nothing more."""

import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"\x7fELF"
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}
MACHINE = struct.Struct("<16xHH")
LOADED, EXECUTABLE = 1, 1
CLASS_64, LITTLE_ENDIAN = 2, 1


@dataclass(frozen=True, slots=True)
class ExecutableParts:
    """Offset and size (bytes in the file) of every executable segment; `machine` as `uname -m` says."""

    machine: str
    parts: tuple[tuple[int, int], ...]


def executable_parts(path: Path) -> ExecutableParts | None:
    """The code of a 64-bit little-endian ELF file; None for any other file, or one that cannot be read."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER.size)
            if not _is_readable(header):
                return None
            fields = HEADER.unpack(header)
            machine, table_offset, entry_size, entry_count = fields[2], fields[5], fields[9], fields[10]
            file.seek(table_offset)
            table = file.read(entry_size * entry_count)
            length = path.stat().st_size
    except OSError:
        return None
    if entry_size < SEGMENT.size or len(table) < entry_size * entry_count:
        return None
    segments = [SEGMENT.unpack_from(table, index * entry_size) for index in range(entry_count)]
    parts = tuple(
        (offset, min(size, length - offset))
        for kind, flags, offset, _, _, size, _, _ in segments
        if kind == LOADED and flags & EXECUTABLE and size > 0 and offset < length
    )
    return ExecutableParts(MACHINES.get(machine, f"machine {machine}"), parts)


def machine_of(path: Path) -> str | None:
    """What an ELF file of either width runs on, as `uname -m` says; None for any other file."""
    with path.open("rb") as file:
        header = file.read(MACHINE.size)
    if len(header) < MACHINE.size or not header.startswith(MAGIC) or header[5] != LITTLE_ENDIAN:
        return None
    _, machine = MACHINE.unpack(header)
    return MACHINES.get(machine, f"machine {machine}")


def _is_readable(header: bytes) -> bool:
    return (
        len(header) == HEADER.size
        and header.startswith(MAGIC)
        and header[4] == CLASS_64
        and header[5] == LITTLE_ENDIAN
    )

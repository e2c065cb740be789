"""Which instruction sets a piece of machine code uses: multiply-adds are looked for by their encodings.

A library may hold code for every processor and choose when it runs, so the same table serves two questions:
what is in a binary (`scan_file`), and what lies around the instruction that a thread is at (`nearest`). No
disassembler is needed: the encodings have enough fixed bits that random bytes hardly ever look like one, and
`false_rate` says how often they would. Bits are from the Intel SDM volume 2 (2.3.5 VEX, 2.7.1 EVEX) and the
Arm ARM (C4.1, C8).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchsuite.elf import executable_parts

Bytes = NDArray[np.uint8]

FALSE_HITS_FACTOR = 10
LEAST_HITS = 8
"""An instruction set counts as present from this many hits, and from ten times what chance would give."""
CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Encoding:
    """One multiply-add of an instruction set: its bytes ANDed with `mask` are `value`.

    The last byte's alternatives are `finals` where there are several opcodes (x86); aarch64 instructions are
    aligned words, their bytes in memory order. `binary` is false where chance hits would drown it in a
    library: it only serves a window around an instruction pointer.
    """

    isa: str
    mask: bytes
    value: bytes
    finals: tuple[int, ...] = ()
    step: int = 1
    binary: bool = True

    @property
    def length(self) -> int:
        """Bytes looked at."""
        return len(self.mask) + bool(self.finals)

    @property
    def false_rate(self) -> float:
        """Chance that it matches at one byte (x86) or one word (aarch64) of random data."""
        fixed_bits = sum(byte.bit_count() for byte in self.mask)
        return float(2.0**-fixed_bits * (len(self.finals) / 256 if self.finals else 1))


def _vex(isa: str, second: int, opcodes: tuple[int, ...]) -> Encoding:
    """Three-byte VEX of map 0F38: C4, R X B mmmmm, W vvvv L pp; `second` fixes W, L and pp."""
    return Encoding(isa, b"\xff\x1f\x87", bytes([0xC4, 0x02, second]), opcodes)


def _evex(isa: str, width: int, second: int, opcodes: tuple[int, ...], opcode_map: int = 2) -> Encoding:
    """EVEX: 62, R X B R' 0 mmm, W vvvv 1 pp, z L'L b V' aaa; `width` is L'L at its place."""
    return Encoding(isa, b"\xff\x0f\x87\x60", bytes([0x62, opcode_map, second, width]), opcodes)


def _tile(prefix: int, opcode: int) -> Encoding:
    """AMX products: VEX.128 of map 0F38, W0, tiles only (the top bit of vvvv is 1), register form."""
    return Encoding("AMX", b"\xff\x1f\xc7\xff\xc0", bytes([0xC4, 0x02, 0x40 | prefix, opcode, 0xC0]))


def _word(isa: str, mask: int, value: int) -> Encoding:
    return Encoding(isa, mask.to_bytes(4, "little"), value.to_bytes(4, "little"), step=4)


FMA_132_213_231 = (0x98, 0xA8, 0xB8)
P66, PF3 = 0x05, 0x06  # EVEX: W0, the fixed 1, pp
V66_256 = 0x05  # VEX: W0, L=1, pp=66
L128, L256, L512 = 0x00, 0x20, 0x40

X86 = (
    _evex("AVX-512 FMA", L512, P66, FMA_132_213_231),
    _evex("AVX-512VL FMA", L256, P66, FMA_132_213_231),
    _vex("AVX2 FMA", V66_256, FMA_132_213_231),
    Encoding("SSE", b"\xff\xff\xc0", b"\x0f\x59\xc0", binary=False),  # mulps xmm, xmm
    _evex("AVX512-VNNI", L512, P66, (0x50, 0x51, 0x52, 0x53)),
    _vex("AVX-VNNI", V66_256, (0x50, 0x51, 0x52, 0x53)),
    _evex("AVX512-BF16", L512, PF3, (0x52,)),
    _evex("AVX512-FP16", L512, P66, FMA_132_213_231, opcode_map=6),
    _tile(0b10, 0x5C),  # tdpbf16ps
    _tile(0b11, 0x5C),  # tdpfp16ps
    *(_tile(prefix, 0x5E) for prefix in range(4)),  # tdpbuud, tdpbusd, tdpbsud, tdpbssd
)

AARCH64 = (
    _word("NEON FMA", 0xBFE0FC00, 0x0E20CC00),  # fmla v.4s, v.4s, v.4s
    _word("NEON FMA", 0xBFC0F400, 0x0F801000),  # fmla v.4s, v.4s, v.s[i]
    _word("NEON FP16", 0xBFE0FC00, 0x0E400C00),
    _word("NEON FP16", 0xBFC0F400, 0x0F001000),
    _word("NEON DOT", 0x9FE0FC00, 0x0E809400),  # sdot and udot
    _word("NEON DOT", 0x9FC0F400, 0x0F80E000),  # … by element
    _word("NEON I8MM", 0xDFE0FC00, 0x4E80A400),  # smmla and ummla
    _word("NEON BF16", 0xFFE0FC00, 0x6E40EC00),  # bfmmla
    _word("NEON BF16", 0xBFE0FC00, 0x2E40FC00),  # bfdot
    _word("SVE FMA", 0xFFE0E000, 0x65A00000),  # fmla z.s, p/m
    _word("SVE FMA", 0xFFE0FC00, 0x64A00000),  # fmla z.s, z.s, z.s[i]
)

ENCODINGS: Mapping[str, tuple[Encoding, ...]] = {"x86_64": X86, "aarch64": AARCH64}
"""By what `platform.machine()` says."""


@dataclass(frozen=True, slots=True)
class CodeScan:
    """Multiply-adds found in code: `counts` by instruction set (only those above chance), bytes looked at."""

    counts: Mapping[str, int]
    code_bytes: int


def positions(code: Bytes, encoding: Encoding) -> NDArray[np.intp]:
    """Offsets at which the encoding is found in the code (aarch64: the code must start at a word)."""
    if len(code) < encoding.length:
        return np.empty(0, np.intp)
    last = len(code) - encoding.length + 1
    mask, value = encoding.mask, encoding.value
    start = 3 if encoding.step == 4 else 0  # the byte with most fixed bits first: few places are left
    first = code[start : last + start : encoding.step]
    found = np.flatnonzero((first & mask[start]) == value[start]) * encoding.step
    for index, (bits, wanted) in enumerate(zip(mask, value, strict=True)):
        if index != start:
            found = found[(code[found + index] & bits) == wanted]
    if encoding.finals:
        found = found[np.isin(code[found + len(mask)], encoding.finals)]
    return found


def scan_code(parts: Sequence[Bytes], encodings: Sequence[Encoding]) -> CodeScan:
    """Count the multiply-adds of each instruction set in pieces of code; what chance may explain is 0."""
    code_bytes = sum(len(part) for part in parts)
    counts, expected = dict[str, int](), dict[str, float]()
    for encoding in encodings:
        if not encoding.binary:
            continue
        hits = sum(len(positions(part, encoding)) for part in parts)
        counts[encoding.isa] = counts.get(encoding.isa, 0) + hits
        chance = encoding.false_rate * code_bytes / encoding.step
        expected[encoding.isa] = expected.get(encoding.isa, 0.0) + chance
    real = {isa: count for isa, count in counts.items() if count > threshold(expected[isa])}
    return CodeScan(real, code_bytes)


def threshold(expected_hits: float) -> float:
    """Hits that chance may explain."""
    return max(LEAST_HITS - 1, FALSE_HITS_FACTOR * expected_hits)


def scan_file(path: Path) -> CodeScan | None:
    """Multiply-adds in the executable segments of an ELF file; None when it is none, or of another machine.

    Memory is bounded: the file is mapped and read in pieces of `CHUNK_BYTES`.
    """
    found = executable_parts(path)
    if found is None or found.machine not in ENCODINGS:
        return None
    data: Any = np.memmap(path, np.uint8, mode="r")
    parts = [
        data[start : min(start + CHUNK_BYTES, offset + size)]
        for offset, size in found.parts
        for start in range(offset, offset + size, CHUNK_BYTES)
    ]
    return scan_code(parts, ENCODINGS[found.machine])


def nearest(code: bytes, pointer: int, encodings: Sequence[Encoding]) -> str | None:
    """The instruction set of the multiply-add nearest to offset `pointer` in a window of code; None for none.

    The window must be small (hundreds of bytes): a kernel's loop is around its instruction pointer, and
    chance hits do not count in it.
    """
    window = np.frombuffer(code, np.uint8)
    distances = [
        (int(np.abs(found - pointer).min()), encoding.isa)
        for encoding in encodings
        if len(found := positions(window, encoding))
    ]
    return min(distances)[1] if distances else None

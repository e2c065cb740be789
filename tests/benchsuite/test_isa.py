"""Instruction sets by their encodings: known bytes, compiled code, random bytes, real binaries."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchsuite.elf import executable_parts
from benchsuite.isa import (
    AARCH64,
    ENCODINGS,
    X86,
    Encoding,
    nearest,
    positions,
    scan_code,
    scan_file,
    threshold,
)

KNOWN_X86 = {
    "vfmadd231ps zmm2, zmm1, zmm0": ("62f27548b8d0", "AVX-512 FMA"),
    "vfmadd231ps zmm31, zmm17, dword [rax]{1to16}": ("62627550b838", "AVX-512 FMA"),
    "vfmadd213ps zmm2{k1}{z}, zmm1, zmm0": ("62f275c9a8d0", "AVX-512 FMA"),
    "vfmadd132ps ymm17, ymm1, ymm0": ("62e2752898c8", "AVX-512VL FMA"),
    "vfmadd231ps ymm2, ymm1, ymm0": ("c4e275b8d0", "AVX2 FMA"),
    "vfmadd231ps ymm12, ymm13, ymm14": ("c44215b8e6", "AVX2 FMA"),
    "vpdpbusd zmm2, zmm1, zmm0": ("62f2754850d0", "AVX512-VNNI"),
    "{vex} vpdpbusd ymm2, ymm1, ymm0": ("c4e27550d0", "AVX-VNNI"),
    "vdpbf16ps zmm2, zmm1, zmm0": ("62f2764852d0", "AVX512-BF16"),
    "vfmadd231ph zmm2, zmm1, zmm0": ("62f67548b8d0", "AVX512-FP16"),
    "tdpbf16ps tmm2, tmm1, tmm0": ("c4e27a5cd1", "AMX"),
    "tdpbssd tmm2, tmm1, tmm0": ("c4e27b5ed1", "AMX"),
    "mulps xmm0, xmm1": ("0f59c1", "SSE"),
}
OTHERS_X86 = {
    "vfmadd231pd zmm2, zmm1, zmm0": "62f2f548b8d0",
    "vfmadd231ps xmm2, xmm1, xmm0": "c4e271b8d0",
    "vfmadd231ss xmm2, xmm1, xmm0": "c4e271b9d0",
    "vfmadd231pd ymm2, ymm1, ymm0": "c4e2f5b8d0",
    "vmulps zmm2, zmm1, zmm0": "62f1744859d0",
    "mulps xmm0, [rax]": "0f5900",
}
KNOWN_AARCH64 = {
    "fmla v2.4s, v1.4s, v0.4s": (0x4E20CC22, "NEON FMA"),
    "fmla v2.4s, v1.4s, v0.s[1]": (0x4FA01022, "NEON FMA"),
    "fmla v2.8h, v1.8h, v0.8h": (0x4E400C22, "NEON FP16"),
    "fmla v2.8h, v1.8h, v0.h[1]": (0x4F101022, "NEON FP16"),
    "sdot v0.4s, v1.16b, v2.16b": (0x4E829420, "NEON DOT"),
    "udot v0.4s, v1.16b, v2.16b": (0x6E829420, "NEON DOT"),
    "sdot v0.4s, v1.16b, v2.4b[0]": (0x4F82E020, "NEON DOT"),
    "smmla v0.4s, v1.16b, v2.16b": (0x4E82A420, "NEON I8MM"),
    "ummla v0.4s, v1.16b, v2.16b": (0x6E82A420, "NEON I8MM"),
    "bfmmla v0.4s, v1.8h, v2.8h": (0x6E42EC20, "NEON BF16"),
    "bfdot v0.4s, v1.8h, v2.8h": (0x6E42FC20, "NEON BF16"),
    "fmla z0.s, p0/m, z1.s, z2.s": (0x65A20020, "SVE FMA"),
    "fmla z0.s, z1.s, z2.s[0]": (0x64A20020, "SVE FMA"),
}
OTHERS_AARCH64 = {
    "fmla v2.2d, v1.2d, v0.2d": 0x4E60CC22,
    "fmul v2.4s, v1.4s, v0.4s": 0x6E20DC22,
    "nop": 0xD503201F,
}


def found(code: bytes, encodings: tuple[Encoding, ...]) -> set[str]:
    data = np.frombuffer(code, np.uint8)
    return {encoding.isa for encoding in encodings if len(positions(data, encoding))}


@pytest.mark.parametrize("text", KNOWN_X86)
def test_x86_instructions_are_told_apart(text: str) -> None:
    code, isa = KNOWN_X86[text]
    assert found(bytes.fromhex(f"90{code}90"), X86) == {isa}


@pytest.mark.parametrize("text", OTHERS_X86)
def test_other_x86_instructions_are_none_of_them(text: str) -> None:
    assert found(bytes.fromhex(f"90{OTHERS_X86[text]}90"), X86) == set()


@pytest.mark.parametrize("text", KNOWN_AARCH64)
def test_aarch64_instructions_are_told_apart(text: str) -> None:
    word, isa = KNOWN_AARCH64[text]
    code = 0xD503201F.to_bytes(4, "little") + word.to_bytes(4, "little")
    assert found(code, AARCH64) == {isa}
    assert found(b"\0\0" + code + b"\0\0", AARCH64) == set(), "only aligned words are instructions"


@pytest.mark.parametrize("text", OTHERS_AARCH64)
def test_other_aarch64_instructions_are_none_of_them(text: str) -> None:
    assert found(OTHERS_AARCH64[text].to_bytes(4, "little"), AARCH64) == set()


@pytest.mark.parametrize("machine", ENCODINGS)
def test_random_bytes_hold_nothing(machine: str) -> None:
    """And what is found by chance is as rare as `false_rate` says."""
    data = np.random.default_rng(0).integers(0, 256, 2**25, dtype=np.uint8)
    assert scan_code([data], ENCODINGS[machine]).counts == {}
    for encoding in ENCODINGS[machine]:
        expected = encoding.false_rate * len(data) / encoding.step
        assert abs(len(positions(data, encoding)) - expected) <= 5 * expected**0.5 + 3, encoding


def test_few_hits_do_not_count() -> None:
    one = np.frombuffer(bytes.fromhex("62f27548b8d0"), np.uint8)
    assert scan_code([np.tile(one, 7)], X86).counts == {}
    assert scan_code([np.tile(one, 8)], X86).counts == {"AVX-512 FMA": 8}
    assert threshold(100.0) == 1000.0


def test_the_nearest_one_counts() -> None:
    code = bytes.fromhex("62f27548b8d0") + b"\x90" * 50 + bytes.fromhex("c4e275b8d0")
    assert nearest(code, 2, X86) == "AVX-512 FMA"
    assert nearest(code, 50, X86) == "AVX2 FMA"
    assert nearest(b"\x90" * 100, 50, X86) is None
    assert nearest(b"", 0, X86) is None


SOURCE = """
#include <immintrin.h>
__m512 work(__m512 a, __m512 b, __m512 c) {
  for (int i = 0; i < 64; i++) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++) c = _mm512_fmadd_ps(a, c, b);
  }
  return c;
}
"""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize(("flag", "isa"), [("-mavx512f", "AVX-512 FMA"), ("-mavx2", "AVX2 FMA")])
def test_compiled_code_is_recognised(flag: str, isa: str, tmp_path: Path) -> None:
    source = SOURCE if flag == "-mavx512f" else SOURCE.replace("512", "256")
    (tmp_path / "work.c").write_text(source)
    command = ["gcc", "-O2", "-mfma", flag, "-shared", "-fPIC", "-o", "work.so", "work.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"gcc cannot make this: {done.stderr[:100]}")
    scan = scan_file(tmp_path / "work.so")
    assert scan is not None
    assert set(scan.counts) == {isa}
    assert scan.counts[isa] >= 16


def test_only_elf_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no machine code" * 100)
    (tmp_path / "short").write_bytes(b"\x7fELF\x02\x01")
    (tmp_path / "cut").write_bytes(Path(sys.executable).resolve().read_bytes()[:64])
    for name in ("text", "short", "cut", "absent"):
        assert executable_parts(tmp_path / name) is None
        assert scan_file(tmp_path / name) is None


def test_an_interpreter_holds_no_matrix_kernels() -> None:
    scan = scan_file(Path(sys.executable).resolve())
    assert scan is not None
    assert scan.counts == {}

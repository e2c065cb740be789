"""All kernels of the operators' samples, built so that what C leaves undefined, and accesses outside memory,
end the program; and as a program for another kind of machine, under an emulator where there is one.
"""

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from models.tiny_graphs import write_attention_block
from ourcompiler import package, reference, toolchain
from ourcompiler.compile import compile_network, program_of
from ourcompiler.ir.graph import Array
from ourcompiler.onnx_in.load import load
from ourcompiler.pipeline import optimize
from ourcompiler.program import Program
from ourcompiler.selftest.compare import error_of
from ourcompiler.selftest.samples import CASES, drawn
from ourcompiler.selftest.standalone import all_samples, run_program
from ourcompiler.targets import target

TRAPS = ("-fsanitize=undefined", "-fsanitize-trap=undefined", "-fno-sanitize=shift,alignment")
"""Shifts of negative numbers are meant as machines do them, and elements lie where their type lets them."""
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
GCC_FLAGS = ("-std=gnu11", "-O1", "-g0", "-w", "-fwrapv", "-ffp-contract=fast", "-march=x86-64-v3")
ADDRESS_FLAGS = (
    *GCC_FLAGS,
    *("-fsanitize=address,undefined", "-fno-sanitize=shift,alignment", "-fno-sanitize-recover=all"),
)
THREAD_FLAGS = (*GCC_FLAGS, "-fsanitize=thread")
NARROW_TOLERANCE = 1e-2


@pytest.fixture(scope="module")
def samples() -> tuple[Program, dict[str, Array]]:
    graph, inputs = all_samples()
    return program_of(optimize(graph), target("avx2")), inputs


def check(found: dict[str, Array]) -> None:
    for case in CASES:
        for number, wanted in enumerate(case.row.reference(drawn(case), case.sample.facts)):
            is_narrow = wanted.dtype.itemsize == 2 and wanted.dtype.kind in "fV"
            tolerance = NARROW_TOLERANCE if is_narrow else max(case.row.tolerance, 1e-5)
            assert error_of(found[f"{case}/y{number}"], wanted) <= tolerance, case


def test_nothing_undefined_is_done(samples: tuple[Program, dict[str, Array]], tmp_path: Path) -> None:
    program, inputs = samples
    model = tmp_path / "model"
    toolchain.build_program(package.sources_of(program), model, program.target, flags=TRAPS)
    check(run_program([str(model)], program, tmp_path, inputs, threads=2))


def test_the_traps_are_there(tmp_path: Path) -> None:
    """A program that does what must not be done ends by a signal."""
    text = "int values[4]; int main(int n, char **w) { return values[n + 3]; }"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toolchain, "_runtime", lambda name: text if name == "main.c" else "")
        toolchain.build_program({}, tmp_path / "bad", target("avx2"), flags=TRAPS)
    assert subprocess.run([tmp_path / "bad"], check=False).returncode < 0


def test_two_files_of_one_text_are_compiled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither takes away what the other has made."""
    same = dict.fromkeys(("a.c", "b.c"), "int unused;")
    both = threading.Barrier(2, timeout=60)

    def compile_or_link(command: list[str], what: str) -> None:
        Path(command[command.index("-o") + 1]).write_text("made")
        if what in same:
            both.wait()

    monkeypatch.setenv(toolchain.OBJECTS_VARIABLE, str(tmp_path / "objects"))
    monkeypatch.setattr(toolchain, "_run", compile_or_link)
    toolchain.build(same, tmp_path / "library", target("avx2"), jobs=2)
    assert (tmp_path / "library").read_text() == "made"


def compiled_by_gcc(program: Program, folder: Path, flags: tuple[str, ...] = ADDRESS_FLAGS) -> Path:
    """The program with checks of every access, made by another compiler, whose library of checks is there."""
    include = str(files("ourcompiler").joinpath("runtime"))
    sources = package.sources_of(program)
    for name, text in sources.items():
        (folder / name).write_text(text)
    paths = [
        *(folder / name for name in sources),
        *(Path(include) / f"{one}.c" for one in ("runtime", "main", "serve")),
    ]

    def build(path: Path) -> str:
        made = str(folder / f"{path.stem}.o")
        command = ["gcc", *flags, f"-I{include}", "-c", str(path), "-o", made]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:2000]
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(build, paths))
    model = folder / "model"
    subprocess.run(["gcc", *flags, "-o", str(model), *objects, "-lm", "-lpthread"], check=True)
    return model


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: Debian package gcc")
def test_nothing_outside_memory_is_touched(samples: tuple[Program, dict[str, Array]], tmp_path: Path) -> None:
    program, inputs = samples
    model = compiled_by_gcc(program, tmp_path)
    check(run_program([str(model)], program, tmp_path, inputs, threads=2))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: Debian package gcc")
def test_threads_that_come_late_take_nothing(tmp_path: Path) -> None:
    """More threads than processors: most find their round over when they get one. Whoever read or wrote what
    another thread is at would end the program.
    """
    program = program_of(optimize(load(write_attention_block(tmp_path / "net.onnx"))), target("avx2"))
    generator = np.random.default_rng(0)
    inputs = {
        name: generator.standard_normal(one.shape, np.float32)
        if one.dtype.numpy == np.float32
        else generator.integers(0, 11, one.shape, one.dtype.numpy)
        for name, one in program.inputs
    }
    command = [str(compiled_by_gcc(program, tmp_path, THREAD_FLAGS))]
    alone = run_program(command, program, tmp_path, inputs)
    for name, found in run_program(command, program, tmp_path, inputs, threads=31, runs=1000).items():
        assert found.tobytes() == alone[name].tobytes(), name


def emulator() -> str:
    found = next(filter(None, map(shutil.which, EMULATORS)), None)
    if found is None:
        pytest.skip("needs qemu: Debian package qemu-user-static")
    return found


def test_a_static_target_is_a_program(tmp_path: Path) -> None:
    source = write_attention_block(tmp_path / "net.onnx")
    made = compile_network(source, tmp_path / "package", target_name="aarch64-static")
    assert {one.name for one in made.folder.iterdir()} == {"manifest.json", "model", "weights.bin"}
    head = (made.folder / "model").read_bytes()[:20]
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:20], "little") == 183, "64-bit ARM"


def test_samples_for_arm(tmp_path: Path) -> None:
    command = emulator()
    graph, inputs = all_samples()
    program = program_of(optimize(graph), target("aarch64-static"))
    model = tmp_path / "model"
    toolchain.build_program(package.sources_of(program), model, program.target)
    check(run_program([command, str(model)], program, tmp_path, inputs, threads=2))


@pytest.mark.parametrize("name", ["aarch64-static", "host"])
def test_a_network_as_a_program(name: str, tmp_path: Path) -> None:
    command = [emulator()] if name == "aarch64-static" else []
    graph = load(write_attention_block(tmp_path / "net.onnx"), {})
    program = program_of(optimize(graph), target(name))
    toolchain.build_program(package.sources_of(program), tmp_path / "model", program.target)
    generator = np.random.default_rng(0)
    inputs = {
        "ids": generator.integers(0, 11, (1, 6)),
        "context": generator.standard_normal((1, 6, 8)).astype(np.float32),
    }
    found = run_program([*command, str(tmp_path / "model")], program, tmp_path, inputs)
    for key, wanted in reference.run(graph, inputs).items():
        assert error_of(found[key], wanted) <= 1e-5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "WEIGHTS INPUTS OUTPUTS"),
        (["nowhere", "inputs", "outputs"], "nowhere: the weights cannot be read"),
        (["short", "inputs", "outputs"], "the weights are short"),
        (["weights", "nowhere", "outputs"], "nowhere: these are not the network's inputs"),
        (["weights", "short", "outputs"], "short: these are not the network's inputs"),
        (["weights", "long", "outputs"], "long: these are not the network's inputs"),
        (["weights", "inputs", "no/outputs"], "no/outputs: the outputs cannot be written"),
    ],
)
def test_a_program_tells_what_is_wrong(words: list[str], message: str, tmp_path: Path) -> None:
    program = program_of(optimize(load(write_attention_block(tmp_path / "net.onnx"), {})), target())
    toolchain.build_program(package.sources_of(program), tmp_path / "model", program.target)
    program.write_weights(tmp_path / "weights")
    size = sum(one.byte_count for _, one in program.inputs)
    for name, count in (("inputs", size), ("short", 5), ("long", size + 1)):
        (tmp_path / name).write_bytes(bytes(count))
    done = subprocess.run(["./model", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr

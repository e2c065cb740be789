"""Packages and sessions: what does not fit is told, what is broken is not loaded, threads change nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from models.tiny_graphs import normal, write_attention_block, write_graph
from ourcompiler import package
from ourcompiler.compile import compile, compile_network
from ourcompiler.errors import CompileError
from ourcompiler.runtime.session import Session
from ourcompiler.stored import LIBRARY, MANIFEST, WEIGHTS, Package, read

TOKENS, WIDTH = 24, 64


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "block.onnx"
    return write_attention_block(path, width=WIDTH, length=TOKENS, features=40)


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    return compile_network(source, tmp_path_factory.mktemp("packages") / "block")


@pytest.fixture
def own(made: Package, tmp_path: Path) -> Package:
    """A copy of the package that a test may break."""
    shutil.copytree(made.folder, tmp_path / "package")
    return read(tmp_path / "package")


@pytest.fixture
def session(made: Package) -> Iterator[Session]:
    with Session(made) as opened:
        yield opened


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    context = generator.standard_normal((1, TOKENS, WIDTH)).astype(np.float32)
    return {"ids": generator.integers(0, 11, (1, TOKENS)), "context": context}


WRONG: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "unknown": (lambda given: {**given, "more": 1}, "there is no input 'more'"),
    "missing": (lambda given: {"ids": given["ids"]}, r"input 'context' is missing"),
    "shape": (
        lambda given: {**given, "ids": given["ids"][0]},
        r"input 'ids' is int64\[24\], not i64\[1x24\]",
    ),
    "type": (
        lambda given: {**given, "context": given["context"].astype(np.float64)},
        r"input 'context' is float64\[1, 24, 64\], not f32\[1x24x64\]",
    ),
    "no array": (lambda given: {**given, "context": None}, "input 'context' is object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_inputs_that_do_not_fit_are_told(session: Session, name: str) -> None:
    change, message = WRONG[name]
    with pytest.raises(CompileError, match=message):
        session.run(change(inputs()))
    assert session.run(inputs())["y"].shape == (1, TOKENS, 40), "and it goes on"


def test_a_file_is_run_in_one_line(
    source: Path, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = session.run(inputs())["y"]
    with compile(source, folder=tmp_path / "own", threads=2) as own:
        assert np.array_equal(own.run(inputs())["y"], wanted)
    assert (tmp_path / "own" / MANIFEST).exists()
    monkeypatch.setattr("ourcompiler.compile.user_cache_path", lambda name: tmp_path / name)
    with compile(str(source)) as kept:
        assert np.array_equal(kept.run(inputs())["y"], wanted)
    (folder,) = (tmp_path / "bench" / "packages").iterdir()
    assert folder.name.startswith("block-")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"nothing\.onnx"):
        compile(tmp_path / "nothing.onnx", folder=tmp_path / "own")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("wrong", [11, -12, 2**62, -(2**63)])
def test_an_index_outside_is_told(made: Package, wrong: int, threads: int) -> None:
    with Session(made, threads=threads) as session:
        given = inputs()
        given["ids"][0, 5] = wrong
        with pytest.raises(CompileError, match=r"node '\w+.*an index in the data lies outside") as raised:
            session.run(given)
        assert "-n to n - 1" in str(raised.value)
        with pytest.raises(CompileError, match="lies outside"):
            session.profile()
        given["ids"][0, 5] = -11
        from_back = session.run(given)["y"]
        given["ids"][0, 5] = 0
        assert np.array_equal(session.run(given)["y"], from_back), "and it goes on"


def test_inputs_may_lie_in_memory_as_they_like(session: Session) -> None:
    given = inputs()
    turned = {name: np.asfortranarray(np.flip(value, 1))[:, ::-1] for name, value in given.items()}
    assert not turned["context"].flags.c_contiguous
    for name, value in session.run(given).items():
        np.testing.assert_array_equal(session.run(turned)[name], value)


def test_results_are_the_callers_own(session: Session) -> None:
    first = session.run(inputs(0))
    kept = {name: value.copy() for name, value in first.items()}
    session.run(inputs(1))
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_not_one_bit(made: Package, session: Session, threads: int) -> None:
    with Session(made, threads=threads) as other:
        for seed in range(5):
            expected, found = session.run(inputs(seed)), other.run(inputs(seed))
            for name, value in expected.items():
                assert found[name].tobytes() == value.tobytes()


def test_the_same_again_and_again(session: Session) -> None:
    """Nothing of a run is left for the next one."""
    expected = session.run(inputs(0))
    session.run({"ids": inputs()["ids"], "context": np.full((1, TOKENS, WIDTH), np.nan, np.float32)})
    for name, value in session.run(inputs(0)).items():
        assert value.tobytes() == expected[name].tobytes()


def test_sessions_side_by_side_have_memory_of_their_own(made: Package) -> None:
    with Session(made) as one, Session(made, threads=2) as other:
        one.set_inputs(inputs(0))
        other.set_inputs(inputs(1))
        one.execute()
        other.execute()
        alone = [one.run(inputs(0)), other.run(inputs(1))]
        assert not np.array_equal(one.outputs()["y"], other.outputs()["y"])
    with Session(made) as last:
        for seed, found in enumerate(alone):
            np.testing.assert_array_equal(last.run(inputs(seed))["y"], found["y"])


def test_closing_twice_is_closing_once(made: Package) -> None:
    session = Session(made, threads=2)
    session.close()
    session.close()


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_is_an_error(made: Package, threads: int) -> None:
    with pytest.raises(CompileError, match=f"asked for {threads} threads"):
        Session(made, threads=threads)


def test_a_package_for_another_machine_is_not_loaded(made: Package) -> None:
    with pytest.raises(CompileError, match="a package for aarch64 does not run here"):
        Session(replace(made, target="aarch64"))


def test_weights_that_are_cut_off_are_not_used(own: Package) -> None:
    weights = own.folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-64])
    with pytest.raises(CompileError, match="the weights are short"):
        Session(own)


def test_a_library_that_is_none_is_told(own: Package) -> None:
    (own.folder / LIBRARY).write_bytes(b"no library")
    with pytest.raises(CompileError, match="the library cannot be loaded"):
        Session(own)


def test_a_file_that_is_missing_is_told(own: Package) -> None:
    (own.folder / LIBRARY).unlink()
    with pytest.raises(CompileError, match="the library cannot be loaded"):
        Session(own)
    (own.folder / MANIFEST).unlink()
    with pytest.raises(CompileError, match="this is no package"):
        read(own.folder)


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "of another version": (lambda facts: {**facts, "version": 99}, "a package of version 99"),
    "without inputs": (lambda facts: {k: v for k, v in facts.items() if k != "inputs"}, "this is no package"),
    "with an unknown type": (lambda facts: {**facts, "inputs": [["x", "f33", [1]]]}, "this is no package"),
    "of another form": (lambda facts: [1, 2], "this is no package"),
    "with a wrong row": (lambda facts: {**facts, "steps": [1]}, "this is no package"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_manifest_is_told(own: Package, name: str) -> None:
    change, message = DAMAGED[name]
    path = own.folder / MANIFEST
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(CompileError, match=message):
        read(own.folder)


def test_a_manifest_that_is_cut_off_is_told(own: Package) -> None:
    path = own.folder / MANIFEST
    path.write_text(path.read_text()[:100])
    with pytest.raises(CompileError, match="this is no package"):
        read(own.folder)


def write_function(path: Path, op: str) -> Path:
    nodes = [helper.make_node(op, ["x"], ["y"], name="it")]
    ends = [[(name, TensorProto.FLOAT, [33])] for name in "xy"]
    return write_graph(path, nodes, *ends)


def test_a_network_compiled_to_the_same_folder_replaces_the_first(tmp_path: Path) -> None:
    """Also when the first was loaded from there before, and while it still is."""
    values, folder = normal(33), tmp_path / "package"
    with Session(compile_network(write_function(tmp_path / "a.onnx", "Tanh"), folder)) as first:
        np.testing.assert_allclose(first.run({"x": values})["y"], np.tanh(values), atol=1e-6)
    second = Session(compile_network(write_function(tmp_path / "b.onnx", "Neg"), folder))
    np.testing.assert_array_equal(second.run({"x": values})["y"], -values)
    with Session(compile_network(write_function(tmp_path / "c.onnx", "Abs"), folder)) as third:
        np.testing.assert_array_equal(third.run({"x": values})["y"], np.abs(values))
        np.testing.assert_array_equal(second.run({"x": values})["y"], -values)
    second.close()


def test_the_same_network_is_the_same_package(source: Path, made: Package, tmp_path: Path) -> None:
    again = compile_network(source, tmp_path / "again")
    for name in (LIBRARY, MANIFEST, WEIGHTS):
        assert (again.folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_nothing_is_left_of_a_compilation_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CompileError("the C compiler failed")

    source = write_function(tmp_path / "a.onnx", "Tanh")
    folder = tmp_path / "packages/one"
    compile_network(source, folder)
    monkeypatch.setattr(package.toolchain, "build", fail)
    with pytest.raises(CompileError, match="the C compiler failed"):
        compile_network(write_function(tmp_path / "b.onnx", "Neg"), folder)
    assert [one.name for one in folder.parent.iterdir()] == ["one"]
    assert read(folder).steps, "and the one before is still whole"


def test_profiles_have_a_number_for_every_kernel(session: Session, made: Package) -> None:
    session.set_inputs(inputs())
    found = session.profile(3)
    assert len(found) == len(made.steps)
    assert all(one >= 0 for one in found)

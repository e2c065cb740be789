"""A network of our compiler on the phone without Python: its own program, and right outputs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.runtime.static import push_package, run_static
from benchsuite.gate import compare
from models.errors import BenchError
from ourcompiler import reference
from ourcompiler.compile import compile_network
from ourcompiler.onnx_in.load import load
from tests.phone.host import AdbHome
from tests.phone.networks import NETWORKS, inputs_of
from tests.phone.phone import Phone


@pytest.fixture(scope="module")
def link(adb_home: AdbHome, module_phone: Phone) -> Iterator[AdbServerLink]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in adb_home.environment.items():
            monkeypatch.setenv(name, value)
        yield AdbServerLink(Adb(adb_home.binary, 36), module_phone.serial)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_the_reference_s(name: str, link: AdbServerLink, tmp_path: Path) -> None:
    source = NETWORKS[name](tmp_path / "net.onnx")
    made = compile_network(source, tmp_path / "package", target_name="aarch64-static")
    ran = run_static(link, made.folder, inputs_of(name), threads=2, runs=3)
    assert len(ran.run_ns) == 3
    assert min(ran.run_ns) > 0
    verdict = compare(reference.run(load(source, {}), inputs_of(name)), ran.outputs, "fp32")
    assert verdict.equal, verdict


def test_what_is_wrong_is_said(link: AdbServerLink, tmp_path: Path) -> None:
    source = NETWORKS["grouped"](tmp_path / "net.onnx")
    other = compile_network(source, tmp_path / "host")
    with pytest.raises(BenchError, match="it has no program of its own"):
        push_package(link, other.folder)
    made = compile_network(source, tmp_path / "package", target_name="aarch64-static")
    with pytest.raises(BenchError, match=r"the input x must have the shape \(1, 16, 10, 10\)"):
        run_static(link, made.folder, {})
    place = push_package(link, made.folder)
    link.shell(f"echo short > {place}/weights.bin")
    with pytest.raises(BenchError, match=r"the program failed on the phone: .*the weights are short"):
        run_static(link, made.folder, inputs_of("grouped"))
    link.shell(f"rm -rf {place}")

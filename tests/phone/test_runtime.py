"""The same adapters and worker on the test phone: outputs as on this machine; what a bad layer leaves."""

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.catalogue import adapter
from adapters.environments import environments, interpreter, is_made
from adapters.protocol import MAIN_ENVIRONMENT, Setting
from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.python import version_there
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.link import Link
from benchsuite.device.runtime import provision as provisioning
from benchsuite.device.runtime.assemble import assemble
from benchsuite.device.runtime.provision import PLACE, Runtime, provision, provisioned, push_layer, remove
from benchsuite.device.runtime.table import layer_table
from benchsuite.gate import compare
from models.errors import BenchError
from tests.phone.host import AdbHome
from tests.phone.networks import NETWORKS, inputs_of
from tests.phone.phone import Phone

FRAMEWORKS = tuple(sorted(set(layer_table().frameworks) - {"ort-noopt"}))
SCRATCH = "/data/local/tmp/bench/test"
TIMEOUT_S = 300.0
Requests = Sequence[Mapping[str, Any]]


def link_of(adb_home: AdbHome, phone: Phone, monkeypatch: pytest.MonkeyPatch) -> Link:
    """A link of bench's own over the private adb server."""
    for name, value in adb_home.environment.items():
        monkeypatch.setenv(name, value)
    adb_home.connect(phone.serial)
    return AdbServerLink(Adb(adb_home.binary, 36), phone.serial)


@pytest.fixture(scope="module")
def ready(adb_home: AdbHome, module_phone: Phone) -> Iterator[tuple[Link, Runtime]]:
    """A phone on which four frameworks were provisioned."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        link = link_of(adb_home, module_phone, monkeypatch)
        try:
            said: list[str] = []
            yield link, provision(link, FRAMEWORKS, said.append)
        except BenchError as error:
            if "network" in str(error):
                pytest.skip(f"the parts of the runtime cannot be fetched: {error.what}")
            raise


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    for name in NETWORKS:
        np.savez(folder / f"{name}.npz", **inputs_of(name))
    return {name: write(folder / f"{name}.onnx") for name, write in NETWORKS.items()}


def asked_here(requests: Requests, environment: str = MAIN_ENVIRONMENT) -> list[dict[str, Any]]:
    """The replies of a worker of this machine."""
    lines = "".join(json.dumps(one) + "\n" for one in requests)
    command = [str(interpreter(environment)), "-m", "adapters.worker"]
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    return replies_of(done.stdout, done.stderr)


def asked_there(link: Link, runtime: Runtime, requests: Requests, folder: Path) -> list[dict[str, Any]]:
    """The replies of a worker on the phone."""
    (folder / "requests").write_text("".join(json.dumps(one) + "\n" for one in requests), encoding="utf-8")
    link.push(folder / "requests", f"{SCRATCH}/requests")
    start = runtime.command(["-m", "adapters.worker"])
    answer = link.shell(f"(cd {SCRATCH} && {start} < {SCRATCH}/requests)", TIMEOUT_S)
    return replies_of(answer.out, answer.err)


def replies_of(text: str, errors: str) -> list[dict[str, Any]]:
    replies = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert replies, errors[-2000:]
    assert all(one["ok"] for one in replies), f"{replies}\n{errors[-2000:]}"
    return replies


def run_requests(
    framework: str, path: str, options: Mapping[str, str], inputs: str, outputs: str
) -> Requests:
    setting = {"threads": 2, "precision": "fp32"}
    load = {
        "do": "load",
        "framework": framework,
        "path": path,
        "options": options,
        "inputs": inputs,
        **setting,
    }
    return [load, {"do": "run", "iterations": 2, "rewarm": 1}, {"do": "outputs", "path": outputs}]


def converted(framework: str, source: Path, folder: Path, target: str) -> tuple[Path, Mapping[str, str]]:
    """What the framework loads, made on this machine: the ONNX file itself, or what it is converted to."""
    conversion = adapter(framework).conversion(Setting(threads=2, precision="fp32", target=target))
    if conversion is None:
        return source, adapter(framework).options
    if conversion.environment != MAIN_ENVIRONMENT and not is_made(environments()[conversion.environment]):
        pytest.skip(f"needs the environment {conversion.environment}: bench frameworks install {framework}")
    folder.mkdir(parents=True)
    setting = {"threads": 2, "precision": "fp32", "target": target}
    request = {
        "do": "convert",
        "framework": framework,
        "source": str(source),
        "folder": str(folder),
        **setting,
    }
    (reply,) = asked_here([request], conversion.environment)
    return folder / reply["file"], reply["options"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_outputs_are_those_of_this_machine(
    framework: str, ready: tuple[Link, Runtime], sources: Mapping[str, Path], tmp_path: Path
) -> None:
    link, runtime = ready
    here: list[Mapping[str, Any]] = []
    there: list[Mapping[str, Any]] = []
    link.shell(f"mkdir -p {SCRATCH}", TIMEOUT_S)
    for name, source in sources.items():
        own, options = converted(framework, source, tmp_path / "here" / name, "host")
        inputs = source.with_suffix(".npz")
        here += run_requests(framework, str(own), options, str(inputs), str(tmp_path / f"{name}.npz"))
        path, options = own, options
        if framework == "ours":
            path, options = converted(framework, source, tmp_path / "there" / name, "aarch64")
        beside = [one for one in path.parent.iterdir() if one.is_file()] if path != source else [path]
        for one in (*beside, inputs):
            link.shell(f"mkdir -p {SCRATCH}/{name}", TIMEOUT_S)
            link.push(one, f"{SCRATCH}/{name}/{one.name}")
        place = f"{SCRATCH}/{name}"
        there += run_requests(
            framework, f"{place}/{path.name}", options, f"{place}/{inputs.name}", f"{place}/outputs.npz"
        )
    asked_here(here)
    replies = asked_there(link, runtime, there, tmp_path)
    assert all(min(one["run_ns"]) > 0 for one in replies if "run_ns" in one)
    if framework != "ours":
        assert replies[0]["facts"]["version"] == version_there(link, adapter(framework))
    for name in sources:
        link.pull(f"{SCRATCH}/{name}/outputs.npz", tmp_path / f"{name}-there.npz")
        with np.load(tmp_path / f"{name}.npz") as wanted, np.load(tmp_path / f"{name}-there.npz") as found:
            verdict = compare(dict(wanted), dict(found), "fp32")
        assert verdict.equal, f"{name}: {verdict}"


def test_a_second_time_nothing_is_pushed(ready: tuple[Link, Runtime]) -> None:
    link, runtime = ready
    said: list[str] = []
    assert provision(link, FRAMEWORKS, said.append) == runtime
    assert said == []
    assert provisioned(link, FRAMEWORKS) == runtime
    link.shell(f"mv {runtime.folders[-2]} {runtime.folders[-2]}.new")
    assert provisioned(link, FRAMEWORKS) is None
    link.shell(f"mv {runtime.folders[-2]}.new {runtime.folders[-2]}")


def test_python_starts_children_and_knows_its_place(ready: tuple[Link, Runtime]) -> None:
    link, runtime = ready
    code = (
        "import subprocess, sys, os, threading, ctypes; "
        "child = [sys.executable, '-c', 'print(6 * 7)']; "
        "print(subprocess.run(child, capture_output=True, text=True).stdout); "
        "print(os.getuid(), 'é日本')"
    )
    answer = link.shell(f"({runtime.command(['-c', code])})", TIMEOUT_S)
    assert answer.out.split() == ["42", "2000", "é日本"], answer.err


def test_a_damaged_layer_does_not_arrive(
    phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    link = link_of(adb_home, phone, monkeypatch)
    layer = assemble("code")
    damaged = bytearray(layer.tar.read_bytes())
    at = damaged.index(b"Answer requests until")
    damaged[at : at + 6] = b"ANSWER"
    (tmp_path / "layer.tar").write_bytes(damaged)
    with pytest.raises(BenchError, match=r"the layer code did not arrive whole: .*FAILED"):
        push_layer(link, dataclasses.replace(layer, tar=tmp_path / "layer.tar"))
    assert link.shell(f"ls {PLACE}").out == ""
    push_layer(link, layer)
    assert link.shell(f"ls {PLACE}").out.split() == [layer.folder_name]
    link.shell(f"mkdir {PLACE}/code-0123456789abcdef {PLACE}/other-0123456789abcdef")
    monkeypatch.setattr(provisioning, "layers_of", lambda _: ("code",))
    provision(link, ["ours"])
    assert link.shell(f"ls {PLACE}").out.split() == [layer.folder_name, "other-0123456789abcdef"]
    remove(link)
    assert link.shell(f"ls {PLACE} 2>/dev/null; true").out == ""


def test_a_phone_that_is_too_full(
    phones: Callable[..., Phone], adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = link_of(adb_home, phones(data_bytes=20 << 20), monkeypatch)
    monkeypatch.setattr(provisioning, "layers_of", lambda _: ("base",))
    with pytest.raises(BenchError, match=r"the runtime needs \d+ MB on the phone, which has 21 MB free"):
        provision(link, ["ours"])
    assert not (link.shell("ls /data/local/tmp").out.split())


@pytest.mark.parametrize(
    ("framework", "message"),
    [
        ("iree", "iree does not run on a phone: networks are compiled by IREE for this machine's processor"),
        ("tvm", "tvm does not run on a phone: networks are compiled by TVM for this machine's processor"),
        ("tflit", "no runtime for a phone is known for tflit\n  try: did you mean tflite?"),
    ],
)
def test_what_cannot_run_says_why(framework: str, message: str) -> None:
    with pytest.raises(BenchError) as caught:
        provisioning.layers_of(["ours", framework])
    assert message in str(caught.value)

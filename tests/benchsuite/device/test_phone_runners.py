"""Programs of one's own on the test phone, as `bench run --runners` measures them there."""

import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.runners import FILE_VARIABLE
from benchsuite.cli.run import command
from benchsuite.device.adb.files import WORKERS
from benchsuite.device.adb.process import PhoneProcess
from benchsuite.journal import Journal
from benchsuite.record import GroupRecord, Status
from tests.external import HOSTILE, QUICK, WORDS, build_relu, row, staying_row, write_relu
from tests.phone.host import AdbHome
from tests.phone.phone import Phone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def relu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_relu("aarch64", tmp_path_factory.mktemp("program") / "relu")


def run(
    rows: list[str], phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch, folder: Path, code: int
) -> GroupRecord:
    """`bench run` of these rows, and its group."""
    for name, value in adb_home.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BENCH_DEVICE_STATE", str(folder / "state"))
    monkeypatch.setenv(FILE_VARIABLE, "")  # `--runners` sets it for the workers; here the process goes on
    runners, book = folder / "runners.toml", folder / "journal.db"
    runners.write_text("\n".join(rows), encoding="utf-8")
    names = ",".join(one.partition("]")[0].lstrip("[") for one in rows)
    words = ["--models", str(write_relu(folder / "rec'ti$fy; é.onnx")), "--frameworks", names, "--quiet"]
    words += ["--device", phone.serial, "--journal", str(book), "--cache", str(folder / "cache")]
    settings = [word for one in QUICK for word in ("--set", one)]
    done = CliRunner().invoke(command, [*words, "--runners", str(runners), *settings])
    assert done.exit_code == code, (done.output, done.exception)
    with Journal(book) as journal:
        (group,) = journal.groups(journal.runs()[-1].number)
    return group


def test_programs_on_the_phone(
    relu: Path,
    module_phone: Phone,
    adb_home: AdbHome,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    hostile = tmp_path / HOSTILE
    hostile.write_bytes(relu.read_bytes())
    other = build_relu("x86_64", tmp_path / "other")
    rows = [
        row("each", relu, "each", environment={"LD_LIBRARY_PATH": "{files}:$(touch executed)"}),
        row("hostile", hostile, "each"),
        row("blind", relu, "each", command=["{files}/relu", "each", *WORDS[:-1], "/dev/null"]),
        row("fail", relu, "fail"),
        row("crash", relu, "crash"),
        row("unversioned", relu, "each", version=["{files}/relu", "-v"]),
        row("nothing", relu, "nothing"),
        row("other", other, "each"),
        staying_row("stays", relu),
        staying_row("dies", relu, "soon"),
    ]
    group = run(rows, module_phone, adb_home, monkeypatch, tmp_path, code=1)
    outcomes = {name: cell.outcome for name, cell in group.cells.items()}
    expected = dict.fromkeys(("each", "hostile", "blind", "stays"), Status.OK)
    expected |= {"unversioned": Status.CRASHED, "other": Status.REFUSED}
    expected |= dict.fromkeys(("fail", "crash", "nothing", "dies"), Status.CRASHED)
    assert {name: one.status for name, one in outcomes.items()} == expected, outcomes
    assert [outcomes[name].error for name in ("each", "hostile", "blind")] == [0, 0, None]
    assert "exit code 7; its last words: " in outcomes["fail"].reason
    assert "error: no such delegate" in outcomes["fail"].reason
    assert "error: no such delegate" in outcomes["fail"].log_tail
    assert "crash ended with signal 6" in outcomes["crash"].reason
    assert "exit code 2; its last words: 2 words, not 8" in outcomes["unversioned"].reason
    assert outcomes["other"].reason == "other is a program for x86_64, and aarch64 is where it would run"
    assert "exit code 9" in outcomes["dies"].reason
    assert "out of patience" in outcomes["dies"].log_tail
    assert (outcomes["stays"].error, group.cells["stays"].memory_peak_bytes) == (0, 4096)
    facts = group.cells["each"].loading.facts
    assert (facts["build"], facts["outputs"]) == ("relu 1.2", "checked")
    turns = group.blocks[0].turns
    assert len(turns["each"].run_ns) == group.cells["each"].loading.iterations
    assert not adb_home.shell(module_phone.serial, "find /data -name executed").stdout
    assert not adb_home.shell(module_phone.serial, f"ls {WORKERS}").stdout


def test_a_pulled_cable_costs_a_program_nothing(
    relu: Path,
    module_phone: Phone,
    adb_home: AdbHome,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    receive = PhoneProcess.receive

    def pull_then_receive(self: PhoneProcess, timeout_seconds: float) -> str | None:
        threading.Timer(0.2, module_phone.cable.cut).start()
        threading.Timer(1.2, module_phone.cable.plug).start()
        return receive(self, timeout_seconds)

    monkeypatch.setattr(PhoneProcess, "receive", pull_then_receive)
    group = run([row("each", relu, "each")], module_phone, adb_home, monkeypatch, tmp_path, code=0)
    assert group.cells["each"].outcome.status is Status.OK
    assert group.cells["each"].restarts == 0
    assert len(group.blocks) == 2

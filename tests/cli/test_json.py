"""docs/json.md says what the commands print: every field, its type, and nothing else."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ourcompiler import profiles, tilings
from ourcompiler.profiles import Database, Timing
from ourcompiler.tilings import Found, Key, Problem, Tiling

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"
ROW = re.compile(r"^\| `([\w.\[\]]+)` \|([^|]+)\|([^|]*)\|[^|]+\|$")
PLAIN: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "fact": lambda value: value is None or isinstance(value, str | int | float | bool),
    "object": lambda value: isinstance(value, dict),
    "list": lambda value: isinstance(value, list),
}


@dataclass(frozen=True)
class Field:
    """One row of the document."""

    path: str
    type: str
    when: str


@dataclass
class Checker:
    """Compares documents with the fields of their schema, and notes which fields were seen."""

    schema: str
    fields: dict[str, Field]
    seen: set[str] = field(default_factory=set)

    def check(self, value: Any, path: str = "") -> None:
        """Every field is documented, has its type, and none that must be there is missing."""
        row = self.fields.get(path)
        if path:
            assert row is not None, f"{self.schema}: {path} is not in docs/json.md"
            assert fits(value, row.type), f"{self.schema}: {path} is {value!r}, documented as {row.type}"
            self.seen.add(path)
        if isinstance(value, list):
            items = [item for item in value if isinstance(item, dict) and row and row.type == "list"]
            for item in items:
                self._check_members(item, f"{path}[].")
        elif isinstance(value, dict) and (row is None or row.type == "object"):
            self._check_members(value, f"{path}." if path else "")

    def _check_members(self, value: dict[str, Any], prefix: str) -> None:
        for name, member in value.items():
            self.check(member, prefix + name)
        direct = re.compile(re.escape(prefix) + r"\w+$")
        always = {path for path, row in self.fields.items() if direct.match(path) and not row.when}
        assert always - {prefix + name for name in value} == set(), f"{self.schema}: missing fields"


def fits(value: Any, kind: str) -> bool:
    """Whether a value is of a type as the document writes it."""
    if " or " in kind:
        return any(fits(value, part) for part in kind.split(" or "))
    outer, _, inner = kind.partition(" of ")
    members = list(value.values()) if isinstance(value, dict) else value
    return PLAIN[outer](value) and (not inner or all(fits(member, inner) for member in members))


def sections() -> Iterator[Checker]:
    for section in re.split(r"^## (?=bench\.)", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        rows = filter(None, map(ROW.match, section.splitlines()))
        fields = [Field(row[1], row[2].strip(), row[3].strip()) for row in rows]
        yield Checker(section.split("\n", 1)[0].strip(), {row.path: row for row in fields})


CHECKERS = {checker.schema: checker for checker in sections()}


@pytest.fixture
def journal(bench: Callable, record: Callable, tiny: Path) -> None:
    """Two runs: one with a crashed cell, wrong outputs and doubts, one that the budget ended."""
    faults = (
        {"framework": "ort", "kind": "differ", "do": "outputs"},
        {"framework": "ort-noopt", "kind": "crash", "at": 9},
    )
    device = record(*faults, noise=(1.0, 1.0, 1.9, 0.4, 1.0, 3.0, 0.2))
    bench("run", "--models", str(tiny), "--device", device, "--threads", "1,2", "--set", "restarts=0")
    bench("run", "--models", f"{tiny},swin", "--device", device, "--budget", "0.001s")


COMMANDS = {
    "bench.models/1": ("models list", "models show swin,TINY"),
    "bench.activations/1": ("models check TINY",),
    "bench.frameworks/1": ("frameworks", "frameworks show ort"),
    "bench.profile/1": ("profile TINY --framework ort --inferences 2",),
    "bench.compile/1": ("compile TINY --explain --without winograd",),
    "bench.kernels/1": (
        "kernels --models regnet --template grouped --top 1 --frameworks ort,ort-noopt --quiet"
        " --device replay:device.json",
    ),
    "bench.kernels.list/1": ("kernels --list --models swin --template attention",),
    "bench.tilings/1": ("tilings show own.toml",),
    "bench.fusion/1": ("fusion show pairs.json",),
    "bench.devices/1": ("devices",),
    "bench.runs/1": ("runs",),
    "bench.report/1": ("report 1", "report 2", "report 3"),
    "bench.breakdown/1": ("breakdown TINY --frameworks ort --inferences 1 --device local",),
    "bench.compare/1": ("compare 2 3", "compare 3 3"),
    "bench.verify/1": ("verify out.bench",),
    "bench.doctor/1": (
        "doctor --device replay:device.json --comparisons 3 --threads 1,2",
        "doctor --comparisons 1 --blocks 8 --set block_seconds=0.001 --idle ort-noopt,ort",
    ),
    "bench.doctor.frameworks/1": ("doctor --frameworks ort",),
}


PAIRS = Database({profiles.Key("a", "b", "shuffle > many-to-many", "avx2", 1, "c"): Timing(1.5, 2.0, 5)})
"""What `bench fusion show` has to show."""
TILED = {
    Key("chip", "avx2", "gemm/1", Problem(1, 2, 3, "4", "direct", "known")): Found(
        Tiling(6, 2, 4096, 4096, fetches=True), 0.5, 5
    )
}
"""What `bench tilings show` has to show."""
ON_A_PHONE = {"bench.provision/1", "bench.probe/1"}
"""Printed by commands that need a phone: tests/phone/test_*_command.py."""


def test_every_schema_is_documented() -> None:
    assert set(CHECKERS) == set(COMMANDS) | ON_A_PHONE


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("schema", COMMANDS)
def test_what_is_printed_is_what_is_documented(
    schema: str, bench: Callable, record: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench("run", "--models", str(tiny), "--device", record(), "--quiet")
    bench("export", "3", "out.bench")
    monkeypatch.setenv("BENCH_KERNELS_JOURNAL", "kernels.db")
    profiles.write(PAIRS, Path("pairs.json"))
    tilings.write(TILED, Path("own.toml"))
    checker = CHECKERS[schema]
    for typed in COMMANDS[schema]:
        done = bench(*typed.replace("TINY", str(tiny)).split(), "--format", "json")
        assert done.err.replace("profiling ort\n", "") == ""
        assert done.document["schema"] == schema
        checker.check(done.document)
    unseen = {path for path in checker.fields if not path.startswith("phones[].")} - checker.seen
    assert unseen == set(), "documented, but never printed"


@pytest.mark.usefixtures("journal")
def test_runs_say_how_they_stand(bench: Callable) -> None:
    first, second = bench("runs", "--format", "json").document["runs"]
    assert (first["status"], first["cells_done"], first["cells"]) == ("complete", 4, 4)
    assert (second["status"], second["cells_done"], second["cells"]) == ("incomplete", 0, 4)
    assert first["threads"] == [1, 2]


def test_numbers_are_never_nan(bench: Callable, record: Callable, tiny: Path) -> None:
    """NaN is no JSON: what was not measured is null."""
    done = bench("run", "--models", str(tiny), "--device", record({"framework": "*", "kind": "crash"}))
    assert done.code == 1
    report = bench("report", "--format", "json")
    assert report.code == 3
    assert "NaN" not in report.out
    assert {cell["latency_ms"] for cell in report.document["cells"]} == {None}
    assert report.document["means"][0]["count"] == 0

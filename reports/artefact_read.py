"""Read an artefact that may come from anyone: nothing is unpacked to disk, sizes are bounded, only known
names are looked at, and what does not fit its hash or its schema is refused with a message.
"""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from benchsuite.device.protocol import Telemetry
from benchsuite.journal_rows import run_record
from benchsuite.profiled import Profiled, from_document
from benchsuite.record import (
    Block,
    CellKey,
    CellRecord,
    GroupKey,
    GroupRecord,
    Loading,
    Outcome,
    RunRecord,
    Status,
    Turn,
)
from models.errors import BenchError
from reports.artefact import GROUPS, MANIFEST, PARTS, RUN, SCHEMA, TABLES, digest
from reports.cells import RunData, run_data

MOST_BYTES = 256 * 2**20
"""Of all parts together, unpacked: some fifty times the largest run so far."""
MOST_RATIO = 200
"""Of unpacked to packed size; samples as text reach 5 to 15."""
SMALL_BYTES = 2**20
MOST_NANOSECONDS = 2**62
ANOTHER_COPY = "get another copy of the file, or export the run again: `bench export RUN FILE`"


WRONG_FORMS = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError, OverflowError)
"""What reading raises for values of another form; too deep a nesting is a RuntimeError."""


BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, zlib.error, struct.error)
"""What `zipfile` raises for damaged files; NotImplementedError for a compression that it does not know."""


class ArtefactError(BenchError):
    """The file is no artefact, damaged, or was changed."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What an archive holds: the run from its raw samples, and the tables that were made of them then."""

    data: RunData
    tables: Mapping[str, str]
    reference: str
    bench_version: str
    sha256: str


def read_artefact(path: Path) -> Artefact:
    """Read and check an archive; raises `ArtefactError` for whatever is wrong with it."""
    content = _content(path)
    try:
        parts = _parts(content, path)
        manifest = _json(parts.pop(MANIFEST), MANIFEST, path)
        _check_manifest(manifest, parts, path)
        data = _run_data(parts, path)
        tables = {name: parts[name].decode("utf-8") for name in TABLES}
        return Artefact(
            data, tables, str(manifest["reference"]), str(manifest["bench_version"]), digest(content)
        )
    except WRONG_FORMS as error:
        _refuse(
            path, f"something in it has another form than it should: {type(error).__name__}: {error}"[:300]
        )


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            _refuse(path, f"{path.stat().st_size} bytes are more than an artefact of bench has")
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            f"cannot be read: {error.strerror}", where=str(path), hint="name a file of `bench export`"
        ) from error


def _parts(content: bytes, path: Path) -> dict[str, bytes]:
    """Every part by its name."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            _check_directory(infos, path)
            return {info.filename: _part(archive, info, path) for info in infos}
    except BROKEN as error:
        _refuse(path, f"not an intact archive: {error}")


def _check_directory(infos: list[zipfile.ZipInfo], path: Path) -> None:
    expected = {MANIFEST, *PARTS}
    names = [info.filename for info in infos]
    strange = next((name for name in names if name not in expected), None)
    if strange is not None:
        _refuse(path, f"it holds {strange!r}, which no artefact of bench does")
    if len(set(names)) < len(names):
        _refuse(path, "it holds a file twice")
    missing = expected - set(names)
    if missing:
        _refuse(path, f"{min(missing)} is missing")
    if any(info.flag_bits & 1 for info in infos):
        _refuse(path, "it is encrypted")
    if sum(info.file_size for info in infos) > MOST_BYTES:
        _refuse(path, "unpacked it would be larger than any artefact of bench")
    for info in infos:
        if info.file_size > SMALL_BYTES and info.file_size > MOST_RATIO * max(info.compress_size, 1):
            _refuse(
                path, f"{info.filename} grows {info.file_size // max(info.compress_size, 1)} times unpacked"
            )


def _part(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> bytes:
    with archive.open(info) as stream:
        content = stream.read(info.file_size + 1)  # whatever the directory says, no more than that
    if len(content) != info.file_size:
        _refuse(path, f"{info.filename} has another size than the archive says")
    return content


def _check_manifest(manifest: Mapping[str, Any], parts: Mapping[str, bytes], path: Path) -> None:
    if manifest.get("schema") != SCHEMA:
        raise ArtefactError(
            f"its schema is {manifest.get('schema')!r}, this bench reads {SCHEMA!r}",
            where=str(path),
            hint="use the version of bench that wrote it",
        )
    for name, content in parts.items():
        if manifest["files"][name]["sha256"] != digest(content):
            _refuse(path, f"{name} was changed: its hash is not that of the manifest")


def _json(content: bytes, name: str, path: Path) -> dict[str, Any]:
    def no_constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is no number")

    value = json.loads(content.decode("utf-8"), parse_constant=no_constant)
    if not isinstance(value, dict):
        _refuse(path, f"{name} is not an object")
    return value


def _run_data(parts: Mapping[str, bytes], path: Path) -> RunData:
    values = _json(parts[RUN], RUN, path)
    run = _run(values)
    lines = parts[GROUPS].decode("utf-8").splitlines()
    records = [_group(_json(line.encode(), GROUPS, path)) for line in lines]
    _check_plan(run, records, path)
    profiles = {_cell_key(one): from_document(one["profile"]) for one in values["profiles"]}
    spent = [{str(name): _number(value) for name, value in one.items()} for one in values["spent_seconds"]]
    return run_data(run, records, spent, _known(profiles, records))


def _check_plan(run: RunRecord, records: list[GroupRecord], path: Path) -> None:
    """The groups are those that the run's options promise."""
    models = dict.fromkeys(record.key.model for record in records)
    frameworks = set(run.options.frameworks)
    if len(models) != len(run.options.models) or any(set(record.cells) != frameworks for record in records):
        _refuse(path, "its networks and frameworks are not those of its own run")


def _run(values: Mapping[str, Any]) -> RunRecord:
    columns = [json.dumps(values[name]) for name in ("command", "options", "facts")]
    record = run_record(
        (
            _whole(values["number"]),
            str(values["started_at"]),
            values["status"],
            *columns,
            values["finished_at"],
        )
    )
    _check_options(record)
    return record


def _check_options(record: RunRecord) -> None:
    """Raise ValueError for values that the tables could not be made of."""
    options = record.options
    texts = (*options.models, *options.frameworks, *record.command, options.device, options.precision)
    facts = record.facts.values()
    if not all(isinstance(text, str) for text in (*texts, record.finished_at or "")):
        raise ValueError("a name in the run's options is no text")
    if not all(value is None or isinstance(value, str | int | float) for value in facts):
        raise ValueError("a fact of the run is no plain value")
    for count in (*options.threads, *options.dimensions.values(), options.seed):
        _whole(count)
    for value in options.policy.values():
        _number(value)
    if options.memory_limit_bytes is not None:
        _whole(options.memory_limit_bytes)
    datetime.fromisoformat(record.started_at)


def _group(values: Mapping[str, Any]) -> GroupRecord:
    key = _group_key(values)
    cells = {str(name): _cell(key, str(name), cell) for name, cell in values["cells"].items()}
    blocks = tuple(_block(block, cells) for block in values["blocks"])
    return GroupRecord(key, cells, blocks)


def _group_key(values: Mapping[str, Any]) -> GroupKey:
    return GroupKey(
        str(values["model"]), str(values["device"]), _whole(values["threads"]), str(values["precision"])
    )


def _cell_key(values: Mapping[str, Any]) -> CellKey:
    return CellKey(_group_key(values), str(values["framework"]))


def _cell(key: GroupKey, framework: str, values: Mapping[str, Any]) -> CellRecord:
    peak = values["memory_peak_bytes"]
    return CellRecord(
        key=CellKey(key, framework),
        model_digest=str(values["model_digest"]),
        outcome=_maybe(_outcome, values["outcome"]),
        loading=_maybe(_loading, values["loading"]),
        memory_peak_bytes=None if peak is None else _whole(peak),
        restarts=_whole(values["restarts"]),
        notes=tuple(map(str, values["notes"])),
    )


def _outcome(values: Mapping[str, Any]) -> Outcome:
    return Outcome(
        Status(values["status"]),
        str(values["reason"]),
        str(values["log_tail"]),
        _maybe(_number, values["error"]),
    )


def _loading(values: Mapping[str, Any]) -> Loading:
    return Loading(
        prepare_seconds=_number(values["prepare_seconds"]),
        start_ns=_whole(values["start_ns"]),
        load_ns=_whole(values["load_ns"]),
        warm_up_ns=_nanoseconds(values["warm_up_ns"]),
        iterations=_whole(values["iterations"]),
        memory_loaded_bytes=_whole(values["memory_loaded_bytes"]),
        facts={str(name): str(value) for name, value in values["facts"].items()},
        options={str(name): str(value) for name, value in values["options"].items()},
        convert_seconds=_maybe(_number, values["convert_seconds"]),
    )


def _block(values: Mapping[str, Any], cells: Mapping[str, CellRecord]) -> Block:
    turns = {str(name): _turn(turn) for name, turn in values["turns"].items()}
    if not set(turns) <= set(cells):
        raise ValueError("a block has a framework that its network has not")
    before, after = (
        Telemetry(**{name: _maybe(_number, value) for name, value in values[moment].items()})
        for moment in ("before", "after")
    )
    return Block(_whole(values["number"]), _whole(values["session"]), turns, before, after)


def _turn(values: Mapping[str, Any]) -> Turn:
    run_ns = _nanoseconds(values["run_ns"])
    if not run_ns or min(run_ns) < 1:
        raise ValueError("a turn without a sample above 0")
    return Turn(
        _whole(values["position"]), run_ns, _nanoseconds(values["input_ns"]), _whole(values["cpu_ns"])
    )


def _known(profiles: dict[CellKey, Profiled], records: list[GroupRecord]) -> dict[CellKey, Profiled]:
    keys = {cell.key for record in records for cell in record.cells.values()}
    return {key: found for key, found in profiles.items() if key in keys}


def _nanoseconds(values: list[Any]) -> tuple[int, ...]:
    return tuple(map(_whole, values))


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_NANOSECONDS:
        raise ValueError(f"{value!r} is not a whole number from 0 up")
    return value


def _number(value: object) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > MOST_NANOSECONDS:
        raise ValueError(f"{value!r} is not a number")
    return value


def _maybe(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _refuse(path: Path, what: str) -> NoReturn:
    raise ArtefactError(f"this artefact is refused: {what}", where=str(path), hint=ANOTHER_COPY)

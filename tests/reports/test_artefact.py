"""The artefact: what is packed comes back, tables are recomputed, and nothing hostile gets in."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reports import artefact_read
from reports.artefact import GROUPS, MANIFEST, RUN, TABLES, artefact_bytes, digest
from reports.artefact_read import ArtefactError, read_artefact
from reports.cells import RunData
from reports.verify import verify

Change = Callable[[dict[str, bytes]], None]


MADE: list[bytes] = []
"""The archive of the run of `conftest.py`: the same bytes each time, so it is made once."""


@pytest.fixture
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if not MADE:
        MADE.append(artefact_bytes(request.getfixturevalue("run"), "ort-noopt", "0.1.0"))
    path = tmp_path / "run.bench"
    path.write_bytes(MADE[0])
    return path


def repack(path: Path, change: Change, *, rehash: bool = False) -> Path:
    """The same archive with something changed in it; its manifest fitted to that, if asked."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    if rehash:
        manifest = json.loads(parts[MANIFEST])
        manifest["files"] = {
            name: {"sha256": digest(content), "bytes": len(content)}
            for name, content in parts.items()
            if name != MANIFEST
        }
        parts[MANIFEST] = json.dumps(manifest).encode()
    changed = path.with_name("changed.bench")
    with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return changed


def edit(name: str, change: Callable[[Any], None]) -> Change:
    """Change a JSON part."""

    def apply(parts: dict[str, bytes]) -> None:
        lines = parts[name].splitlines() if name == GROUPS else [parts[name]]
        value = json.loads(lines[0])
        change(value)
        parts[name] = b"\n".join([json.dumps(value).encode(), *lines[1:]]) + b"\n"

    return apply


def test_what_is_packed_comes_back(run: RunData, packed: Path) -> None:
    artefact = read_artefact(packed)
    assert artefact.data.run == run.run
    assert [group.record for group in artefact.data.groups] == [group.record for group in run.groups]
    assert artefact.data.spent_seconds == run.spent_seconds
    assert (artefact.reference, artefact.bench_version) == ("ort-noopt", "0.1.0")


def test_the_same_run_gives_the_same_bytes(run: RunData, packed: Path) -> None:
    assert artefact_bytes(run, "ort-noopt", "0.1.0") == packed.read_bytes()


def test_tables_follow_from_the_samples(packed: Path) -> None:
    findings = verify(read_artefact(packed), "0.1.0")
    assert [one.table for one in findings] == list(TABLES)
    assert [one.what for one in findings] == ["the same bytes"] * 4


@pytest.mark.parametrize("reference", ["ours", "best-peer"])
def test_other_references_are_kept(run: RunData, tmp_path: Path, reference: str) -> None:
    path = tmp_path / "run.bench"
    path.write_bytes(artefact_bytes(run, reference, "0.1.0"))
    assert all(one.matches for one in verify(read_artefact(path), "0.1.0"))


def test_hostile_names_survive(hostile: RunData, tmp_path: Path) -> None:
    path = tmp_path / "run.bench"
    path.write_bytes(artefact_bytes(hostile, "ort", "0.1.0"))
    assert all(one.what == "the same bytes" for one in verify(read_artefact(path), "0.1.0"))


def faster(group: Any) -> None:
    for block in group["blocks"]:
        block["turns"]["ours"]["run_ns"] = [value // 2 for value in block["turns"]["ours"]["run_ns"]]


def test_an_altered_sample_is_refused(packed: Path) -> None:
    with pytest.raises(ArtefactError, match=r"groups\.jsonl was changed: its hash is not that"):
        read_artefact(repack(packed, edit(GROUPS, faster)))


def test_an_altered_sample_with_a_new_hash_does_not_match_its_tables(packed: Path) -> None:
    findings = verify(read_artefact(repack(packed, edit(GROUPS, faster), rehash=True)), "0.1.0")
    assert [one.matches for one in findings] == [False] * 4
    assert findings[0].what == "rows[0].speedup is 2.62 in the archive, the samples give 5.24"
    assert "line" in findings[2].what


@pytest.mark.parametrize("name", TABLES)
def test_an_altered_table_with_a_new_hash_does_not_match(packed: Path, name: str) -> None:
    def better(parts: dict[str, bytes]) -> None:
        old, new = (b"2.62", b"2.72") if b"2.62" in parts[name] else (b"50.0", b"40.0")
        assert old in parts[name]
        parts[name] = parts[name].replace(old, new)

    findings = verify(read_artefact(repack(packed, better, rehash=True)), "0.1.0")
    assert {one.table: one.matches for one in findings} == {one: one != name for one in TABLES}


def test_a_swapped_name_does_not_match(packed: Path) -> None:
    def swap(parts: dict[str, bytes]) -> None:
        parts["tables/report.md"] = parts["tables/report.md"].replace(b"| ours ms", b"| ort ms", 1)

    findings = {one.table: one for one in verify(read_artefact(repack(packed, swap, rehash=True)), "0.1.0")}
    assert not findings["tables/report.md"].matches


def test_another_drawing_of_the_same_numbers_matches(packed: Path) -> None:
    def redraw(parts: dict[str, bytes]) -> None:
        parts["tables/report.md"] = parts["tables/report.md"].replace(b"network |", b"net |")

    findings = {one.table: one for one in verify(read_artefact(repack(packed, redraw, rehash=True)), "0.1.0")}
    assert findings["tables/report.md"].matches
    assert "drawn by another version" in findings["tables/report.md"].what


def test_another_version_may_have_drawn_fewer_columns_and_no_other_number(packed: Path) -> None:
    def narrower(parts: dict[str, bytes]) -> None:
        lines = parts["tables/report.md"].decode().splitlines()
        parts["tables/report.md"] = "\n".join(line.rpartition(" | ")[0] for line in lines).encode()

    artefact = read_artefact(repack(packed, narrower, rehash=True))
    assert not verify(artefact, "0.1.0")[2].matches, "the same bench draws all columns"
    assert verify(artefact, "0.2.0")[2].matches

    def better(parts: dict[str, bytes]) -> None:
        narrower(parts)
        parts["tables/report.md"] = parts["tables/report.md"].replace(b"| 50<", b"| 49<")

    assert not verify(read_artefact(repack(packed, better, rehash=True)), "0.2.0")[2].matches


def remove(name: str) -> Change:
    return lambda parts: parts.pop(name) and None


def add(name: str) -> Change:
    return lambda parts: parts.update({name: b"x"})


def put(name: str, **values: object) -> Change:
    return edit(name, lambda document: document.update(values))


def turn(**values: object) -> Change:
    return edit(GROUPS, lambda group: group["blocks"][0]["turns"]["ours"].update(values))


HOSTILE: Mapping[str, tuple[Change, str]] = {
    "path upwards": (add("../../etc/cron.d/job"), "holds '../../etc/cron.d/job'"),
    "absolute path": (add("/etc/passwd"), "holds '/etc/passwd'"),
    "path in Windows' way": (add("..\\x"), "no artefact of bench"),
    "something else": (add("notes.txt"), "holds 'notes.txt'"),
    "a part missing": (remove(GROUPS), "groups.jsonl is missing"),
    "no manifest": (remove(MANIFEST), "manifest.json is missing"),
    "another schema": (put(MANIFEST, schema="bench.artefact/9"), "bench.artefact/9"),
    "no hash": (put(MANIFEST, files={}), "another form"),
    "manifest is a list": (lambda parts: parts.update({MANIFEST: b"[]"}), "not an object"),
    "manifest is deep": (lambda parts: parts.update({MANIFEST: b"[" * 100_000}), "another form"),
    "text is no UTF-8": (lambda parts: parts.update({RUN: b"\xff\xfe{}"}), "another form"),
    "not a number": (
        lambda parts: parts.update({RUN: parts[RUN].replace(b'"seed": 0', b'"seed": NaN')}),
        "NaN",
    ),
    "negative time": (turn(run_ns=[-5, 1, 1]), "-5 is not a whole number"),
    "no samples": (turn(run_ns=[]), "without a sample"),
    "time in words": (turn(run_ns=["1"]), "'1' is not a whole number"),
    "endless time": (turn(run_ns=[2**63]), "is not a whole number"),
    "a stranger in a block": (
        edit(GROUPS, lambda group: group["blocks"][0]["turns"].update(x=group["blocks"][0]["turns"]["ours"])),
        "has not",
    ),
    "unknown status": (
        edit(GROUPS, lambda group: group["cells"]["ours"]["outcome"].update(status="great")),
        "great",
    ),
    "a framework missing": (edit(GROUPS, lambda group: group["cells"].pop("ours")), "has not"),
    "frameworks of another run": (
        edit(RUN, lambda run: run["options"].update(frameworks=["x"])),
        "its own run",
    ),
    "a name that is none": (edit(RUN, lambda run: run["options"].update(models=[1, 2, 3])), "no text"),
    "a limit in words": (edit(RUN, lambda run: run["options"]["policy"].update(block_seconds="x")), "'x'"),
    "a day that is none": (put(RUN, started_at="yesterday"), "yesterday"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(kind: str, packed: Path) -> None:
    change, text = HOSTILE[kind]
    rehash = kind not in ("no manifest", "no hash", "manifest is a list", "manifest is deep")
    with pytest.raises(ArtefactError) as caught:
        read_artefact(repack(packed, change, rehash=rehash))
    assert text in str(caught.value)
    assert "\n  try: " in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(packed: Path) -> None:
    bomb = repack(packed, lambda parts: parts.update({GROUPS: b"0" * 20_000_000}), rehash=True)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(ArtefactError, match="times unpacked"):
        read_artefact(bomb)


def test_a_part_that_lies_about_its_size_is_refused(packed: Path) -> None:
    """The directory says 10 bytes, the stream has more."""
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        info = archive.getinfo(GROUPS)
    at = content.rindex(GROUPS.encode()) - 46  # its entry in the central directory
    assert content[at : at + 4] == b"PK\x01\x02"
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    assert info.file_size > 10
    packed.write_bytes(content)
    with pytest.raises(ArtefactError, match="refused"):
        read_artefact(packed)


def test_too_much_together_is_refused(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(artefact_read, "MOST_BYTES", packed.stat().st_size + 10)
        with pytest.raises(ArtefactError, match="larger than any artefact"):
            read_artefact(packed)
        patch.setattr(artefact_read, "MOST_BYTES", 10)
        with pytest.raises(ArtefactError, match="more than an artefact"):
            read_artefact(packed)


def test_a_part_that_is_there_twice_is_refused(packed: Path) -> None:
    with zipfile.ZipFile(packed, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(RUN, b"{}")
    with pytest.raises(ArtefactError, match="a file twice"):
        read_artefact(packed)


@pytest.mark.parametrize("cut", [0, 10, 1000, -30])
def test_a_damaged_file_is_refused(packed: Path, cut: int) -> None:
    packed.write_bytes(packed.read_bytes()[:cut])
    with pytest.raises(ArtefactError, match="not an intact archive"):
        read_artefact(packed)


def test_every_flipped_byte_is_noticed(packed: Path) -> None:
    whole = packed.read_bytes()
    artefact = read_artefact(packed)
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        changed = bytearray(whole)
        changed[at] ^= 0x55
        packed.write_bytes(changed)
        try:
            again = read_artefact(packed)
        except ArtefactError:
            continue
        assert again.data.groups[0].record == artefact.data.groups[0].record, at
        assert again.tables == artefact.tables


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot be read: No such file"):
        read_artefact(tmp_path / "no.bench")


def test_text_is_packed(packed: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(packed.read_bytes())) as archive:
        assert archive.testzip() is None
        first = json.loads(archive.read(GROUPS).splitlines()[0])
    assert first["blocks"][0]["turns"]["ours"]["run_ns"][0] == 50_000_000

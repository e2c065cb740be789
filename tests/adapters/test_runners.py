"""Rows of `runners.toml`: what is refused, with which words; how words are made and times are read."""

from pathlib import Path

import pytest

from adapters.external import Ended, Given, NoTimesError, times_ns
from adapters.protocol import Crashed, Setting
from adapters.runners import Program, read_programs
from models.errors import BenchError

GOOD = {
    "from": '"onnx"',
    "files": '["run.sh"]',
    "command": '["{files}/run.sh", "{model}", "{runs}"]',
    "times": "'(?P<run_ms>[0-9.]+) ms'",
}


def rows(tmp_path: Path, name: str = "own", **changes: str | None) -> dict[str, Program]:
    values = {**GOOD, **changes}
    text = "\n".join(f"{key} = {value}" for key, value in values.items() if value is not None)
    path = tmp_path / "runners.toml"
    path.write_text(f'["{name}"]\n{text}\n', encoding="utf-8")
    return read_programs(path, frozenset({"ours", "ort"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"from": '"tensorrt"'},
            "[own] from: no converter makes 'tensorrt'\n  try: one of onnx, tflite, mnn, ncnn",
        ),
        ({"from": None}, "[own]: `from` is missing or empty"),
        ({"files": "[]"}, "[own]: `files` is missing or empty"),
        ({"files": '"run.sh"'}, "[own]: `files` is not a list of texts"),
        ({"files": "[3]"}, "[own]: `files` is not a list of texts"),
        ({"command": "7"}, "[own]: `command` is not a list of texts"),
        ({"environment": '["A"]'}, "[own]: `environment` is not a table of texts"),
        ({"times": None}, '[own]: either `times` says how long it took, or `speaks = "lines"`'),
        ({"speaks": '"lines"'}, "[own]: either `times` says how long it took"),
        ({"speaks": '"json"', "times": None}, "[own]: either `times` says how long it took"),
        ({"speaks": '"lines"', "times": None}, "'{runs}': there is no placeholder {runs} here"),
        ({"comand": '["x"]'}, "[own]: there is no key `comand`\n  try: did you mean command?"),
        ({"files": r'["a\u0000b"]'}, "[own]: `files` has a NUL in it"),
        ({"times": "'(?P<run_ms>['"}, "[own] times: is not a regular expression"),
        ({"times": "'[0-9]+ ms'"}, "[own] times: needs exactly one named group"),
        ({"times": "'(?P<run_minutes>[0-9]+)'"}, "[own] times: needs exactly one named group"),
        ({"times": "'(?P<run_s>.)(?P<run_ms>.)'"}, "[own] times: needs exactly one named group"),
        ({"command": '["{model}"]'}, "[own] command: has no {runs}"),
        ({"command": '["{runs}"]'}, "[own] command: has no {model}"),
        (
            {"command": '["{modle}", "{runs}"]'},
            "[own] command: '{modle}': there is no placeholder {modle} here\n  try: did you mean model?",
        ),
        ({"command": '["{model:0}", "{runs}"]'}, "there is no placeholder {model:0} here"),
        ({"command": '["{model}", "{runs}", "{output:0}"]'}, "has {output} and no {input}"),
        (
            {"command": '["{model}", "{runs}", "{input}{output}"]'},
            "for every {input} or for every {output}, not both",
        ),
        (
            {"version": '["{files}/x", "{runs}"]'},
            "[own] version: '{runs}': there is no placeholder {runs} here",
        ),
        ({"name": "ours"}, "the name 'ours' is a framework of bench"),
        ({"name": "a:b"}, "the name 'a:b' has more than a-z 0-9 . _ - in it"),
        ({"name": "Own"}, "the name 'Own' has more than a-z 0-9 . _ - in it"),
    ],
)
def test_a_wrong_row_is_refused(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        rows(tmp_path, **changes)
    assert message in str(caught.value)


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "runners.toml").write_text("[own", encoding="utf-8")
    with pytest.raises(BenchError, match=r"runners\.toml: cannot be read"):
        read_programs(tmp_path / "runners.toml", frozenset())
    (tmp_path / "runners.toml").write_text("own = 3", encoding="utf-8")
    with pytest.raises(BenchError, match=r"\[own\]: is not a table"):
        read_programs(tmp_path / "runners.toml", frozenset())


def test_words(tmp_path: Path) -> None:
    first = '"{files}/p", "--in={input}", "{output:1}", "-t{threads}@{cores}"'
    command = f'[{first}, "{{{{x}}}}", "{{runs}}+{{warmup}}", "{{model}}"]'
    given = Given(
        program=rows(tmp_path, command=command, environment='{ LIB = "{files}/lib" }')["own"],
        files="/f",
        model="/m n",
        setting=Setting(2, "fp32"),
        cores=(7, 6),
        inputs=("/i0", "/{runs}"),
        outputs=("/o0", "/o1"),
    )
    words = ["/f/p", "--in=/i0", "--in=/{runs}", "/o1", "-t2@7,6", "{x}", "9+3", "/m n"]
    assert given.command("9", "3") == words
    assert given.environment() == {"LIB": "/f/lib"}
    assert given.version() == []


@pytest.mark.parametrize(
    ("said", "runs", "expected"),
    [
        ("1 ms\n2.5 ms\n", 2, (1_000_000, 2_500_000)),
        ("99 ms\n1 ms\n2 ms\n", 2, (1_000_000, 2_000_000)),
        ("1 ms\n", 5, (1_000_000,)),
        ("0.0000001 ms\n", 1, (1,)),
    ],
)
def test_times(said: str, runs: int, expected: tuple[int, ...], tmp_path: Path) -> None:
    assert times_ns(rows(tmp_path)["own"], Ended(0, said, 10, 10), runs) == expected


@pytest.mark.parametrize(
    ("ended", "error", "message"),
    [
        (
            Ended(0, "nothing\nhere\n", 1, 1),
            NoTimesError,
            "found nothing in what own said; its last words: nothing | here",
        ),
        (Ended(0, "0 ms", 1, 1), NoTimesError, "a time that is not positive"),
        (Ended(0, "1.2.3 ms", 1, 1), NoTimesError, "found what is no number"),
        (Ended(0, "9" * 400 + " ms", 1, 1), NoTimesError, "a time that is not positive"),
        (Ended(3, "1 ms\noh no", 1, 1), Crashed, "own ended with exit code 3; its last words: 1 ms | oh no"),
        (Ended(-11, "", 1, 1), Crashed, "own ended with signal 11; its last words: nothing"),
    ],
)
def test_no_times(ended: Ended, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error) as caught:
        times_ns(rows(tmp_path)["own"], ended, 3)
    assert message in str(caught.value)

"""Errors of the exporter that need no PyTorch, and its command line."""

import sys
from pathlib import Path

import pytest

from models.errors import ModelError
from models.export import __main__ as command_line
from models.export.driver import ExportReport, export, export_pretrained


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `package` were not installed."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("models.export.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def test_an_unknown_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        export("convnex", tmp_path, check=False)
    assert str(caught.value) == "no network of the zoo is called 'convnex'\n  try: did you mean convnext?"


@pytest.mark.parametrize("check", [True, False])
def test_a_missing_extra_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    without("torch", monkeypatch)
    with pytest.raises(ModelError) as caught:
        export("swin", tmp_path, check=check)
    assert str(caught.value) == (
        "swin: exporting needs the package torch, which is not installed\n"
        "  try: make the environment with PyTorch and the model libraries: `make export-env`"
    )
    assert list(tmp_path.iterdir()) == []


def test_trained_weights_need_the_extra_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without("torch", monkeypatch)
    with pytest.raises(ModelError, match="make export-env"):
        export_pretrained("swin", tmp_path / "net.onnx")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["models.export", *arguments])
    return command_line.main()


def test_the_command_says_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(name: str, graphs: Path, *, check: bool) -> ExportReport:
        differences = ("model.onnx: missing",) if check and name == "vit" else ()
        return ExportReport(name, 12, 100, 10, 2.4, differences)

    monkeypatch.setattr(command_line, "export", export)
    assert run(monkeypatch, "swin", "--check") == 0
    assert run(monkeypatch, "swin", "vit", "--check") == 1
    assert run(monkeypatch, "vit") == 0
    assert capsys.readouterr().out.splitlines() == [
        "swin: matches, 12 nodes, 2 s",
        "swin: matches, 12 nodes, 2 s",
        "vit: differs, 12 nodes, 2 s",
        "  model.onnx: missing",
        "vit: written, 12 nodes, 2 s",
    ]


def test_the_command_prints_errors_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "convnex") == 2
    assert "did you mean convnext?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [("swin", "--pretrained"), ("swin", "vit", "--pretrained", "--out", "x")]
)
def test_trained_weights_need_one_name_and_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, *arguments)
    assert "--pretrained needs --out FILE and one NAME" in capsys.readouterr().err

"""Holding a phone still: what is changed is written down on this machine first, and put back at every
exit.
"""

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_data_path

from benchsuite.device.link import Answer, file_name
from models.errors import BenchError

FOLDER_VARIABLE = "BENCH_DEVICE_STATE"
Shell = Callable[[str], Answer]


@dataclass(frozen=True, slots=True)
class Hold:
    """One thing to hold: a script that prints the value now, one that sets ours, and what puts a value back
    (`{}`: the old value, quoted). `when_null` puts back what was not set at all. `only_usb`: never over the
    network, which it would cut.
    """

    name: str
    read: str
    change: str
    restore: str
    when_null: str = ""
    only_usb: bool = False


def _setting(space: str, name: str, value: str) -> Hold:
    where = f"{space} {name}"
    return Hold(
        f"setting {name}={value}",
        f"settings get {where}",
        f"settings put {where} {value}",
        f"settings put {where} {{}}",
        f"settings delete {where}",
    )


HOLDS: tuple[Hold, ...] = (
    _setting("global", "stay_on_while_plugged_in", "7"),
    Hold(
        "screen on",
        "dumpsys power | grep -o 'mWakefulness=[A-Za-z]*'",
        "input keyevent 224",
        "case {} in *Awake) ;; *) input keyevent 223;; esac",
    ),
    _setting("system", "screen_brightness_mode", "0"),
    _setting("system", "screen_brightness", "0"),
    _setting("global", "low_power", "0"),
    Hold(
        "airplane mode",
        "cmd connectivity airplane-mode",
        "cmd connectivity airplane-mode enable",
        "case {} in enabled) ;; *) cmd connectivity airplane-mode disable;; esac",
        only_usb=True,
    ),
    Hold(
        "fixed-performance mode",
        "dumpsys power | grep -o 'mFixedPerformanceMode=[a-z]*' || echo unknown",
        "cmd power set-fixed-performance-mode-enabled true",
        "case {} in *=true) ;; *) cmd power set-fixed-performance-mode-enabled false;; esac",
    ),
)
"""In the order of changing; put back in the opposite one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed: its name, its value before, the script that puts it back."""

    name: str
    before: str
    undo: str


def state_file(serial: str) -> Path:
    """Where the changes of a phone are written down. `BENCH_DEVICE_STATE` names another folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named) if named else user_data_path("bench") / "devices"
    return folder / f"{file_name(serial)}.json"


def written_down(path: Path) -> tuple[Change, ...]:
    """The changes that were not put back yet; raises `BenchError` for a damaged file."""
    try:
        return tuple(Change(**one) for one in json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise BenchError(
            f"what was changed on the phone cannot be read: {error}",
            where=str(path),
            hint="look at the phone's settings (docs/phones.md lists them), then delete the file",
        ) from error


def hold(shell: Shell, path: Path, *, usb: bool) -> dict[str, str]:
    """Change what can be changed; returns what was done to each thing, in words, for the facts of the run."""
    done: dict[str, str] = {}
    changes = list(written_down(path))
    for one in HOLDS:
        if one.only_usb and not usb:
            done[one.name] = "left: the phone is on the network"
            continue
        before = shell(one.read)
        if before.code:
            done[one.name] = "left: " + " ".join((before.err or before.out).split())[-100:]
            continue
        value = before.out.strip()
        undo = one.when_null if one.when_null and value == "null" else one.restore.format(shlex.quote(value))
        _write(path, [*changes, Change(one.name, value, undo)])
        answer = shell(one.change)
        if answer.code:
            _write(path, changes)
            done[one.name] = "not offered: " + " ".join((answer.err or answer.out).split())[-100:]
            continue
        changes.append(Change(one.name, value, undo))
        done[one.name] = f"changed, was {value}"
    return done


def release(shell: Shell, path: Path) -> tuple[Change, ...]:
    """Put everything back, the last change first; what was put back is crossed out at once. Returns it.

    A phone that refuses is a `BenchError`.
    """
    changes = list(written_down(path))
    back = []
    while changes:
        change = changes[-1]
        answer = shell(change.undo)
        if answer.code:
            raise BenchError(
                f"{change.name} cannot be put back (it was {change.before}): {' '.join(answer.err.split())}",
                where=str(path),
                hint="put it back by hand in the phone's settings, then delete that file",
            )
        back.append(changes.pop())
        _write(path, changes)
    return tuple(back)


def _write(path: Path, changes: list[Change]) -> None:
    """On disk before the phone is touched."""
    if not changes:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump([asdict(one) for one in changes], file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

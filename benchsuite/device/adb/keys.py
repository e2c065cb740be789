"""The keys by which a phone knows this computer: adb's own files, made when there are none."""

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

from models.errors import BenchError

VENDOR_VARIABLE = "ADB_VENDOR_KEYS"
NAME = "adbkey"


def signers() -> tuple[Any, ...]:
    """Signers of the package adb-shell: the user's key, then those that `$ADB_VENDOR_KEYS` names (files, or
    folders of `*.adb_key`). Raises `BenchError` for a key that cannot be read.
    """
    own = Path.home() / ".android" / NAME
    if not own.exists():
        make_key(own)
    named = [Path(one) for one in os.environ.get(VENDOR_VARIABLE, "").split(os.pathsep) if one]
    vendor = [file for one in named for file in (sorted(one.glob("*.adb_key")) if one.is_dir() else [one])]
    return tuple(_signer(one) for one in (own, *vendor))


def make_key(path: Path) -> None:
    """A new pair, for this user's eyes only, as `adb keygen` makes it; one that is there by now stays."""
    from adb_shell.auth.keygen import keygen

    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / NAME
            made.touch(mode=0o600)
            keygen(str(made))
            try:
                os.link(made, path)
            except FileExistsError:
                return
            made.with_suffix(".pub").replace(path.with_suffix(".pub"))
    except OSError as error:
        raise BenchError(f"no key could be made: {error.strerror}", where=str(path)) from error


def _signer(path: Path) -> Any:
    from adb_shell.auth.keygen import encode_pubkey, get_user_info
    from adb_shell.auth.sign_pythonrsa import PythonRSASigner

    public = path.with_name(path.name + ".pub")
    try:
        if public.exists():
            shown = public.read_text(encoding="utf-8")
        else:
            shown = base64.b64encode(encode_pubkey(str(path))).decode() + get_user_info()
        return PythonRSASigner(shown, path.read_text(encoding="utf-8"))
    except Exception as error:  # whatever is wrong with a key, its readers say it in many ways
        raise BenchError(
            f"this is no key of adb: {error}",
            where=str(path),
            hint="move it away, and a new one is made (phones then ask again)",
        ) from error

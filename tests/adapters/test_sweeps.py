"""The default options are the fastest that were measured: the committed sweeps say so, not an opinion."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.catalogue import ADAPTERS, NOT_SWEPT, adapter, notes_of

FOLDER = Path(__file__).parents[2] / "adapters" / "sweeps"
DOCUMENTS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
NOISE = 0.02
"""A variant that is faster by less is not worth another default: it is inside what one machine can tell."""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_sweep_is_of_a_framework_as_it_is_used_now(name: str) -> None:
    """Whoever changes an option or adds a variant measures again."""
    document, row = DOCUMENTS[name], adapter(name)
    assert document["default"] == dict(row.options)
    assert {one["variant"]: one["options"] for one in document["rows"]} == {
        variant: dict(options) for variant, options in row.variants.items()
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_variant_is_faster_than_the_default(name: str) -> None:
    """Over the networks of the sweep together, when all of them came out right."""
    faster = {
        f"{one['variant']}, {one['threads']} threads": one["ratio"]
        for one in DOCUMENTS[name]["rows"]
        if one["high"] is not None and not one["missing"] and one["high"] < 1 - NOISE
    }
    assert faster == {}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_framework_that_was_not_swept_says_so(name: str) -> None:
    """Wherever its number stands: a default that nobody measured is an opinion."""
    row = adapter(name)
    assert (NOT_SWEPT in notes_of(row)) == bool(row.variants and name not in DOCUMENTS)

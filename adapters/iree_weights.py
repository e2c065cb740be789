"""Weights of a network for IREE: left in the files where they are, found by name, offset and length.

The compiler gets the network without them, so that gigabytes pass neither through it nor through memory. The
converted folder links to them, so that they take no place on the disk twice.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.protocol import Unsupported

TABLE_NAME = "weights.json"
OWN_FILE = "weights-own.bin"
SCOPE = "model"
"""The scope under which the importer names parameters."""

SMALLEST_ELEMENT_COUNT = 1024
"""Smaller tensors stay inside the network: shapes, scalars and indices that the compiler must see."""

ALIGNMENT_BYTES = 64


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor: `key` in IREE, and `byte_count` bytes at `offset` in `file` of the converted folder."""

    key: str
    file: str
    offset: int
    byte_count: int


def separate_weights(proto: Any, source: Path, folder: Path) -> None:
    """Embed the small tensors into `proto`, and write a table of where the large ones lie into `folder`.

    `proto` is the ONNX file `source` without its external data; it is changed. Raises `Unsupported` when two
    names become one in IREE.
    """
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

    links: dict[str, str] = {}
    weights = []
    with (folder / OWN_FILE).open("wb") as own:
        for tensor in proto.graph.initializer:
            outside = uses_external_data(tensor)
            if _element_count(tensor) < SMALLEST_ELEMENT_COUNT:
                if outside:
                    load_external_data_for_tensor(tensor, str(source.parent))
                    tensor.ClearField("external_data")
                    tensor.data_location = tensor.DEFAULT
                continue
            weights.append(_outside(tensor, links) if outside else _moved(tensor, own))
    for location, name in links.items():
        _link(source.parent / location, folder / name)
    _refuse_equal_keys(weights)
    text = json.dumps([asdict(weight) for weight in weights], indent=1)
    (folder / TABLE_NAME).write_text(text + "\n", encoding="utf-8")


def read_weights(folder: Path) -> tuple[Weight, ...]:
    """The table of a converted folder."""
    rows = json.loads((folder / TABLE_NAME).read_text(encoding="utf-8"))
    return tuple(Weight(**row) for row in rows)


def parameter_index(runtime: Any, folder: Path) -> Any:
    """IREE's index of the weights in a converted folder; the files are mapped, not read."""
    import numpy as np

    index, handles = runtime.ParameterIndex(), {}
    for weight in read_weights(folder):
        if weight.file not in handles:
            mapped = np.memmap(folder / weight.file, mode="r")
            handles[weight.file] = runtime.FileHandle.wrap_memory(mapped, readable=True, writable=False)
        index.add_from_file_handle(weight.key, handles[weight.file], weight.byte_count, offset=weight.offset)
    return index


def _outside(tensor: Any, links: dict[str, str]) -> Weight:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    name = links.setdefault(facts["location"], f"weights-{len(links)}.bin")
    return Weight(_key(tensor.name), name, int(facts.get("offset", 0)), int(facts["length"]))


def _moved(tensor: Any, own: Any) -> Weight:
    """Write a tensor that lies inside the ONNX file into a file of its own."""
    from onnx import numpy_helper

    own.write(b"\0" * (-own.tell() % ALIGNMENT_BYTES))
    offset = own.tell()
    byte_count = own.write(numpy_helper.to_array(tensor).tobytes())
    return Weight(_key(tensor.name), OWN_FILE, offset, byte_count)


def _key(name: str) -> str:
    """What IREE's importer makes of a tensor's name."""
    return name.replace(":", "_")


def _element_count(tensor: Any) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _refuse_equal_keys(weights: Sequence[Weight]) -> None:
    seen: set[str] = set()
    for weight in weights:
        if weight.key in seen:
            raise Unsupported(f"two tensors are called {weight.key!r} in IREE, which has no ':' in names")
        seen.add(weight.key)


def _link(source: Path, target: Path) -> None:
    """Never a hard link: onnx refuses to read weights that have more than one, in every other process too."""
    try:
        target.symlink_to(source.resolve())
    except OSError:  # a file system without links
        shutil.copyfile(source, target)

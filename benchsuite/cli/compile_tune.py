"""`bench compile NET --tune TIME`: search how the network's products are cut, into a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchsuite.cli.options import seconds
from models.errors import BenchError

if TYPE_CHECKING:
    from ourcompiler.ir.graph import Graph
    from ourcompiler.targets import Target


def check_tune(text: str | None, file: Path | None) -> float | None:
    """Seconds to search for, None for none; raises `BenchError` where nobody says into which file."""
    found = seconds(text, "--tune")
    if found is not None and file is None:
        raise BenchError(
            "where is the result to be kept?", where="--tune", hint="add --tilings FILE, such as tilings.toml"
        )
    return found


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was typed about tilings; `seconds` is None where nothing is to be searched."""

    target_name: str
    file: Path | None
    chip_name: str
    seconds: float | None

    def target(self) -> "Target":
        """The target with the tilings of the file, which a search may still have to write."""
        from ourcompiler.compile import tuned_target

        is_there = self.file is not None and (self.file.exists() or not self.seconds)
        return tuned_target(self.target_name, self.file if is_there else None, chip_name=self.chip_name)

    def searched(self, graph: "Graph", wanted: "Target", without: tuple[str, ...], threads: int) -> "Target":
        """Search a planned graph's products, if that was asked for, add what is found to the file, and give
        the target with it; raises `BenchError`.
        """
        if self.seconds is None:
            return wanted
        from ourcompiler import tilings
        from ourcompiler.passes.layout import choose, storages
        from ourcompiler.pipeline import LAYOUT
        from ourcompiler.tune import tune

        assert self.file is not None
        here = self._chip()
        found = tune(
            graph,
            wanted,
            {} if LAYOUT in without else storages(choose(graph)),
            chip=here,
            seconds=self.seconds,
            known=tilings.read(self.file, missing_is_empty=True),
            threads=threads,
            say=lambda text: click.echo(text, err=True),
        )
        tilings.write(found.entries, self.file)
        rest = found.products - found.known - found.searched - found.failed
        click.echo(
            f"{found.products} products: {found.known} known, {found.searched} searched,"
            f" {found.failed} failed, {rest} without time; {len(found.entries)} entries in {self.file}",
            err=True,
        )
        return self.target()

    def _chip(self) -> str:
        from ourcompiler.targets import chip

        here = chip()
        if not here or self.chip_name not in ("", here):
            wanted = f", not {self.chip_name}" if self.chip_name else ""
            raise BenchError(
                f"this machine is {here or 'of a kind that it does not tell'}{wanted}",
                where="--chip",
                hint="search on the chip itself, without --chip",
            )
        return here

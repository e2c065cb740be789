"""`bench compile`: one network through our compiler, with everything that can be seen on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchsuite.cli.compile_tables import draw, draw_times
from benchsuite.cli.compile_tune import Tuning, check_tune
from benchsuite.cli.options import cache_option, dimensions, format_option, print_json
from models.catalogue import resolve
from models.errors import BenchError

if TYPE_CHECKING:
    from ourcompiler.ir.graph import Graph
    from ourcompiler.passes.judge import Judge
    from ourcompiler.passes.layout import Choice
    from ourcompiler.pipeline import State
    from ourcompiler.program import Program
    from ourcompiler.targets import Target

GRAPH_SUFFIX, KERNEL_SUFFIX = ".graph", ".kernel"


@click.command()
@click.argument("network", required=False)
@click.option("--target", "target_name", default="host", show_default=True, help="What the code is for.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the package.")
@click.option(
    "--dump-ir", type=click.Path(path_type=Path), help="Folder for the graph after each step, kernels, C."
)
@click.option("--stop-after", default="", metavar="STEP", help="Print the graph after this step and end.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Go on from a dumped NN-STEP.graph.")
@click.option(
    "--without", default="", metavar="STEPS", help="Optimisations to leave out, such as sink,layout."
)
@click.option("--explain", is_flag=True, help="Operators after each step, kernels, layouts, bytes.")
@click.option("--trace-rules", is_flag=True, help="Every rule that was applied, on stderr.")
@click.option("--time-passes", is_flag=True, help="How long each step took.")
@click.option(
    "--fusion-table", type=click.Path(path_type=Path), help="Overrides cells of ourcompiler/fusion.toml."
)
@click.option(
    "--profile-database", type=click.Path(path_type=Path), help="Measured pairs that decide what is fused."
)
@click.option(
    "--profile-fusion", type=click.Path(path_type=Path), help="Measure yellow pairs into this file; then end."
)
@click.option("--profile-seconds", default=60.0, show_default=True, help="Time for --profile-fusion.")
@click.option("--threads", default=1, show_default=True, help="Threads that pairs are measured with.")
@click.option("--tilings", type=click.Path(path_type=Path), help="How products are cut: a file of --tune.")
@click.option(
    "--tune", "tune_time", metavar="TIME", help="Search for so long how products are cut, into --tilings."
)
@click.option("--chip", "chip_name", default="", help="Whose tilings are meant.  [default: this machine's]")
@click.option("--memory", "memory_name", default="", help="Explain layouts for it: buffer, texture.")
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Bind a symbolic dimension of a FILE.onnx.")
@format_option("rich", "json")
@cache_option
def command(
    network: str | None,
    target_name: str,
    out: Path | None,
    dump_ir: Path | None,
    stop_after: str,
    source: Path | None,
    without: str,
    explain: bool,
    trace_rules: bool,
    time_passes: bool,
    fusion_table: Path | None,
    profile_database: Path | None,
    profile_fusion: Path | None,
    profile_seconds: float,
    threads: int,
    tilings: Path | None,
    tune_time: str | None,
    chip_name: str,
    memory_name: str,
    dim: tuple[str, ...],
    form: str,
    cache: Path,
) -> None:
    """Compile NETWORK (a name of the zoo, or FILE.onnx) to a package: a library and its weights."""
    from ourcompiler.compile import judge_of
    from ourcompiler.ir.text import show
    from ourcompiler.pipeline import states
    from ourcompiler.targets import memory

    tuning = Tuning(target_name, tilings, chip_name, check_tune(tune_time, tilings))
    wanted = tuning.target()
    asked = memory(memory_name or wanted.memory)
    judge = judge_of(wanted, table=fusion_table, profile=profile_database, threads=threads)
    switched_off = tuple(filter(None, without.split(",")))
    graph, name, after = _start(network, source, dim, cache)
    if profile_fusion:
        _profile(graph, judge, profile_fusion, profile_seconds, switched_off, after)
        return
    say = (lambda text: click.echo(text, err=True)) if trace_rules else None
    steps = states(graph, without=switched_off, after=after, stop_after=stop_after, trace=say, judge=judge)
    done = list(_dumped(steps, dump_ir))
    if stop_after:
        click.echo(show(done[-1].graph), nl=False)
        return
    from ourcompiler.explain import explain as explained

    wanted = tuning.searched(done[-1].graph, wanted, switched_off, threads)
    choices, program = _program(done[-1].graph, wanted, switched_off)
    _dump_kernels(program, dump_ir)
    if out or not explain:
        _write(program, out or cache / "packages" / f"{name}-{wanted.name}")
    found = explained(name, done, program, choices, judge, asked)
    if form == "json":
        print_json("bench.compile/1", **found.document())
        return
    if explain:
        draw(found, Console(), with_memory=bool(memory_name))
    if time_passes:
        draw_times(done, Console())


def _dumped(steps: "Iterator[State]", folder: Path | None) -> "Iterator[State]":
    """The steps as they come, each graph also as text."""
    for number, state in enumerate(steps):
        _dump_graph(state.graph, folder, f"{number:02}-{state.step}")
        yield state


def _dump_graph(graph: "Graph", folder: Path | None, name: str) -> None:
    """A graph as text, if a folder for it is given."""
    from ourcompiler.ir.text import write_graph

    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        write_graph(graph, folder / f"{name}{GRAPH_SUFFIX}")


def _program(
    graph: "Graph", wanted: "Target", without: tuple[str, ...]
) -> "tuple[tuple[Choice, ...], Program]":
    """The layouts of a planned graph, and everything that its package is written from."""
    from ourcompiler.passes.layout import choose, storages
    from ourcompiler.pipeline import LAYOUT
    from ourcompiler.program import make_program

    choices = () if LAYOUT in without else choose(graph)
    return choices, make_program(graph, wanted, storages(choices))


def _profile(
    graph: "Graph", judge: "Judge", file: Path, seconds: float, without: tuple[str, ...], after: str
) -> None:
    """Measure the network's yellow pairs and add them to a database."""
    from dataclasses import replace

    from ourcompiler import profiles
    from ourcompiler.fusion_profile import measure
    from ourcompiler.pipeline import PIPELINE, states

    before = PIPELINE[-2].name
    *_, last = states(graph, without=without, after=after, stop_after=before)
    known = profiles.merged([judge.database, profiles.read(file, missing_is_empty=True)])
    found = measure(
        last.graph, replace(judge, database=known), seconds, lambda text: click.echo(text, err=True)
    )
    profiles.write(found.database, file)
    rest = found.candidates - found.known - found.measured - found.failed
    click.echo(
        f"{found.candidates} yellow pairs: {found.known} known, {found.measured} measured, "
        f"{found.failed} not possible alone, {rest} without time; {len(found.database.entries)} in {file}"
    )


def _start(
    network: str | None, source: Path | None, dim: tuple[str, ...], cache: Path
) -> "tuple[Graph, str, str]":
    """The graph to begin with, the network's name, and after which step it stands."""
    from models.materialize import materialize
    from ourcompiler.ir.parse import parse
    from ourcompiler.onnx_in.load import load
    from ourcompiler.pipeline import IMPORTED

    if source is not None:
        graph = parse(_text(source), source.parent)
        _, _, step = source.stem.partition("-")
        return graph, network or graph.name, step or IMPORTED
    if network is None:
        raise BenchError(
            "which network?", where="bench compile", hint="give a name or FILE.onnx, or --from FILE"
        )
    found = resolve(network, dimensions(dim))
    if len(found) != 1:
        raise BenchError(
            f"{network!r} is {len(found)} networks", where="NETWORK", hint="compile one at a time"
        )
    (model,) = found
    return load(materialize(model, cache)), model.name, IMPORTED


def _text(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(
            f"the graph cannot be read: {error}", where=str(source), hint="a file of --dump-ir"
        ) from error


def _write(program: "Program", folder: Path) -> None:
    from ourcompiler import package

    built = package.write(program, folder)
    size = sum(one.stat().st_size for one in folder.iterdir())
    click.echo(
        f"{built.name}: {len(built.steps)} kernels for {built.target}, {size / 1e6:.1f} MB in {folder}",
        err=True,
    )


def _dump_kernels(program: "Program", folder: Path | None) -> None:
    """Every distinct kernel, as a loop nest and as C, if a folder for it is given."""
    if not folder:
        return
    from ourcompiler.codegen.c import print_kernel
    from ourcompiler.kernel.text import show

    place = folder / "kernels"
    place.mkdir(parents=True, exist_ok=True)
    for name, kernel in program.kernels.items():
        (place / f"{name}{KERNEL_SUFFIX}").write_text(show(kernel), encoding="utf-8")
        (place / f"{name}.c").write_text(print_kernel(kernel), encoding="utf-8")

"""Winograd's convolution: matrices in exact arithmetic, the rule that chooses, and kernels in all the ways in
which kernels are checked, for tiles of every size and for blocks of tiles as well as for phases.
"""

import shutil
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourcompiler import package, reference, toolchain
from ourcompiler.build import Builder
from ourcompiler.codegen import winograd_plan
from ourcompiler.codegen.combine import combined
from ourcompiler.codegen.scope import Scope
from ourcompiler.codegen.toom_cook import POINTS, toom_cook, transform
from ourcompiler.codegen.winograd_plan import (
    MOST_ERROR,
    READS_IN_BLOCK,
    Order,
    Plan,
    Shape,
    choose,
    relative_error,
)
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.kernel.ir import Apply, Expr, Kind, Let, Name, Number
from ourcompiler.ops.conv import conv_facts
from ourcompiler.pipeline import optimize
from ourcompiler.program import Program
from ourcompiler.selftest.compare import error_of
from ourcompiler.selftest.interpret import interpret
from ourcompiler.selftest.standalone import run_program
from ourcompiler.selftest.together import joined, run_all
from ourcompiler.targets import Target, runnable_here, target, targets
from tests.ourcompiler.test_checked_builds import TRAPS, compiled_by_gcc

RESULTS = sorted(POINTS[1])
EACH = [(stride, results) for stride, own in POINTS.items() for results in own]
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """A convolution of 3 × 3 taps: images, channels, sizes, groups, border, and what is around it."""

    images: int
    inputs: int
    outputs: int
    height: int
    width: int
    groups: int = 1
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    bias: bool = True
    after: str = ""
    stride: int = 1

    def __str__(self) -> str:
        sizes = f"{self.inputs}-{self.outputs}-{self.height}x{self.width}"
        return f"{sizes}-{self.groups}-{self.after}-{self.stride}"


CASES = (
    Case(1, 8, 8, 6, 6),
    Case(2, 16, 20, 5, 7, after="silu"),
    Case(1, 12, 11, 9, 4, pads=(0, 0, 0, 0), bias=False),
    Case(1, 24, 48, 8, 8, groups=3, after="residual"),
    Case(1, 8, 4, 3, 1, pads=(2, 1, 0, 3)),
    Case(1, 140, 9, 4, 4, after="before"),
    Case(1, 9, 17, 13, 11, after="nhwc"),
    Case(2, 16, 20, 14, 9, after="silu", stride=2),
    Case(1, 24, 24, 8, 15, groups=2, pads=(0, 1, 1, 0), after="residual", stride=2),
    Case(1, 130, 9, 5, 3, pads=(2, 0, 0, 2), bias=False, after="before", stride=2),
)


def drawn(case: Case, seed: int = 0, *, whole: bool = False) -> tuple[Graph, dict[str, Array]]:
    """The graph with its weights known, and its input; `whole` numbers if asked for."""
    random = np.random.default_rng(seed)

    def array(*shape: int, scale: float = 1.0) -> Array:
        values = random.integers(-3, 4, shape) * 4 if whole else scale * random.standard_normal(shape)
        return np.asarray(values, np.float32)

    builder = Builder()
    image = array(case.images, case.inputs, case.height, case.width)
    each = case.inputs // case.groups
    x = builder.input("x", TensorType(DType.F32, image.shape))
    (before,) = builder.add("Relu", [x]) if case.after == "before" else (x,)
    weight = builder.constant(array(case.outputs, each, 3, 3, scale=(9 * each) ** -0.5))
    bias = builder.constant(array(case.outputs)) if case.bias else ""
    facts = {**conv_facts(2, group=case.groups, strides=case.stride), "pads": case.pads}
    (y,) = builder.add("Conv", [before, weight, bias], **facts)
    match case.after:
        case "silu":
            y = builder.add("Mul", [y, *builder.add("Sigmoid", [y])])[0]
        case "residual":
            y = builder.add("Add", [y, builder.constant(array(*builder.types[y].shape))])[0]
        case "nhwc":
            y = builder.add("Transpose", [y], perm=(0, 2, 3, 1))[0]
    return builder.graph([("y", y)]), {"x": image}


def force(patch: pytest.MonkeyPatch, results: int, order: Order, tiles: int) -> None:
    """Every convolution with tiles of so many results (those of the same rank for another stride), in this
    order, in blocks of about so many tiles.
    """
    own, rank = winograd_plan.cut, RESULTS.index(results)

    def cut(shape: Shape, results: int, target: Target) -> Plan:
        what = own(shape, results, target)
        block = min(what.tile_count, -(-tiles // what.tile.rows) * what.tile.rows)
        return replace(what, order=order, block=block)

    patch.setattr(winograd_plan, "choose", lambda shape, target: sorted(POINTS[shape.stride])[rank])
    patch.setattr(winograd_plan, "cut", cut)


WHOLE = 1 << 20
WAYS = [
    (one, order, tiles)
    for one in RESULTS
    for order in Order
    for tiles in (3, WHOLE)
    if order is not Order.GROUPS or tiles == WHOLE
]


@pytest.fixture(params=WAYS, ids=str)
def forced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of a few tiles, and of all."""
    force(monkeypatch, *request.param)


@pytest.mark.parametrize("name", ["avx512", "avx2", "aarch64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_in_python(case: Case, name: str, forced: None) -> None:
    graph, inputs = drawn(case)
    found = interpret(graph, inputs, target(name))["y"]
    assert error_of(found, reference.run(graph, inputs)["y"]) <= TOLERANCE


@pytest.mark.parametrize("name", runnable_here())
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_in_c(name: str, threads: int, forced: None, tmp_path: Path) -> None:
    all_drawn = {str(case): drawn(case) for case in CASES}
    graphs = {key: graph for key, (graph, _) in all_drawn.items()}
    inputs = {key: given for key, (_, given) in all_drawn.items()}
    found = run_all(graphs, inputs, tmp_path, target_name=name, threads=threads)
    for key, graph in graphs.items():
        assert error_of(found[key]["y"], reference.run(graph, inputs[key])["y"]) <= TOLERANCE, key


def checked() -> tuple[Program, dict[str, Array]]:
    graph = joined({str(case): drawn(case)[0] for case in CASES})
    inputs = {f"{case}/x": drawn(case)[1]["x"] for case in CASES}
    return program_of(optimize(graph), target("avx2")), inputs


def check(found: dict[str, Array]) -> None:
    for case in CASES:
        wanted = reference.run(*drawn(case))["y"]
        assert error_of(found[f"{case}/y"], wanted) <= TOLERANCE, case


ONE_SIZE = pytest.mark.parametrize("forced", [one for one in WAYS if one[0] == 4], ids=str, indirect=True)


@ONE_SIZE
def test_nothing_undefined_is_done(forced: None, tmp_path: Path) -> None:
    program, inputs = checked()
    toolchain.build_program(package.sources_of(program), tmp_path / "model", program.target, flags=TRAPS)
    check(run_program([str(tmp_path / "model")], program, tmp_path, inputs, threads=2))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: Debian package gcc")
@ONE_SIZE
def test_nothing_outside_memory_is_touched(forced: None, tmp_path: Path) -> None:
    program, inputs = checked()
    model = compiled_by_gcc(program, tmp_path)
    check(run_program([str(model)], program, tmp_path, inputs, threads=2))


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Case,
        images=st.integers(1, 2),
        inputs=st.sampled_from([1, 4, 8, 10]),
        outputs=st.sampled_from([2, 8, 12]),
        height=st.integers(3, 9),
        width=st.integers(3, 9),
        groups=st.sampled_from([1, 1, 2]),
        pads=st.tuples(*[st.integers(0, 2)] * 4),
        bias=st.booleans(),
        after=st.sampled_from(["", "silu", "residual", "before", "nhwc"]),
        stride=st.integers(1, 2),
    ).filter(lambda case: case.inputs % case.groups == 0 and case.outputs // case.groups >= 4),
    st.sampled_from(WAYS),
    st.integers(0, 99),
)
def test_any_convolution(case: Case, way: tuple[int, Order, int], seed: int) -> None:
    graph, inputs = drawn(case, seed)
    with pytest.MonkeyPatch.context() as patch:
        force(patch, *way)
        found = interpret(graph, inputs, target("aarch64"))["y"]
    assert error_of(found, reference.run(graph, inputs)["y"]) <= TOLERANCE


@pytest.mark.parametrize(("stride", "results"), [(1, 2), (2, 2), (2, 3)])
def test_whole_numbers_stay_exact(
    stride: int, results: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Points of one halve and quarter weights, which are multiples of four here: nothing is rounded."""
    monkeypatch.setattr(winograd_plan, "choose", lambda shape, target: results)
    case = Case(1, 16, 16, 7, 7, stride=stride)
    graph, inputs = drawn(case, whole=True)
    found = run_all({"g": graph}, {"g": inputs}, tmp_path)["g"]["y"]
    np.testing.assert_array_equal(found, reference.run(graph, inputs)["y"])


fractions = st.fractions(-9, 9, max_denominator=9)


@pytest.mark.parametrize(("stride", "results"), EACH)
@given(st.data())
def test_the_matrices_are_a_convolution(stride: int, results: int, data: st.DataObject) -> None:
    what = transform(results, stride)
    image = data.draw(st.lists(fractions, min_size=what.points, max_size=what.points))
    taps = data.draw(st.lists(fractions, min_size=3, max_size=3))

    def times(matrix: tuple[tuple[Fraction, ...], ...], values: list[Fraction]) -> list[Fraction]:
        return [sum((a * b for a, b in zip(row, values, strict=True)), Fraction(0)) for row in matrix]

    products = [a * b for a, b in zip(times(what.image, image), times(what.weights, taps), strict=True)]
    wanted = [sum(image[stride * at + tap] * taps[tap] for tap in range(3)) for at in range(results)]
    assert times(what.result, products) == wanted


@pytest.mark.parametrize("points", [(0, 1), (0, 1, 1), (0, 1, -1, 2)])
def test_points_that_do_not_fit(points: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"F\(2, 3\) needs 3 different points"):
        toom_cook(tuple(map(Fraction, points)), 2)


@given(st.lists(st.lists(st.integers(-2, 2), min_size=4, max_size=4), min_size=1, max_size=5))
def test_a_matrix_times_values(rows: list[list[int]]) -> None:
    scope = Scope()
    values = [Name(f"x{number}", Kind(DType.F32)) for number in range(4)]
    known = {one.name: float(number * number + 1) for number, one in enumerate(values)}

    def value(expr: Expr) -> float:
        match expr:
            case Number(number, _):
                return float(number)
            case Name(name, _):
                return known[name]
            case Apply(function, arguments, _):
                a, b, *c = map(value, arguments)
                return {"add": a + b, "sub": a - b, "mul": a * b, "fma": a * b + sum(c)}[function]
        raise AssertionError(expr)

    found = combined(scope, [list(map(Fraction, row)) for row in rows], values)
    for statement in scope.blocks[0]:
        assert isinstance(statement, Let)
        known[statement.name] = value(statement.value)
    given_values = [known[one.name] for one in values]
    wanted = [sum(a * b for a, b in zip(row, given_values, strict=True)) for row in rows]
    assert list(map(value, found)) == wanted


@pytest.mark.parametrize(("stride", "results"), EACH)
def test_the_expected_error_is_what_is_seen(stride: int, results: int) -> None:
    """Single precision by NumPy, in sums of one element after another, against the direct sum."""
    what, channels, count = transform(results, stride), 96, 200
    random = np.random.default_rng(results)
    image = random.standard_normal((count, channels, what.points, what.points)).astype(np.float32)
    taps = random.standard_normal((channels, 3, 3)).astype(np.float32)
    exact = np.zeros((count, results, results))
    direct = exact.astype(np.float32)
    for row in range(3):
        for column in range(3):
            down, across = (slice(at, at + stride * results, stride) for at in (row, column))
            seen = image[:, :, down, across]
            exact += np.einsum("tcij,c->tij", seen, taps[:, row, column], dtype=np.float64)
            for channel in range(channels):
                direct += seen[:, channel] * taps[channel, row, column]
    b, a = (np.array(one, np.float64).astype(np.float32) for one in (what.image, what.result))
    weights = np.array(what.weights, np.float64)
    points = (weights @ taps.astype(np.float64) @ weights.T).astype(np.float32)
    moved = b @ image @ b.T
    total = np.zeros(moved[:, 0].shape, np.float32)
    for channel in range(channels):
        total += moved[:, channel] * points[channel]
    found = a @ total @ a.T

    def root_mean_square(values: Array) -> float:
        return float(np.sqrt(np.mean((values - exact) ** 2)))

    ratio = root_mean_square(found) / root_mean_square(direct)
    assert ratio == pytest.approx(relative_error(what, channels), rel=0.25)


def test_what_is_too_inaccurate_is_never_chosen() -> None:
    errors = {one: [relative_error(transform(one), count) for count in (8, 64, 512)] for one in RESULTS}
    assert max(errors[2] + errors[4]) <= MOST_ERROR < min(errors[6])
    assert errors[4][2] < 1 < errors[4][0], "shorter sums make up for the transform"
    assert all(relative_error(transform(one, 2), 8) <= MOST_ERROR for one in POINTS[2])


@pytest.mark.parametrize(
    ("shape", "results"),
    [
        (Shape(1, 1, 512, 512, 64, 64), 4),
        (Shape(1, 1, 64, 64, 80, 80), 4),
        (Shape(1, 1, 512, 512, 32, 32), 4),
        (Shape(1, 1, 1280, 1280, 8, 8), 4),
        (Shape(1, 1, 1280, 1280, 4, 4), None),  # a tile or four are too few for the filters' transform
        (Shape(1, 1, 3, 64, 224, 224), None),
        (Shape(1, 1, 144, 144, 640, 20, 2), 4),
        (Shape(1, 1, 3, 64, 112, 112, 2), None),
    ],
)
def test_the_rule(shape: Shape, results: int | None) -> None:
    assert choose(shape, target("avx2")) == results


@pytest.mark.parametrize(
    ("shape", "order", "blocks"),
    [
        (Shape(1, 1, 128, 128, 256, 256), Order.TILES, 114),
        (Shape(1, 1, 512, 512, 64, 64), Order.CHANNELS, 1),  # too few blocks of enough tiles
        (Shape(1, 1, 1024, 1024, 84, 84), Order.CHANNELS, 1),  # filters are larger than the image
        (Shape(1, 1, 64, 64, 40, 40), Order.CHANNELS, 1),
        (Shape(1, 1, 32, 32, 48, 48), Order.CHANNELS, 2),  # too few panels
        (Shape(1, 9, 24, 24, 14, 14), Order.CHANNELS, 1),  # too few groups for threads
        (Shape(1, 24, 24, 24, 14, 14), Order.GROUPS, 1),
        (Shape(1, 24, 256, 256, 14, 14), Order.CHANNELS, 1),  # a group is larger than the second cache
    ],
)
def test_how_work_is_cut(shape: Shape, order: Order, blocks: int) -> None:
    what = winograd_plan.cut(shape, 4, target("avx2"))
    assert (what.order, -(-what.tile_count // what.block)) == (order, blocks)


def test_slower_processors_take_smaller_blocks() -> None:
    """Who reads filters from afar has as many tiles as hide that, and no more: they are a task's memory."""
    shape = Shape(1, 1, 256, 256, 128, 128)
    for one in targets().values():
        what = winograd_plan.cut(shape, 4, one)
        multiplied = 2 * what.block * shape.inputs * shape.outputs / one.flops_per_second
        read = 4 * shape.inputs * shape.outputs / one.bytes_per_second
        extra = what.tile.rows / what.block
        assert READS_IN_BLOCK <= multiplied / read <= READS_IN_BLOCK * (1 + extra) + 1
    fast, slow = (winograd_plan.cut(shape, 4, target(name)) for name in ("avx512", "avx2"))
    assert slow.own_bytes < 0.6 * fast.own_bytes


def test_filters_take_no_more_memory_than_they_are() -> None:
    """Transformed ones are workspace, which kernels share; a rule of cost needs no price for memory."""
    with_it, without = (
        program_of(optimize(conv(pads=1)), target("avx2"), one) for one in ((), ("winograd",))
    )
    assert with_it.weights_bytes == without.weights_bytes
    what = winograd_plan.cut(Shape(1, 1, 64, 64, 40, 40), 4, target("avx2"))
    assert with_it.arena_bytes >= 4 * what.shared_count


def forms_of(graph: Graph, *without: str) -> list[str]:
    program = program_of(optimize(graph), target("avx2"), without)
    return [blob.form for _, _, blob in program.sources if blob.form]


def conv(weight_is_known: bool = True, **facts: int) -> Graph:
    builder = Builder()
    x = builder.input("x", TensorType(DType.F32, (1, 64, 40, 40)))
    one = TensorType(DType.F32, (64, 64, 3, 3))
    weight = builder.constant(np.ones(one.shape, np.float32)) if weight_is_known else builder.input("w", one)
    return builder.graph([("y", builder.add("Conv", [x, weight, ""], **conv_facts(2, **facts))[0])])


def test_it_can_be_left_out() -> None:
    assert forms_of(conv(pads=1))[0].startswith("filters ")
    assert forms_of(conv(pads=1), "winograd")[0].startswith("panels ")


@pytest.mark.parametrize("facts", [{"strides": 3}, {"dilations": 2}])
def test_other_taps_are_multiplied_directly(facts: dict[str, int]) -> None:
    assert forms_of(conv(**facts))[0].startswith("panels ")


def test_every_other_result() -> None:
    assert forms_of(conv(pads=1, strides=2))[0].startswith("filters ")


def test_weights_of_the_run_are_not_transformed() -> None:
    assert forms_of(conv(weight_is_known=False, pads=1)) == []

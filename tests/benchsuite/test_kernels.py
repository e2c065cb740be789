"""Which kernels are measured, and what is remembered of them."""

import pytest

from benchsuite.kernels import KERNEL_POLICY, choose, kernel_facts
from benchsuite.policy import Policy
from models.errors import BenchError
from models.kernel_cases import Case


def case(name: str, template: str, flops: int, byte_count: int, **occurrences: int) -> Case:
    return Case(name, template, name, flops, byte_count, occurrences, ("a", (0,)))


CASES = (
    case("rare", "matmul", 100, 1, a=1),
    case("often", "matmul", 30, 1, a=4, b=9),
    case("small", "matmul", 10, 1, a=1, b=1),
    case("moved", "elementwise", 0, 7, b=2),
)


def named(templates: tuple[str, ...] = (), networks: str = "ab", top: int = 0) -> list[str]:
    return [one.name for one in choose(CASES, templates, networks, top)]


def test_most_work_comes_first_and_occurrences_count() -> None:
    assert named() == ["often", "rare", "small", "moved"]
    assert named(top=1) == ["often", "moved"]
    assert named(("matmul",), top=2) == ["often", "rare"]


def test_only_occurrences_in_the_chosen_networks_count() -> None:
    assert named(networks="a") == ["often", "rare", "small"]
    (often, *_) = choose(CASES, ("matmul",), ["a"], 1)
    assert (often.count, often.work) == (4, 120)
    assert named(networks="b") == ["often", "small", "moved"]


def test_unknown_templates_and_networks_without_any() -> None:
    with pytest.raises(BenchError, match="no template is called 'matmull'") as raised:
        named(("matmull",))
    assert "matmul" in raised.value.hint
    with pytest.raises(BenchError, match="no kernel of the template elementwise"):
        named(("elementwise",), networks="a")


def test_facts_of_a_kernel() -> None:
    facts = kernel_facts(CASES[1:2], {"matmul": 510})
    assert facts == {
        "kernel.often.template": "matmul",
        "kernel.often.flops": 30,
        "kernel.often.bytes": 1,
        "kernel.often.count": 13,
        "kernel.often.networks": "a, b",
        "template.matmul.work": 510,
    }


def test_a_kernel_is_measured_in_less_time_than_a_network() -> None:
    policy = Policy()
    assert KERNEL_POLICY.block_seconds < policy.block_seconds
    assert KERNEL_POLICY.least_blocks == policy.least_blocks, "an interval needs as many"
    assert KERNEL_POLICY.probe_seconds > policy.probe_seconds, "percent of the peak stands in every row"

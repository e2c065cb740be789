"""From PyTorch modules to graphs; skipped where the export extra is not installed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra: make export-env")

from torch import nn  # noqa: E402

from models.errors import ModelError  # noqa: E402
from models.export import driver  # noqa: E402
from models.export.assemble import assemble, write_complete  # noqa: E402
from models.export.batch_norm import settle_batch_norms  # noqa: E402
from models.export.pin import pin  # noqa: E402
from models.export.spread import spread_equal_weights, weight_tensors  # noqa: E402
from models.export.trace import trace  # noqa: E402
from models.model import InputSpec, ZooRow  # noqa: E402
from models.zoo import GRAPHS, zoo_row, zoo_rows  # noqa: E402

pytestmark = pytest.mark.export
IMAGE = InputSpec("x", (1, 3, 8, 8), "float32")


class Tiny(nn.Module):
    """A convolution with a batch norm, a table of positions, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 20)
        self.register_buffer("ramp", torch.linspace(0, 1, 16 * 8 * 8).reshape(1, 16, 8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x)).relu() + self.ramp
        return self.head(x.mean(dim=(2, 3)))


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(1)
    network = Tiny().eval()
    spread_equal_weights(network)
    return network


def test_every_weight_is_told_from_every_table(tiny: nn.Module) -> None:
    graph, constants = assemble(trace(tiny, [IMAGE], ["y"]), "tiny")
    assert {constant.name: constant.is_weight for constant in constants if constant.offset >= 0} == {
        "conv.weight": True,
        "conv.bias": True,  # made by folding the batch norm
        "ramp": False,
        "head.weight": True,
        "head.bias": True,
    }
    assert graph.graph.node[0].name == "conv/Conv"
    assert all(info.type.tensor_type.HasField("shape") for info in graph.graph.value_info)


def test_the_graph_computes_what_the_module_does(tiny: nn.Module, tmp_path: Path) -> None:
    write_complete(*assemble(trace(tiny, [IMAGE], ["y"]), "tiny"), tmp_path / "tiny.onnx")
    x = torch.randn(IMAGE.shape)
    assert difference(tmp_path / "tiny.onnx", tiny, [IMAGE], [x]) < 1e-6


def test_tracing_twice_gives_the_same_files(tiny: nn.Module) -> None:
    first, second = (pin(trace(tiny, [IMAGE], ["y"]), "tiny", 3) for _ in range(2))
    assert (first.graph, first.recipe) == (second.graph, second.recipe)


def test_no_weight_stays_equal_in_all_its_elements(tiny: nn.Module) -> None:
    for name, tensor in weight_tensors(tiny).items():
        assert tensor.unique().numel() > 1, name
    assert tiny.norm.running_var.min() > 0
    assert tiny.norm.weight.std().item() == pytest.approx(0.1, rel=0.5)


def test_settled_batch_norms_give_values_of_unit_size() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)) for _ in range(6)))
    image = torch.randn(1, 8, 32, 32)
    settle_batch_norms(network, image)
    assert 0.6 < network.eval()(image).square().mean().sqrt() < 1.5
    assert all(layer[1].running_var[0].log2().item().is_integer() for layer in network)


def test_the_torchvision_stub_leaves_no_trace() -> None:
    import sys

    from models.export.torchvision_stub import torchvision_stub

    before = set(sys.modules)
    with torchvision_stub():
        from torchvision.ops.misc import FrozenBatchNorm2d
        from torchvision.transforms import InterpolationMode
    assert issubclass(FrozenBatchNorm2d, nn.Module)
    assert InterpolationMode("bicubic")
    assert not {name for name in set(sys.modules) - before if name.startswith("torchvision")}


class WithTrainedWeights:
    """A module of `models/export/`, for the tests below."""

    OUTPUTS = ("y",)

    @staticmethod
    def build(pretrained: bool = False) -> nn.Module:
        torch.manual_seed(5 if pretrained else 6)
        return Tiny()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, row: ZooRow) -> type[WithTrainedWeights]:
    monkeypatch.setattr(driver, "_row", lambda name: replace(row, name=name, inputs=(IMAGE,)))
    monkeypatch.setattr(driver, "_module", lambda name: WithTrainedWeights)
    return WithTrainedWeights


def test_a_pretrained_network_is_written_complete(fake: type[WithTrainedWeights], tmp_path: Path) -> None:
    path = tmp_path / "new" / "trained.onnx"
    driver.export_pretrained("tiny", path)
    assert difference(path, fake.build(pretrained=True).eval(), [IMAGE], [torch.randn(IMAGE.shape)]) < 1e-6


def test_a_hub_out_of_reach_is_told(
    fake: type[WithTrainedWeights], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(pretrained: bool = False) -> nn.Module:
        raise ConnectionError("Temporary failure in name resolution")

    monkeypatch.setattr(fake, "build", staticmethod(build))
    with pytest.raises(ModelError) as caught:
        driver.export_pretrained("tiny", tmp_path / "trained.onnx")
    assert str(caught.value) == (
        "tiny: the trained weights could not be had: ConnectionError: Temporary failure in name resolution\n"
        "  try: connect to huggingface.co, or point HF_HOME at a cache that holds them"
    )
    assert list(tmp_path.iterdir()) == []


def test_networks_of_our_own_have_no_trained_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        driver.export_pretrained("cswin", tmp_path / "trained.onnx")
    assert str(caught.value) == (
        "cswin: has no trained weights: its module is ours, written from the paper\n"
        "  try: export it with drawn weights: `bench models export cswin`"
    )


@pytest.mark.parametrize("name", [row.name for row in zoo_rows()])
def test_a_pinned_network_comes_out_the_same_again(name: str) -> None:
    assert driver.export(name, GRAPHS, check=True).differences == ()


@pytest.mark.parametrize("name", [row.name for row in zoo_rows()])
def test_onnx_runtime_agrees_with_pytorch(name: str, tmp_path: Path) -> None:
    row, module = zoo_row(name), driver._module(name)
    torch.manual_seed(driver.SEED)
    network = module.build().eval()
    spread_equal_weights(network)
    write_complete(*assemble(trace(network, row.inputs, module.OUTPUTS), name), tmp_path / "net.onnx")
    assert (
        difference(tmp_path / "net.onnx", network, row.inputs, [example(spec) for spec in row.inputs]) < 1e-5
    )


def example(spec: InputSpec) -> torch.Tensor:
    if spec.draw == "integers":
        return torch.randint(spec.low, spec.high, spec.shape)
    if spec.draw == "constant":
        return torch.full(spec.shape, spec.value, dtype=getattr(torch, spec.dtype))
    return torch.randn(spec.shape)


def difference(path: Path, network: nn.Module, specs: list[InputSpec], inputs: list[torch.Tensor]) -> float:
    """The largest relative L2 distance between an output of unoptimised ONNX Runtime and the module's."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {spec.name: value.numpy() for spec, value in zip(specs, inputs, strict=True)})
    with torch.no_grad():
        expected = network(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    pairs = zip(found, (value.numpy() for value in expected), strict=True)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs)

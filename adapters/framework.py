"""What every framework's row has in common: its facts, its options, and the variants that were tried."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from adapters.protocol import MAIN_ENVIRONMENT, Setting
from models.errors import BenchError
from models.suggest import nearest

VARIANT_MARK = ":"


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """The facts of an `Adapter`; a framework's own file adds `conversion`, `convert` and `load`.

    `tuner` is the module that searches for one network at a time, `python -m TUNER NETWORK.onnx --trials N
    --minutes M` ("": nothing is searched), `precisions` which classes it can be asked for.
    """

    name: str
    title: str
    distribution: str
    extra: str = ""
    environment: str = MAIN_ENVIRONMENT
    notes: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    precisions: tuple[str, ...] = ("fp32",)
    tuner: str = ""

    @property
    def tuned(self) -> bool:
        """Whether something was searched for the network at hand."""
        return bool(self.tuner)

    def refuse(self, setting: Setting) -> str | None:
        """Only the classes of `precisions`."""
        if setting.precision in self.precisions:
            return None
        title, classes = self.title.partition(",")[0], " and ".join(self.precisions)
        return f"{title} runs these networks in {classes} only, not {setting.precision}"

    def variant(self, name: str) -> Self:
        """The same framework with other options; raises `BenchError` for a variant that there is not."""
        if name not in self.variants:
            known = ", ".join(self.variants) or "it has none"
            raise BenchError(
                f"{self.name} has no variant {name!r}",
                where="--frameworks",
                hint=nearest(name, self.variants, otherwise=f"one of: {known}"),
            )
        options = {**self.options, **self.variants[name]}
        changed = ", ".join(f"{key}={value}" for key, value in self.variants[name].items())
        note = f"a variant with {changed}, not {self.name} as it is compared by default"
        return replace(
            self,
            name=f"{self.name}{VARIANT_MARK}{name}",
            options=options,
            notes=(*self.notes, note),
            variants={},
        )

"""What is said of a model that leaves the range of its narrow type."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

_TOLD = 8
"""So many nodes are listed with their values."""

_PASTED = 32
"""So many names are worth pasting; a model that needs more is not made for the type."""


@dataclass(frozen=True)
class Overflow:
    """The first value that is not finite although everything it was made from is, and what else there is.

    Attributes:
        node: Name of the node (of the input, where the data themselves are too large). Where a cast or Q/DQ
            overflows, the node whose result it carries.
        op: Its operator, or ``"Input"``.
        largest: Largest magnitude before rounding; inf for a division by zero or an infinite weight, NaN
            for 0/0.
        limit: Largest finite value of the type.
        type: ``"FP16"``, ``"BF16"`` or ``"FP32"`` (a node that was kept wide fails by itself).
        weight: Name of the weight that is infinite, or None where the node's result is.
        consumers: What reads the result of a cast or of Q/DQ: it is what has to stay wide.
        leaving: In graph order, the nodes (or the input) that leave the range by themselves, with their
            largest magnitudes: their exact results are too large, those that they read are not.
        exclude: What has to stay wide for all values to fit, in graph order: these nodes, and those readers
            of a value that is too large which do not stay with it anyway. Empty where the node alone will do.
    """

    node: str
    op: str
    largest: float
    limit: float
    type: str
    weight: str | None = None
    consumers: tuple[str, ...] = ()
    leaving: tuple[tuple[str, float], ...] = ()
    exclude: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self._sentence()}{self._others()}"

    def _sentence(self) -> str:
        end = f"{self.type} ends at {_short(self.limit)}"
        if self.weight is not None:
            return f"weight '{self.weight}' of {self.node} is infinite, {end}: keep {self.node} in FP32"
        if self.op == "Input":
            keep = ", ".join(self.consumers) or "what reads it"
            return f"input '{self.node}' reaches {_short(self.largest)}, {end}: keep {keep} in FP32"
        if self.type == "FP32":
            return (
                f"{self.node} gives {_short(self.largest)} in FP32, on finite inputs: look at what feeds it"
            )
        if math.isnan(self.largest):
            return f"{self.node} gives NaN in {self.type}: keep it in FP32, and what feeds it"
        keep = ", ".join(self.consumers) or "it"
        if math.isinf(self.largest):
            return f"{self.node} gives inf, {end}: keep {keep} in FP32"
        return f"{self.node} reaches {_short(self.largest)}, {end}: keep {keep} in FP32"

    def _others(self) -> str:
        if not self.exclude:
            return ""
        told = ""
        if len(self.leaving) > 1:
            each = ", ".join(f"{name} ({_short(largest)})" for name, largest in self.leaving[:_TOLD])
            more = f" and {len(self.leaving) - _TOLD} more" if len(self.leaving) > _TOLD else ""
            told = f"; in all {len(self.leaving)} nodes leave the range: {each}{more}"
        if len(self.exclude) > _PASTED:
            return (
                f"{told}; {len(self.exclude)} nodes would have to stay in FP32, too many to paste: "
                "BF16 has the range of FP32"
            )
        # JSON's strings are TOML's.
        names = ", ".join(json.dumps(name, ensure_ascii=False) for name in self.exclude)
        them = "them" if len(self.leaving) > 1 else "it"
        readers = "" if {name for name, _ in self.leaving} >= set(self.exclude) else f" and what reads {them}"
        return f"{told}; exclude = [{names}] keeps {them}{readers} in FP32"


def _short(value: float) -> str:
    """Two digits, as ``1.9e5``; whole numbers below 100 000 in full; NaN and inf by name."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf"
    if value == int(value) and value < 1e5:
        return str(int(value))
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"

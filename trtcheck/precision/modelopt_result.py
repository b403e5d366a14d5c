"""Reads what ModelOpt made of a model, and refuses what is not the same model in a narrower type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto

from trtcheck import model as models
from trtcheck.case import Precision
from trtcheck.errors import LoweringError
from trtcheck.model import Shape, Signature, Tensor
from trtcheck.precision import graph
from trtcheck.precision.modelopt_child import INSTEAD
from trtcheck.precision.placement import QUANTIZED_OPS, has_float_work

_SHOWN = 5


@dataclass(frozen=True)
class Source:
    """The FP32 model that ModelOpt gets: every node has a name, so that patterns and answers agree.

    Attributes:
        path: The file that messages name.
        model: The model.
        signature: Its inputs and outputs.
        excluded: Names of the nodes that the user wants in FP32.
        following: Why other nodes stay in FP32 with them, by name.
        fault: What ONNX's checker has against it already, or None.
    """

    path: Path
    model: ModelProto
    signature: Signature
    excluded: set[str]
    following: Mapping[str, str]
    fault: str | None

    @property
    def rows(self) -> int:
        """Images that ModelOpt feeds at once: one where the batch is open."""
        return self.signature.fixed_batch or 1


@dataclass(frozen=True)
class Result:
    """What became of the nodes of the source; the sets hold their names.

    Attributes:
        source: The source.
        model: ModelOpt's model.
        precision: INT8 or FP16.
        gone: Nodes that compute with floats in the source and are not in ModelOpt's model.
        quantized: Nodes whose factors are both INT8.
        narrowed: The other nodes that have an FP16 input or output.
        wide: The rest of those that compute with floats: FP32.
    """

    source: Source
    model: ModelProto
    precision: Precision
    gone: list[str]
    quantized: set[str]
    narrowed: set[str]
    wide: set[str]

    @classmethod
    def of(cls, source: Source, model: ModelProto, precision: Precision) -> Result:
        """Reads ModelOpt's *model* of *source*."""
        before, after = graph.infer(source.model).types, graph.infer(model).types
        floats = [node.name for node in source.model.graph.node if has_float_work(node, before)]
        makers = {name: node for node in model.graph.node for name in node.output}
        present = {node.name: node for node in model.graph.node if node.name in set(floats)}
        quantized = {name for name, node in present.items() if _is_quantized(node, makers)}
        narrowed = {name for name, node in present.items() if _is_narrow(node, after)} - quantized
        gone = [name for name in floats if name not in present]
        return cls(source, model, precision, gone, quantized, narrowed, present.keys() - quantized - narrowed)

    def kept(self) -> list[dict[str, str]]:
        """The nodes that are wider than what was asked for, with the reason."""
        int8 = self.precision is Precision.INT8
        entries = []
        for node in self.source.model.graph.node:
            left = node.name in self.wide and (
                not int8 or bool(self.narrowed)
            )  # rest = "fp32" is wide by wish
            if int8 and node.op_type in QUANTIZED_OPS:
                left = node.name in self.wide | self.narrowed
            if left:
                entries.append({"node": node.name, "op": node.op_type, "reason": self._reason(node.name)})
        return entries

    def _reason(self, name: str) -> str:
        if name in self.source.excluded:
            return "excluded"
        return self.source.following.get(name, "left wide by ModelOpt")

    def counts(self) -> dict[str, Any]:
        """The manifest's figures."""
        ops = {node.name: node.op_type for node in self.source.model.graph.node}
        return {
            "opset": graph.opset_of(self.model),
            "nodes": {
                "total": len(ops),
                "narrowed": len(self.narrowed),
                "quantized": len(self.quantized),
                "wide": len(self.wide),
            },
            "kept": self.kept(),
            "folded": sum(ops[name] == "BatchNormalization" for name in self.gone),
        }

    def notes(self) -> list[str]:
        """What a reader of a verdict should know of the lowering."""
        notes = []
        if self.gone:
            more = " …" if len(self.gone) > _SHOWN else ""
            notes.append(f"ModelOpt merged or replaced nodes: {', '.join(self.gone[:_SHOWN])}{more}")
        return notes

    def verify(self) -> None:
        """Refuses a model that is broken, is called in another way, or is not what was asked for.

        Raises:
            LoweringError: It is.
        """
        path = self.source.path
        if self.source.fault is None and (fault := graph.fault(self.model)):
            raise LoweringError("ModelOpt's model is not valid ONNX", where=path, found=fault)
        made, wanted = models.signature_of(self.model, path), self.source.signature
        self._compare("inputs", wanted.inputs, made.inputs, _same_shape)
        # What a model declares of its outputs may be wrong, which ONNX's checker need not notice.
        self._compare("outputs", wanted.outputs, made.outputs, _same_batch)
        if not (self.quantized if self.precision is Precision.INT8 else self.narrowed):
            some = [f"{entry['node']}: {entry['reason']}" for entry in self.kept()[:_SHOWN]]
            raise LoweringError(
                f"ModelOpt left every node wider than {self.precision.value}",
                where=path,
                found="; ".join(some) or "no node that it could narrow",
            )
        changed = self.quantized | self.narrowed | set(self.gone)
        if broken := sorted(self.source.excluded & changed):
            raise LoweringError(
                f"ModelOpt did not keep in FP32 what is excluded: {', '.join(broken[:_SHOWN])}",
                where=path,
                hint=f"leave these nodes out of exclude, or the work to trtcheck: {INSTEAD[self.precision]}",
            )

    def _compare(
        self, kind: str, wanted: tuple[Tensor, ...], made: tuple[Tensor, ...],
        alike: Callable[[Shape, Shape], bool],
    ) -> None:  # fmt: skip
        """Refuses other names or types, and shapes that are not *alike* where both are known."""
        same = len(wanted) == len(made) and all(
            (ours.name, ours.dtype) == (theirs.name, theirs.dtype)
            and (ours.shape is None or theirs.shape is None or alike(ours.shape, theirs.shape))
            for ours, theirs in zip(wanted, made, strict=False)
        )
        if not same:
            raise LoweringError(
                f"ModelOpt's model has other {kind}",
                where=self.source.path,
                expected=", ".join(map(str, wanted)),
                found=", ".join(map(str, made)),
                hint=f"leave the work to trtcheck: {INSTEAD[self.precision]}; "
                "or name a file in [models.NAME.lowered]",
            )


def _same_shape(ours: Shape, theirs: Shape) -> bool:
    return ours == theirs


def _same_batch(ours: Shape, theirs: Shape) -> bool:
    return not ours or not theirs or ours[0] == theirs[0]


def _is_quantized(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether *node* multiplies INT8 by INT8: both factors come from DequantizeLinear."""
    return node.op_type in QUANTIZED_OPS and all(
        name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2]
    )


def _is_narrow(node: onnx.NodeProto, types: Mapping[str, int]) -> bool:
    return any(types.get(name) == TensorProto.FLOAT16 for name in (*node.input, *node.output) if name)

"""What the fixture ``trt_check`` is: the checks of one case and engine, as methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from trtcheck import given
from trtcheck.case import Case, Check, DropTest, EngineSpec, Gates, LatencySpec, Outcome, Verdict
from trtcheck.dispatch import timed_batches
from trtcheck.errors import CaseError, TrtcheckError
from trtcheck.fixtures import mark_keywords
from trtcheck.item_records import add_outcome
from trtcheck.state import runtime_of

if TYPE_CHECKING:
    from trtcheck.backends.base import BuiltEngine
    from trtcheck.metrics.confusion import Confusion


class TrtCheck:
    """The checks of one case and engine.

    Args:
        request: The test's request.
        case: The case.
        engine: The engine.
    """

    def __init__(self, request: pytest.FixtureRequest, case: Case, engine: EngineSpec) -> None:
        self._item: pytest.Item = request.node
        self._runtime = runtime_of(request.config)
        self._engine = engine
        self.case = replace(case, gates=marked_gates(case.gates, request.node))

    def engine(self) -> BuiltEngine:
        """The built engine; fails the test if it cannot be built."""
        try:
            return self._runtime.workbench.built(self.case, self._engine)
        except TrtcheckError as error:
            raise self._failure(Check.BUILD, error) from None

    def build(self) -> Outcome:
        """Whether the engine was built, and is what was asked for."""
        return self._judge(Check.BUILD, {})

    def calibration(self) -> Outcome:
        """What the calibration data have seen, and what they must not have seen; of INT8 engines."""
        return self._judge(Check.CALIBRATION, {})

    def batch_invariance(self, *, tolerance: float | None = None) -> Outcome:
        """Whether answers depend on the images beside them by more than *tolerance* (relative L2)."""
        return self._judge(Check.BATCH_INVARIANCE, {"batch_tolerance": tolerance})

    def outputs(self, **limits: float) -> Outcome:
        """Whether every output is there, finite and within *limits* (as the gates of the toml).

        Args:
            **limits: ``max_abs``, ``max_rel``, ``relative_l2``, ``cosine``, ``kl``, ``top1_agreement``,
                ``churn``.
        """
        return self._judge(Check.OUTPUTS, limits)

    def accuracy(
        self,
        *,
        drop: float | None = None,
        floor: float | None = None,
        target: float | None = None,
        test: DropTest | str | None = None,
    ) -> Outcome:
        """Whether accuracy fell too far.

        Args:
            drop: The drop that is too much, as a fraction; for this and what follows, None leaves the gate as
                it is.
            floor: Smallest accepted accuracy.
            target: Smallest accepted share of the reference's accuracy.
            test: What makes a drop a failure: ``"paired"``, ``"threshold"`` or ``"proven"``.
        """
        gates = {"accuracy_drop": drop, "accuracy_floor": floor, "accuracy_target": target, "test": test}
        return self._judge(Check.ACCURACY, gates)

    def recall(
        self,
        *,
        drop: float | None = None,
        classes: Mapping[str, float] | None = None,
        key_classes: Sequence[str] | None = None,
        floor: float | None = None,
        test: DropTest | str | None = None,
    ) -> Outcome:
        """Whether any class's recall fell too far.

        Args:
            drop: The drop that is too much, as a fraction; for this and what follows, None leaves the gate as
                it is.
            classes: The same of single classes, by name or pattern (fnmatch); these patterns come before
                those of the suite.
            key_classes: Names or patterns of the classes that share a quarter of alpha of their own.
            floor: Smallest accepted recall of any class.
            test: What makes a drop a failure: ``"paired"``, ``"threshold"`` or ``"proven"``.
        """
        return self._classes(Check.RECALL, drop, classes, key_classes, floor, test)

    def precision(
        self,
        *,
        drop: float | None = None,
        classes: Mapping[str, float] | None = None,
        key_classes: Sequence[str] | None = None,
        floor: float | None = None,
        test: DropTest | str | None = None,
    ) -> Outcome:
        """Whether any class's precision fell too far; for the arguments see `recall`."""
        return self._classes(Check.PRECISION, drop, classes, key_classes, floor, test)

    def _classes(
        self,
        check: Check,
        drop: float | None,
        classes: Mapping[str, float] | None,
        key_classes: Sequence[str] | None,
        floor: float | None,
        test: DropTest | str | None,
    ) -> Outcome:
        name = check.value
        gates = {f"{name}_drop": drop, f"{name}_floor": floor, "key_classes": key_classes, "test": test}
        own: Mapping[str, Any] | None = classes
        if isinstance(classes, Mapping):
            own = {entry: {f"{name}_drop": value} for entry, value in classes.items()}
        return self._judge(check, {**gates, "classes": own})

    def latency(
        self,
        *,
        batch: int | None = None,
        slowdown: float | None = None,
        p95_slowdown: float | None = None,
        throughput_drop: float | None = None,
        ms: float | None = None,
        p95_ms: float | None = None,
        throughput: float | None = None,
        energy_mj: float | None = None,
        speedup: float | None = None,
        faster_than: str | None = None,
    ) -> Outcome:
        """Whether the engine became slower, and is as fast as it must be; skips the test if it is not timed.

        How it is timed is the case's `LatencySpec`.

        Args:
            batch: Images of a query; None for the first batch size of the case's, or 1.
            slowdown: The slowdown of the median that is accepted, as a fraction; for this and what follows,
                None leaves the gate as it is.
            p95_slowdown: The same for the 95th percentile.
            throughput_drop: The drop of throughput that is accepted, as a fraction.
            ms: Largest accepted median of a query, in ms.
            p95_ms: Largest accepted 95th percentile, in ms.
            throughput: Smallest accepted throughput, in images per second.
            energy_mj: Largest accepted energy of an image, in millijoules.
            speedup: Smallest accepted speed-up over the reference on the same device.
            faster_than: Name of an engine that must be slower.
        """
        gates = {
            "latency_slowdown": slowdown, "latency_p95_slowdown": p95_slowdown,
            "throughput_drop": throughput_drop, "latency_ms": ms, "latency_p95_ms": p95_ms,
            "throughput": throughput, "energy_mj": energy_mj, "speedup": speedup, "faster_than": faster_than,
        }  # fmt: skip
        try:
            for name, limit in gates.items():
                if isinstance(limit, Mapping):
                    raise given.wrong(f"{_LATENCY}: {name}", "a number: one batch size is timed", limit)
            return self._judge(Check.LATENCY, gates, self._size(batch))
        except CaseError as error:
            raise self._failure(Check.LATENCY, error) from None

    def _size(self, batch: object) -> int | None:
        """Images of a query; None for a recording's own.

        Raises:
            CaseError: The batch size that is asked for is none.
        """
        if batch is None:
            spec = self.case.latency or LatencySpec()
            return timed_batches(replace(self.case, latency=spec), self._engine)[0]
        expected, read = given.SIZE
        size: int | None = read(batch)
        if size is None:
            raise given.wrong(f"{_LATENCY}: batch", expected, batch)
        return size

    def confusion(self) -> tuple[Confusion, Confusion]:
        """Confusion of the reference and of the engine."""
        try:
            return self._runtime.workbench.evaluation(self.case, self._engine).confusion()
        except TrtcheckError as error:
            raise self._failure(Check.RECALL, error) from None

    def _judge(self, check: Check, limits: Mapping[str, Any], batch: int | None = None) -> Outcome:
        """Judges by the gates and by those of the *limits*, which bear on *check*, that are not None."""
        from trtcheck.dispatch import judge, strict_by
        from trtcheck.items import RegressionError, conclude, timed
        from trtcheck.suite import changed_gates

        changes = {name: value for name, value in limits.items() if value is not None}
        known = _OF_OUTPUTS if check is Check.OUTPUTS else limits
        settings = self._runtime.settings
        try:
            gates = changed_gates(self.case.gates, changes, f"trt_check.{check.value}()", known)
            case = replace(self.case, gates=gates)
            if check is Check.LATENCY:
                outcome = timed(self._item, case, self._engine, batch)
            else:
                outcome = judge(self._runtime.workbench, settings, case, self._engine, check)
        except TrtcheckError as error:
            raise self._failure(check, error) from None
        try:
            conclude(self._item, outcome, strict_by(settings, case.gates))
        except RegressionError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        return outcome

    def _failure(self, check: Check, error: TrtcheckError) -> BaseException:
        """Records that *check* could not be made; what it returns fails the test."""
        add_outcome(
            self._item,
            Outcome(
                model=self.case.name, engine=self._engine.name, check=check, verdict=Verdict.ERROR,
                message=str(error),
            ),
        )  # fmt: skip
        return pytest.fail.Exception(str(error), pytrace=False)


_LATENCY = "trt_check.latency()"
"""What messages about its arguments name."""

_OF_OUTPUTS = ("max_abs", "max_rel", "relative_l2", "cosine", "kl", "top1_agreement", "churn")
"""The gates of the check ``outputs``."""


def marked_gates(gates: Gates, node: pytest.Item) -> Gates:
    """The *gates* changed by the ``trtcheck`` marks of *node*; a keyword that is no gate fails the test."""
    keywords = {name: value for name, value in mark_keywords(node).items() if name != "model"}
    from trtcheck.suite import changed_gates

    try:
        return changed_gates(gates, keywords, "@pytest.mark.trtcheck")
    except TrtcheckError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None

"""The streaming comparison, with fake engines that answer from arrays, and evaluations for other tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trtcheck import environment
from trtcheck.backends.base import BackendInfo
from trtcheck.case import Case, Check
from trtcheck.class_scores import scores_output
from trtcheck.data.batches import Batch
from trtcheck.errors import CaseError, EngineError
from trtcheck.evaluation import Evaluation
from trtcheck.model import Signature, Tensor
from trtcheck.streaming import stream, stream_reference

NAN = np.nan
CASE = Case(name="cats", onnx="model.onnx", data="eval.npz", top_k=2)


class FakeEngine:
    """Answers the images that it is fed by their index, as backends do: one row a fed row."""

    signature = Signature((), ())

    def __init__(self, **outputs: np.ndarray) -> None:
        self.outputs = outputs

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array[feeds["index"]] for name, array in self.outputs.items()}

    def close(self) -> None:
        """Nothing to free."""


class FakeReference(FakeEngine):
    """Answers only real images."""

    def answers(self, batch: Batch) -> dict[str, np.ndarray]:
        return {name: array[batch.start : batch.start + batch.count] for name, array in self.outputs.items()}


def indices(count: int, size: int = 4) -> Iterator[Batch]:
    """Batches that feed the images' indices; the last one is padded with its last image."""
    for start in range(0, count, size):
        real = min(size, count - start)
        yield Batch(start, real, {"index": np.minimum(np.arange(start, start + size), count - 1)})


def compared(
    old: Mapping[str, np.ndarray],
    new: Mapping[str, np.ndarray] | FakeEngine,
    *,
    truth: Sequence[int] | None = None,
    scores: str | None = "y",
    classes: Sequence[str] = ("a", "b", "c"),
    size: int = 4,
    case: Case = CASE,
    engine_name: str = "fp16",
    advance: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """What `stream` makes of these outputs (N, ...) of reference and engine."""
    count = len(next(iter(old.values())))
    return stream(
        case, engine_name=engine_name, classes=tuple(classes) if scores else (), scores=scores,
        truth=np.full(count, -1) if truth is None else np.asarray(truth), batches=indices(count, size),
        reference=FakeReference(**old), engine=new if isinstance(new, FakeEngine) else FakeEngine(**new),
        advance=advance,
    )  # fmt: skip


def scored(answers: Sequence[int], classes: int = 3) -> np.ndarray:
    """Scores (N, C) that answer so, NaN for -1."""
    answers = np.asarray(answers)
    scores = np.eye(classes, dtype=np.float32)[answers] * 4
    scores[answers < 0] = NAN
    return scores


def record(**changed: Any) -> dict[str, Any]:
    """Facts as a session records them, some *changed*."""
    backend = BackendInfo("onnxruntime-cpu", "1.2.3", "a processor", "the only one here")
    facts = {
        "precision": "fp16",
        "kind": "precision",
        "numerics": "emulated",
        "cached": False,
        "lowered": {"made_by": "trtcheck", "digest": "sha256:lowered", "calibration_digest": None},
        "facts": {"nodes": 5, "types": {"FLOAT16": 5}},
        "notes": [],
        "environment": environment.fingerprint(backend),
        "reference": {
            "provider": "onnxruntime-cpu",
            "version": "1.2.3",
            "device": "a processor",
            "reason": "the only one here",
        },
        "model": {
            "path": "model.onnx",
            "digest": "sha256:model",
            "inputs": ["x: float32[?]"],
            "outputs": ["y"],
        },
        "data": {"name": "eval.npz", "digest": "sha256:data", "labels_digest": "sha256:labels"},
        "calibration": None,
        "checks": [check.value for check in Check],
    }
    return {**facts, **changed}


def judged(
    truth: Sequence[int],
    reference: Sequence[int],
    candidate: Sequence[int],
    classes: Sequence[str] = ("a", "b", "c"),
    *,
    overflow: str | None = None,
    model: str = "cats",
    engine: str = "fp16",
    **changed: Any,
) -> Evaluation:
    """A real evaluation of engines that answer so."""
    count = len(classes)
    evaluation = compared(
        {"y": scored(reference, count)}, {"y": scored(candidate, count)}, truth=truth, classes=classes,
        size=256, case=replace(CASE, name=model), engine_name=engine,
    )  # fmt: skip
    return replace(evaluation, overflow=overflow, record=record(**changed))


RNG = np.random.default_rng(5)
TRUTH = np.arange(11) % 3
OLD, NEW = RNG.standard_normal((2, 11, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 4, 11, 64])
def test_the_batch_size_changes_nothing_and_padding_never_counts(size):
    found = compared({"y": OLD}, {"y": NEW}, truth=TRUTH, size=size)
    whole = compared({"y": OLD}, {"y": NEW}, truth=TRUTH, size=11)
    assert found.images == found.scores.images == found.flips.images == 11
    assert found.outputs[0].elements == 33
    assert found.labels.candidate.tolist() == NEW.argmax(axis=1).tolist()
    assert found.labels.reference.tolist() == OLD.argmax(axis=1).tolist()
    assert found.flips == whole.flips
    assert found.outputs[0].max_abs == pytest.approx(np.abs(OLD - NEW).max())
    assert found.scores.kl_mean == pytest.approx(whole.scores.kl_mean)
    assert found.labels.candidate_top_k.tolist() == whole.labels.candidate_top_k.tolist()
    before, after = found.confusion()
    assert (before.matrix.sum(), after.accuracy) == (11, pytest.approx(np.mean(NEW.argmax(axis=1) == TRUTH)))


def test_progress_counts_images_once():
    seen: list[int] = []
    compared({"y": OLD}, {"y": NEW}, advance=seen.append)
    assert seen == [4, 4, 3]


def test_a_data_set_that_was_not_read_to_its_end_is_an_error():
    with pytest.raises(EngineError, match="4 of 11 images"):
        stream(
            CASE, engine_name="fp16", classes=("a", "b", "c"), scores="y", truth=TRUTH,
            batches=iter([next(indices(11))]), reference=FakeReference(y=OLD), engine=FakeEngine(y=NEW),
            advance=lambda count: None,
        )  # fmt: skip


def test_a_missing_output():
    found = compared({"y": OLD, "z": OLD}, {"y": NEW})
    assert tuple(found.problems.values()) == ("output 'z' is missing; the engine gives: y",)
    assert [drift.name for drift in found.outputs] == ["y"]
    assert found.labels is not None


def test_missing_scores_leave_nothing_to_judge():
    found = compared({"y": OLD}, {}, truth=TRUTH)
    assert tuple(found.problems.values()) == ("output 'y' is missing; the engine gives: none",)
    assert found.labels is found.scores is None
    with pytest.raises(CaseError, match=r"cats\[fp16\] gives no class scores(.|\n)*output 'y' is missing"):
        found.judged_labels()
    with pytest.raises(CaseError):
        found.confusion()


def test_an_extra_output():
    found = compared({"y": OLD}, {"y": NEW, "z": NEW})
    assert tuple(found.problems.values()) == ("output 'z' is extra; the reference gives: y",)


@pytest.mark.parametrize(
    ("new", "shape"),
    [
        (NEW[:, :2], (4, 2)),
        (NEW[:, :, None], (4, 3, 1)),
        (NEW[:, 0], (4,)),
    ],
)
def test_a_wrong_shape_is_told_once(new, shape):
    found = compared({"z": OLD, "y": OLD}, {"z": new, "y": NEW})
    assert tuple(found.problems.values()) == (f"output 'z' has shape {shape} where the reference has (4, 3)",)
    assert [drift.name for drift in found.outputs] == ["y"]


class FakeOfAnotherBatch(FakeEngine):
    """Gives another number of rows than it was fed."""

    def __init__(self, rows: Callable[[np.ndarray], np.ndarray], **outputs: np.ndarray) -> None:
        super().__init__(**outputs)
        self.rows = rows

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: self.rows(value) for name, value in super().infer(feeds).items()}


@pytest.mark.parametrize(
    ("rows", "shape"),
    [
        (lambda values: np.concatenate([values, values]), (8, 3)),  # cut to the batch it would look right
        (lambda values: values[:1], (1, 3)),
        (lambda values: values[0, 0], ()),
        (lambda values: values[:0], (0, 3)),
    ],
)
def test_a_wrong_number_of_rows_is_a_wrong_shape(rows, shape):
    found = compared({"y": OLD}, FakeOfAnotherBatch(rows, y=NEW), truth=TRUTH)
    assert tuple(found.problems.values()) == (f"output 'y' has shape {shape} where the reference has (4, 3)",)
    assert found.labels is None


def test_a_scalar_is_no_row_an_image():
    found = compared(
        {"y": OLD, "z": OLD[:, 0]}, FakeOfAnotherBatch(lambda values: values[0], y=NEW, z=NEW[:, 0])
    )
    assert list(found.problems.values())[-1] == "output 'z' has shape () where the reference has (4,)"


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("float32", "float16", False), ("float32", "float64", False), ("int64", "int32", False),
        ("float32", "int64", True), ("int64", "float32", True), ("bool", "int8", True),
        ("float32", "bool", True),
    ],
)  # fmt: skip
def test_types_of_another_kind_are_a_problem_and_of_another_width_are_not(old, new, wrong):
    found = compared({"z": OLD.astype(old)}, {"z": NEW.astype(new)}, scores=None)
    expected = (f"output 'z' has type {new} where the reference has {old}",) if wrong else ()
    assert tuple(found.problems.values()) == expected


def test_a_shape_that_is_wrong_only_later():
    class FakeLate(FakeEngine):
        def infer(self, feeds):
            found = super().infer(feeds)
            return found if feeds["index"][0] < 8 else {"y": found["y"][:, :1]}

    found = compared({"y": OLD}, FakeLate(y=NEW), truth=TRUTH)
    assert tuple(found.problems.values()) == ("output 'y' has shape (3, 1) where the reference has (3, 3)",)
    assert found.labels is None


def test_nan_scores_are_wrong_answers_and_everything_else_is_still_counted():
    new = OLD.copy()
    new[[2, 7]] = NAN
    truth = OLD.argmax(axis=1)
    found = compared({"y": OLD}, {"y": new}, truth=truth)
    assert tuple(found.problems.values()) == ()
    assert (found.nonfinite, found.outputs[0].first_bad) == (6, 2)
    assert found.labels.candidate[[2, 7]].tolist() == [-1, -1]
    before, after = found.confusion()
    assert (before.accuracy, after.accuracy) == (1.0, 9 / 11)
    assert (found.flips.total, found.flips.broken) == (2, 2)
    assert not found.labels.candidate_top_k[[2, 7]].any()


def test_images_without_labels_are_compared_and_not_counted():
    truth = np.where(np.arange(11) < 6, TRUTH, -1)
    found = compared({"y": OLD}, {"y": NEW}, truth=truth)
    assert (found.images, int(found.labels.counted.sum())) == (11, 6)
    assert found.confusion()[1].matrix.sum() == 6
    assert not found.labels.reference_top_k[6:].any()


def test_without_labels_there_is_nothing_to_judge():
    found = compared({"y": OLD}, {"y": NEW})
    assert found.scores.images == 11
    with pytest.raises(CaseError, match="no image of cats has a label"):
        found.confusion()


def test_a_reference_that_answers_nothing_is_no_measure():
    # Wrong before and wrong after would otherwise read "accuracy .000 -> .000", a pass.
    found = compared({"y": OLD * NAN}, {"y": NEW}, truth=TRUTH)
    with pytest.raises(CaseError, match="the reference of cats answers no image"):
        found.judged_labels()
    some = OLD.copy()
    some[1:] = NAN
    assert compared({"y": some}, {"y": NEW}, truth=TRUTH).confusion()[0].matrix[:, -1].sum() == 10


def test_outputs_alone():
    found = compared(
        {"boxes": OLD, "names": OLD.astype(str).astype(object)},
        {"boxes": NEW, "names": NEW.astype(str).astype(object)},
        scores=None,
    )
    assert (found.labels, found.scores, found.classes) == (None, None, ())
    assert [drift.name for drift in found.outputs] == ["boxes"]


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((11, 3), True),
        ((11, 3, 1, 1), True),
        ((11, 1, 3), True),
        ((11, 4), False),
        ((11,), False),
        ((11, 3, 2), False),
    ],
)
def test_scores_of_other_shapes(shape, fits):
    values = RNG.standard_normal(shape).astype(np.float32)
    if fits:
        assert compared({"y": values}, {"y": values}, truth=TRUTH).labels is not None
        return
    with pytest.raises(
        CaseError, match=r"output 'y' does not fit the classes(.|\n)*shape \(N, 3\) for 3 classes"
    ):
        compared({"y": values}, {"y": values}, truth=TRUTH)


@pytest.mark.parametrize("dtype", ["U3", "S3", object, bool])
def test_scores_that_are_no_numbers(dtype):
    values = OLD.astype(str).astype(dtype) if dtype is not bool else OLD > 0
    with pytest.raises(CaseError, match="output 'y' holds no class scores"):
        compared({"y": values}, {"y": values}, truth=TRUTH)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float16", "float64"])
def test_scores_of_any_numeric_type(dtype):
    values = np.rint(OLD * 5 + 50).astype(dtype)
    found = compared({"y": values}, {"y": values}, truth=TRUTH)
    assert found.labels.candidate.tolist() == values.argmax(axis=1).tolist()
    assert found.scores.top1_agreement == 1.0


def test_the_reference_alone():
    def alone(**changed):
        arguments = {
            "classes": ("a", "b", "c"), "scores": "y", "truth": TRUTH, "batches": indices(11),
            "reference": FakeReference(y=OLD), "advance": lambda count: None,
        }  # fmt: skip
        return stream_reference(CASE, **{**arguments, **changed})

    found = alone()
    assert found.predicted.tolist() == OLD.argmax(axis=1).tolist()
    assert found.confusion.accuracy == pytest.approx(np.mean(OLD.argmax(axis=1) == TRUTH))
    with pytest.raises(CaseError, match="gives no class scores"):
        alone(scores=None)


def outputs(**shapes: Any) -> Signature:
    tensors = []
    for name, shape in shapes.items():
        dtype = "int64" if name.startswith("int") else "O" if name.startswith("text") else "float32"
        tensors.append(Tensor(name, np.dtype(dtype), shape))
    return Signature((), tuple(tensors))


@pytest.mark.parametrize(
    ("shapes", "classes", "expected"),
    [
        ({"y": (None, 10)}, 10, "y"),
        ({"y": (None, 10)}, None, "y"),
        ({"y": (None, None)}, 10, "y"),
        ({"y": None}, 10, "y"),
        ({"y": (1, 10, 1, 1)}, 10, "y"),
        ({"y": (None, 10), "features": (None, 512)}, 10, "y"),
        ({"int_label": (None,), "y": (None, 10)}, 10, "y"),
        ({"text_label": (None, 10), "y": (None, 10)}, 10, "y"),
        ({"y": (None, 10), "map": (None, 10, 7, 7)}, 10, "y"),
        ({"y": (None, 10), "one": (None, 1)}, None, "y"),
    ],
)
def test_the_scores_are_the_output_that_fits(shapes, classes, expected):
    assert scores_output(outputs(**shapes), CASE, classes) == expected


@pytest.mark.parametrize(
    ("shapes", "classes", "message"),
    [
        ({"y": (None, 7)}, 10, "no output of the model can hold the class scores"),
        ({"y": (None,)}, None, "no output of the model can hold the class scores"),
        ({"int_y": (None, 10)}, 10, "no output of the model can hold the class scores"),
        ({"y": (None, 10), "aux": (None, 10)}, 10, "several outputs could hold the class scores"),
        ({"y": (None, 10), "features": (None, 512)}, None, "several outputs could hold the class scores"),
    ],
)
def test_scores_that_cannot_be_told(shapes, classes, message):
    with pytest.raises(CaseError, match=message) as caught:
        scores_output(outputs(**shapes), CASE, classes)
    assert all(str(shape[-1]) in str(caught.value) for shape in shapes.values() if shape[-1])
    assert "model.onnx" in str(caught.value).splitlines()[0]


def test_a_named_output_decides():
    two = outputs(y=(None, 10), aux=(None, 10))
    assert scores_output(two, replace(CASE, output="aux"), 10) == "aux"
    with pytest.raises(CaseError, match=r"output = 'z' is not an output(.|\n)*one of: y, aux"):
        scores_output(two, replace(CASE, output="z"), 10)

"""An evaluation taken apart, shared between processes and put together again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from test_evaluation import compared, judged, record

from trtcheck.evaluation import Evaluation
from trtcheck.evaluation_record import from_parts, to_parts
from trtcheck.samples import Sample
from trtcheck.shared import SharedResults

ARRAYS = ("truth", "reference", "candidate", "reference_top_k", "candidate_top_k")


def through_files(evaluation: Evaluation, folder) -> Evaluation:
    return from_parts(*SharedResults(folder).get_or_make("evaluation", lambda: to_parts(evaluation)))


def same(found: Evaluation, expected: Evaluation) -> None:
    # Texts, since NaN is unequal to itself and arrays have no single truth.
    assert repr(replace(found, labels=None)) == repr(replace(expected, labels=None))
    if expected.labels is None:
        assert found.labels is None
        return
    for name in ARRAYS:
        array = getattr(expected.labels, name)
        assert getattr(found.labels, name).dtype == array.dtype
        np.testing.assert_array_equal(getattr(found.labels, name), array)


def test_nothing_is_lost_on_the_way(tmp_path):
    evaluation = judged([0, 1, 2, -1, 0], [0, 1, 2, 0, -1], [0, -1, 1, 2, -1], overflow="Mul_3 reaches 1.9e5")
    assert evaluation.nonfinite
    assert np.isnan([flip.confidence_after for flip in evaluation.flips.worst]).any()
    same(through_files(evaluation, tmp_path), evaluation)


def test_infinite_figures_and_problems(tmp_path):
    old = np.zeros((3, 2), np.float32)
    new = np.array([[np.inf, 1], [-np.inf, np.nan], [1, 1]], np.float32)
    evaluation = replace(
        compared({"y": old, "z": old}, {"y": new, "more": new}, classes=["a", "b"]), record=record()
    )
    assert len(evaluation.problems) == 2
    assert evaluation.outputs[0].relative_l2 == np.inf
    same(through_files(evaluation, tmp_path), evaluation)


def test_without_scores(tmp_path):
    old = np.zeros((3, 2), np.float32)
    evaluation = replace(compared({"y": old}, {"y": old}, scores=None), record=record())
    assert evaluation.scores is None
    same(through_files(evaluation, tmp_path), evaluation)


def test_the_record_is_plain_json():
    made, arrays = to_parts(judged([0, 1, 2], [0, 1, 2], [0, 1, 1]))
    plain = json.loads(json.dumps(made))
    [flip], [told] = made["flips"].pop("worst"), plain["flips"].pop("worst")
    [drift] = made["outputs"]
    assert plain == {**made, "outputs": [{**drift, "errors": [list(pair) for pair in drift["errors"]]}]}
    best = {side: [list(pair) for pair in flip[side]] for side in ("top_before", "top_after")}
    assert told == {**flip, **best}
    assert set(arrays) == set(ARRAYS)
    assert not any(array.dtype.hasobject for array in arrays.values())


def test_what_is_shown_of_an_image_comes_along(tmp_path):
    shown = (Sample(0, "a/b.png", png=b"\x89PNG\x00"), Sample(2, None, row="x (3): 1, 2, 3"))
    evaluation = replace(judged([0, 1, 2], [0, 1, 2], [0, 1, 1]), samples=shown)
    back = through_files(evaluation, tmp_path)
    assert back.samples == shown
    assert back.flips == evaluation.flips
    assert len(back.flips.worst[0].top_after) == 3

"""What the checks say: verdict, numbers and names, against the reference and the approved baseline."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_evaluation import compared, judged, record

from trtcheck import checks, engine_check, judge, outcomes
from trtcheck.baselines import schema, store
from trtcheck.case import ALL_CHECKS, Check, ClassGates, Gates, Numerics, Verdict
from trtcheck.errors import BaselineError, CaseError
from trtcheck.evaluation import Evaluation

PASS, FAIL, INCONCLUSIVE, ERROR = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ERROR
GATES = Gates()
TRUTH = np.repeat([0, 1, 2], 200)


def wrong(*counts: int, base: Sequence[int] = TRUTH) -> np.ndarray:
    """The answers *base* with so many of each class taken for the next one."""
    answers = np.array(base)
    for k, count in enumerate(counts):
        answers[np.flatnonzero(k == TRUTH)[:count]] = (k + 1) % 3
    return answers


def evaluated(candidate: Sequence[int], reference: Sequence[int] = TRUTH, **more) -> Evaluation:
    return judged(TRUTH, reference, candidate, ("Shirt", "Coat", "Bag"), **more)


def approve(root: Path, evaluation: Evaluation):
    """Writes the baseline and returns how a later evaluation finds it."""
    store.write(root, evaluation)
    return lambda now: partial(store.find, root, now)


# outputs


def compare(old, new, **more) -> Evaluation:
    old, new = np.asarray(old, np.float32), np.asarray(new, np.float32)
    return replace(compared({"y": old}, {"y": new}, scores=None, **more), record=record())


def test_finite_outputs_pass_with_their_error():
    outcome = checks.outputs(compare([[1, 2]], [[1, 2.5]]), GATES)
    assert outcome.verdict is PASS
    assert "largest error 0.5 (output 'y', relative L2 0.22" in outcome.message
    [row] = outcome.measured["outputs"]
    assert (row["max_abs"], row["max_rel"], row["different"], row["elements"]) == (0.5, 0.25, 1, 2)
    assert outcome.measured["agreement"] is None


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ([[1, 2], [math.nan, 2]], "output 'y' has 1 NaN of 4 values, first in image 1"),
        ([[math.inf, 2], [-math.inf, 2]], "output 'y' has 2 infinite of 4 values, first in image 0"),
        ([[1, math.inf], [math.nan, 2]], "output 'y' has 1 NaN and 1 infinite of 4 values, first in image 0"),
        (np.full((2, 2), math.nan), "output 'y' has 4 NaN of 4 values, first in image 0"),
    ],
)
def test_nan_and_infinity_fail(new, message):
    outcome = checks.outputs(compare([[1, 2], [3, 4]], new), GATES)
    assert (outcome.verdict, outcome.message) == (FAIL, message)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reference_without_a_finite_value_is_no_measure(value):
    # Both sides alike: the error figures are all 0, which would read as perfect.
    outcome = checks.outputs(compare(np.full((2, 2), value), np.full((2, 2), value)), GATES)
    assert outcome.verdict is FAIL
    assert "no finite value" in outcome.message


def test_nothing_compared_is_no_pass():
    outcome = checks.outputs(compare(np.zeros((2, 0)), np.zeros((2, 0))), GATES)
    assert (outcome.verdict, outcome.message) == (FAIL, "no output was compared")
    nothing = replace(compare([[1]], [[1]]), outputs=())
    assert checks.outputs(nothing, GATES).message == "no output was compared"


def test_missing_extra_and_misshapen_outputs_fail_in_words():
    old = {"y": np.ones((3, 2)), "z": np.ones((3, 2)), "k": np.ones((3, 1), int)}
    new = {"y": np.ones((3, 3)), "k": np.ones((3, 1)), "more": np.ones((3, 1))}
    outcome = checks.outputs(replace(compared(old, new, scores=None), record=record()), GATES)
    assert outcome.verdict is FAIL
    assert sorted(outcome.message.split("; ")) == sorted([
        "output 'z' is missing", "the engine gives: k, more, y", "output 'more' is extra",
        "the reference gives: k, y, z", "output 'y' has shape (3, 3) where the reference has (3, 2)",
        "output 'k' has type float64 where the reference has int64",
    ])  # fmt: skip
    assert len(outcome.measured["problems"]) == 4


OLD = [[3.0, 1.0], [1.0, 3.0], [3.0, 1.0], [3.0, 1.0]]
NEW = [[3.0, 1.0], [1.0, 3.5], [3.0, 1.0], [1.0, 3.0]]


@pytest.mark.parametrize(
    ("gate", "passing", "failing", "message"),
    [
        ("max_abs", 2.0, 1.99, "max_abs of output 'y' is 2, limit 1.99"),
        ("max_rel", 2.0, 1.9, "max_rel of output 'y' is 2, limit 1.9"),
        ("relative_l2", 0.46, 0.45, "relative_l2 of output 'y' is 0.4541, limit 0.45"),
        ("cosine", 0.9, 0.902, "cosine of output 'y' is 0.901588, limit 0.902"),
        ("kl", 0.39, 0.38, "mean KL divergence is 0.3837 nats, limit 0.38"),
        ("top1_agreement", 0.75, 0.76, "same answer on .750 of the images, limit 0.76"),
    ],
)
def test_each_limit_gates_its_figure(gate, passing, failing, message):
    evaluation = compared({"y": np.array(OLD)}, {"y": np.array(NEW)}, classes=["a", "b"])
    evaluation = replace(evaluation, record=record())
    assert checks.outputs(evaluation, GATES).verdict is PASS
    assert checks.outputs(evaluation, replace(GATES, **{gate: passing})).verdict is PASS
    outcome = checks.outputs(evaluation, replace(GATES, **{gate: failing}))
    assert outcome.verdict is FAIL
    assert message in outcome.message
    assert outcome.measured["limits"][gate] == failing


@pytest.mark.parametrize("gate", ["kl", "top1_agreement", "churn"])
def test_limits_on_scores_fail_where_there_are_none(gate):
    outcome = checks.outputs(compare([[1.0]], [[1.0]]), replace(GATES, **{gate: 0.0}))
    assert (outcome.verdict, outcome.message) == (FAIL, f"{gate} cannot be judged: there are no class scores")


@pytest.mark.parametrize("gate", ["relative_l2", "cosine", "max_abs"])
def test_undefined_figures_never_meet_a_limit(gate):
    evaluation = compare([[1, 2]], [[math.nan, math.nan]])
    outcome = checks.outputs(evaluation, replace(GATES, **{gate: 0.5}))
    assert outcome.verdict is FAIL
    assert outcome.measured["outputs"][0]["cosine"] is None


# accuracy, recall, precision


def test_recall_names_the_class_its_numbers_and_its_evidence():
    outcome = checks.recall(evaluated(wrong(0, 0, 30)), GATES)
    assert outcome.verdict is FAIL
    assert outcome.message == (
        "recall of 'Bag' fell from 1.000 to .850 "
        "(support 200: 30 newly wrong, 0 newly right, p = 1.9e-09, limit 1.0 points); recall of all classes "
        "together fell by 5.0 points (600 images: 30 newly wrong, 0 newly right, p < 1e-9, limit 0.2 points)"
    )
    pooled = outcome.measured["pooled"]
    assert (pooled["verdict"], pooled["b"], pooled["images"], pooled["drop"]) == ("fail", 30, 600, 0.05)
    row = outcome.measured["classes"][2]
    assert (row["name"], row["support"], row["before"], row["after"]) == ("Bag", 200, 1.0, 0.85)
    assert (row["b"], row["c"], row["verdict"], row["drop"]) == (30, 0, "fail", pytest.approx(0.15))
    assert row["p"] == pytest.approx(2.0**-30)
    assert (outcome.model, outcome.engine, outcome.check, outcome.numerics) == (
        "cats", "fp16", Check.RECALL, Numerics.EMULATED,
    )  # fmt: skip


def test_precision_names_the_class_that_gained_false_positives():
    outcome = checks.precision(evaluated(wrong(0, 0, 30)), GATES)
    assert outcome.verdict is FAIL
    assert outcome.message == (
        "precision of 'Shirt' fell from 1.000 to .870 "
        "(support 200: 30 new false positives, 0 gone, p = 1.9e-09, limit 1.0 points); precision of all "
        "classes together fell by 5.0 points (600 images: 30 newly given to a wrong class, 0 no more, "
        "p < 1e-9, limit 0.2 points)"
    )


def test_accuracy_says_what_broke_and_what_was_mended():
    outcome = checks.accuracy(evaluated(wrong(30), reference=wrong(0, 4)), GATES)
    assert outcome.verdict is FAIL
    assert outcome.message == (
        "accuracy .993 -> .950 of 600 images: fell by 4.3 points "
        f"(30 newly wrong, 4 newly right, p = {judge.mcnemar_p(30, 4):.1e}, limit 1.0 points)"
    )
    assert (outcome.measured["b"], outcome.measured["c"], outcome.measured["images"]) == (30, 4, 600)
    assert "verdict" not in outcome.measured  # the item's own verdict, top-k and baseline included, counts


def test_a_pass_says_what_it_could_have_missed():
    same = evaluated(TRUTH)
    assert checks.accuracy(same, GATES).message.endswith("; a drop under 3.7 points could have been missed")
    detectable = checks.recall(same, GATES).measured["classes"][0]["detectable"]
    assert checks.recall(same, GATES).message == (
        "recall holds in 3 classes: no class fell; "
        f"a drop under {detectable * 100:.1f} points could have been missed in any class, "
        "under 4.0 points in all together"
    )
    precise = checks.precision(same, GATES)
    detectable = precise.measured["classes"][0]["detectable"]
    assert f"a drop under {detectable * 100:.1f} points could have been missed in any" in precise.message
    keyed = checks.recall(same, replace(GATES, key_classes=("Ba*",))).message
    assert "could have been missed in 'Shirt', under 9.3 points in key class 'Bag', under 4.0" in keyed


def test_inconclusive_classes_and_empty_ones_are_named():
    truth = np.concatenate([np.zeros(500, int), np.ones(8, int)])
    evaluation = judged(truth, truth, truth, ("Shirt", "Coat", "Bag"))
    outcome = checks.recall(evaluation, GATES)
    assert outcome.verdict is PASS
    assert "recall holds in 1 class of 3: none of them fell" in outcome.message
    assert (
        "8 images of class 'Coat': no drop is sure to be seen, about 100 images would show" in outcome.message
    )
    assert "no images of 'Bag'" in outcome.message
    assert outcome.measured["classes"][2]["before"] is None
    few = judged([0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 0], ("Shirt", "Coat"))
    outcome = checks.recall(few, GATES)
    assert outcome.verdict is INCONCLUSIVE
    assert (
        "'Coat' fell by 50.0 points of 2 images, which can be noise: no drop is sure to be seen"
        in outcome.message
    )
    outcome = checks.accuracy(few, GATES)
    assert outcome.verdict is INCONCLUSIVE
    assert outcome.message.startswith(
        "accuracy 1.000 -> .750 of 4 images: fell by 25.0 points, which can be noise (1 newly wrong"
    )
    assert "no drop is sure to be seen, about 50 images would show 23.1 points" in outcome.message


def test_margins_of_single_classes():
    gates = replace(GATES, recall_drop=0.5, classes={"Bag": ClassGates(recall_drop=0.0)})
    outcome = checks.recall(evaluated(wrong(60, 0, 30)), gates)
    assert "recall of 'Bag' fell" in outcome.message
    assert "Shirt" not in outcome.message
    assert [row["margin"] for row in outcome.measured["classes"]] == [0.5, 0.5, 0.0]


def test_limits_by_pattern_and_name():
    gates = replace(
        GATES, recall_drop=0.5, pooled_drop=1.0,
        classes={"[BC]*": ClassGates(recall_drop=0.2), "Bag": ClassGates(recall_floor=0.8)},
    )  # fmt: skip
    rows = checks.recall(evaluated(wrong(0, 60, 50)), gates).measured["classes"]
    assert [(row["name"], row["margin"], row["floor"]) for row in rows] == [
        ("Shirt", 0.5, None), ("Coat", 0.2, None), ("Bag", 0.2, 0.8),
    ]  # fmt: skip
    assert [row["verdict"] for row in rows] == ["pass", "fail", "fail"]


def test_a_floor_and_a_target_are_told_with_their_numbers():
    same = wrong(0, 0, 30)
    gates = replace(GATES, recall_floor=0.9, accuracy_floor=0.96)
    outcome = checks.recall(evaluated(same, reference=same), gates)
    assert outcome.message == (
        "recall of 'Bag' is .850, below the floor of .9 "
        "(before: .850, support 200: 0 newly wrong, 0 newly right)"
    )
    outcome = checks.accuracy(evaluated(same, reference=same), gates)
    assert outcome.message == "accuracy .950 -> .950 of 600 images: below the floor of .96"
    gates = replace(GATES, accuracy_target=0.99, accuracy_drop=0.5)
    outcome = checks.accuracy(evaluated(wrong(0, 0, 30)), gates)
    assert outcome.verdict is FAIL
    assert outcome.message == (
        "accuracy 1.000 -> .950 of 600 images: below 99 % of the reference's, which is .990"
    )


def test_floors_are_not_held_against_the_approved_results_again(tmp_path):
    now = evaluated(wrong(0, 0, 30), reference=wrong(0, 0, 30))
    outcome = checks.recall(now, replace(GATES, recall_floor=0.9), approve(tmp_path, now)(now))
    assert outcome.verdict is FAIL
    assert outcome.measured["baseline"]["verdict"] == "pass"


def test_key_classes_hold_against_the_approved_results_too(tmp_path):
    gates = replace(GATES, key_classes=("Bag",))
    now = evaluated(wrong(0, 0, 40), reference=wrong(0, 0, 40))
    outcome = checks.recall(now, gates, approve(tmp_path, evaluated(TRUTH))(now))
    assert "against the approved baseline: recall of key class 'Bag' fell" in outcome.message
    assert outcome.measured["baseline"]["paired"] is True


@pytest.mark.parametrize(
    ("changed", "limit", "test", "verdict"),
    [
        (6, None, "paired", PASS),
        (6, 0.01, "paired", PASS),  # 1 % of 600
        (7, 0.01, "paired", INCONCLUSIVE),
        (30, 0.01, "paired", FAIL),
        (7, 0.01, "threshold", FAIL),
        (6, 0.01, "threshold", PASS),
        (6, 0.01, "proven", FAIL),
        (0, 0.01, "proven", PASS),
    ],
)
def test_churn_is_gated_by_its_exact_bounds(changed, limit, test, verdict):
    old = np.eye(3)[TRUTH]
    new = np.eye(3)[wrong(changed)]
    evaluation = replace(
        compared({"y": old}, {"y": new}, truth=TRUTH, classes=["a", "b", "c"]), record=record()
    )
    outcome = checks.outputs(evaluation, replace(GATES, churn=limit, test=test))
    assert outcome.verdict is verdict
    churn = outcome.measured["churn"]
    assert churn["rate"] == changed / 600
    assert churn["low"] <= churn["rate"] < churn["high"]
    assert churn["confidence"] == 0.99
    if limit is not None:
        assert "of the answers changed (limit 1 %, at 99 % confidence between" in outcome.message
    if verdict is INCONCLUSIVE:
        assert "too few images to tell" in outcome.message


def test_many_failed_classes_fit_into_a_message():
    truth = np.repeat(np.arange(200), 60)
    names = [f"class {k}" for k in range(200)]
    outcome = checks.recall(judged(truth, truth, (truth + 1) % 200, names), GATES)
    assert outcome.verdict is FAIL
    assert outcome.message.count("fell from 1.000 to .000") == 10
    assert "; also of 'class 10', " in outcome.message
    assert "and 180 more; recall of all classes together fell by 100.0 points" in outcome.message
    assert sum(row["verdict"] == "fail" for row in outcome.measured["classes"]) == 200


def test_what_overflows_is_told_where_a_check_fails():
    overflow = "ReduceSum_12 reaches 1.9e5, FP16 ends at 65504: keep it in FP32"
    nan = np.where(np.arange(600) < 40, -1, TRUTH)
    for check in (Check.OUTPUTS, Check.ACCURACY, Check.RECALL):
        outcome = checks.CHECKS[check](evaluated(nan, overflow=overflow), GATES, None)
        assert outcome.verdict is FAIL
        assert outcome.message.endswith(overflow)
    assert overflow not in checks.recall(evaluated(TRUTH, overflow=overflow), GATES).message


def hits(old: int, new: int) -> Evaluation:
    """Right in every answer; so many labels among the two best."""
    evaluation = evaluated(TRUTH)
    labels = replace(
        evaluation.labels, reference_top_k=np.arange(600) < old, candidate_top_k=np.arange(600) < new
    )
    return replace(evaluation, labels=labels)


def test_top_k_is_told_and_gated_only_where_asked():
    outcome = checks.accuracy(hits(600, 560), GATES)
    assert outcome.verdict is PASS
    assert (outcome.measured["top_k"]["k"], outcome.measured["top_k"]["gated"]) == (2, False)
    assert (outcome.measured["top_k"]["before"], outcome.measured["top_k"]["b"]) == (1.0, 40)
    assert "top-2" not in outcome.message
    outcome = checks.accuracy(hits(600, 560), replace(GATES, top_k_accuracy_drop=0.01))
    assert outcome.verdict is FAIL
    assert outcome.message.startswith("accuracy 1.000 -> 1.000 of 600 images")
    assert "top-2 accuracy 1.000 -> .933 of 600 images: fell by 6.7 points" in outcome.message


def test_top_k_counts_labelled_images_only():
    truth = np.where(np.arange(600) < 300, TRUTH, -1)
    evaluation = judged(truth, TRUTH, TRUTH)
    assert checks.accuracy(evaluation, GATES).measured["top_k"]["images"] == 300


@pytest.mark.parametrize("check", [Check.ACCURACY, Check.RECALL, Check.PRECISION])
def test_nothing_to_judge_is_an_error_and_not_a_pass(check):
    unlabelled = judged([-1, -1], [0, 1], [0, 1])
    with pytest.raises(CaseError, match="no image of cats has a label"):
        checks.CHECKS[check](unlabelled, GATES, None)
    with pytest.raises(CaseError, match="gives no class scores"):
        checks.CHECKS[check](compare([[1.0]], [[1.0]]), GATES, None)


def test_the_checks_that_judge_an_evaluation_are_known_by_name():
    others = {Check.BUILD, Check.CALIBRATION, Check.BATCH_INVARIANCE, Check.LATENCY}
    assert set(checks.CHECKS) == set(ALL_CHECKS) - others


# against the approved baseline


JUDGED = pytest.mark.parametrize("check", [Check.ACCURACY, Check.RECALL, Check.PRECISION])


@JUDGED
def test_worse_than_approved_fails_although_equal_to_the_reference(check, tmp_path):
    find = approve(tmp_path, evaluated(TRUTH))
    worse = wrong(0, 0, 40)
    now = evaluated(worse, reference=worse)
    assert checks.CHECKS[check](now, GATES, None).verdict is PASS
    outcome = checks.CHECKS[check](now, GATES, find(now))
    assert outcome.verdict is FAIL
    assert outcome.message.startswith("against the approved baseline: ")
    assert "fell" in outcome.message.partition(";")[0]
    assert outcomes.UNPAIRED not in outcome.notes
    baseline = outcome.measured["baseline"]
    assert baseline["verdict"] == "fail"
    if check is Check.RECALL:
        assert "recall of 'Bag' fell from 1.000 to .800 (support 200: 40 newly wrong" in outcome.message
        assert [row["verdict"] for row in outcome.measured["classes"]] == ["pass"] * 3
        assert [row["b"] for row in baseline["classes"]] == [0, 0, 40]


@JUDGED
def test_as_good_as_approved_passes_and_says_so(check, tmp_path):
    now = evaluated(wrong(3, 3))
    outcome = checks.CHECKS[check](now, GATES, approve(tmp_path, now)(now))
    assert "; against the approved baseline: " in outcome.message
    assert outcome.measured["baseline"]["verdict"] == "pass"
    assert outcome.notes == (engine_check.EMULATED,)


def test_worse_than_the_reference_fails_although_it_was_approved(tmp_path):
    now = evaluated(wrong(0, 0, 30))
    outcome = checks.recall(now, GATES, approve(tmp_path, now)(now))
    assert outcome.verdict is FAIL
    assert outcome.message.startswith("recall of 'Bag' fell")
    assert outcome.measured["baseline"]["verdict"] == "pass"


def test_without_a_baseline_the_verdict_stands_and_the_command_is_noted(tmp_path):
    now = evaluated(TRUTH)
    outcome = checks.recall(now, GATES, partial(store.find, tmp_path, now))
    assert outcome.verdict is PASS
    assert "baseline" not in outcome.measured
    assert "/cats/fp16/onnxruntime-cpu-emulated.json; what makes it" in outcome.notes[-1]
    assert "the same command with --trt-update-baselines" in outcome.notes[-1]


def test_a_changed_model_is_compared_and_noted(tmp_path):
    find = approve(tmp_path, evaluated(TRUTH))
    now = evaluated(TRUTH)
    now.record["model"]["digest"] = "sha256:another"
    outcome = checks.recall(now, GATES, find(now))
    assert (outcome.verdict, outcome.measured["baseline"]["verdict"]) == (PASS, "pass")
    assert "the model changed since the baseline was approved (model -> another)" in outcome.notes


def test_a_refused_baseline_is_an_error_that_keeps_the_other_verdict(tmp_path):
    find = approve(tmp_path, evaluated(TRUTH))
    now = evaluated(wrong(0, 0, 30))
    now.record["data"]["digest"] = "sha256:other"
    outcome = checks.recall(now, GATES, find(now))
    assert outcome.verdict is ERROR
    assert "the evaluation data changed since the baseline was approved" in outcome.message
    assert (
        "meanwhile, against the reference: fail: recall of 'Bag' fell from 1.000 to .850" in outcome.message
    )
    assert outcome.measured["classes"][2]["verdict"] == "fail"


def edited(tmp_path: Path, evaluation: Evaluation, edit) -> object:
    """A baseline of *evaluation* that somebody edited, as it is found."""
    path, _ = store.write(tmp_path, evaluation)
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))
    return partial(store.find, tmp_path, evaluation)


@JUDGED
def test_edited_counts_are_compared_without_pairs_and_noted(check, tmp_path):
    def edit(document):
        document["classes"]["Bag"].update(tp=100, fn=100)

    now = evaluated(TRUTH)
    outcome = checks.CHECKS[check](now, GATES, edited(tmp_path, now, edit))
    assert outcomes.UNPAIRED in outcome.notes
    assert outcome.verdict is PASS
    assert outcome.measured["baseline"]["verdict"] == "pass"
    if check is Check.RECALL:
        row = outcome.measured["baseline"]["classes"][2]
        assert (row["before"], row["after"], row["c"]) == (0.5, 1.0, 100)
        # Counts alone see less than pairs, and a pass says how much.
        assert all(row["detectable"] > 0.05 for row in outcome.measured["baseline"]["classes"])


@pytest.mark.parametrize("lost", ["predictions", "one label"])
def test_counts_without_fitting_answers_still_find_a_regression(lost, tmp_path):
    def edit(document):
        document["predictions"] = None if lost == "predictions" else schema._pack(wrong(1))

    now = evaluated(wrong(0, 0, 40))
    find = edited(tmp_path, replace(now, labels=evaluated(TRUTH).labels), edit)
    outcome = checks.recall(
        replace(now, labels=evaluated(wrong(0, 0, 40), wrong(0, 0, 40)).labels), GATES, find
    )
    assert outcomes.UNPAIRED in outcome.notes
    assert outcome.verdict is FAIL
    assert "against the approved baseline: recall of 'Bag' fell from 1.000 to .800" in outcome.message


def test_answers_outside_the_classes_are_not_paired(tmp_path):
    now = evaluated(TRUTH)
    for label in (7, -2):
        find = edited(
            tmp_path, now, lambda d, label=label: d.update(predictions=schema._pack(np.full(600, label)))
        )
        outcome = checks.recall(now, GATES, find)
        assert outcomes.UNPAIRED in outcome.notes
        assert outcome.verdict is PASS


def test_impossible_counts_are_refused(tmp_path):
    now = evaluated(TRUTH)
    for edit in ({"tp": 201}, {"fp": 401}):
        outcome = checks.recall(
            now, GATES, edited(tmp_path, now, lambda d, edit=edit: d["classes"]["Bag"].update(edit))
        )
        assert outcome.verdict is ERROR
        assert "counts more images of 'Bag' than there are" in outcome.message


def test_any_refusal_keeps_what_was_measured():
    def refuse():
        raise BaselineError("the baseline is damaged", where="a.json")

    outcome = checks.accuracy(evaluated(TRUTH), GATES, refuse)
    assert outcome.verdict is ERROR
    assert outcome.message.startswith("a.json: the baseline is damaged")
    assert outcome.measured["after"] == 1.0

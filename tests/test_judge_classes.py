"""Verdicts on accuracy and on the recall and precision of classes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trtcheck import judge
from trtcheck.case import Verdict
from trtcheck.judge.classes import precision_fell

PASS, FAIL, INCONCLUSIVE, SKIPPED = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.SKIPPED


def broken(n: int, b: int, c: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and answers of two classes of *n* images: b of class 0 newly wrong, c newly right."""
    truth = np.repeat([0, 1], n)
    reference, candidate = truth.copy(), truth.copy()
    candidate[:b] = 1
    reference[b : b + c] = 1
    return truth, reference, candidate


def rows(result: judge.ClassesVerdict) -> dict[str, judge.ClassVerdict]:
    return {row.name: row for row in result.classes}


def test_one_class_down_to_12_percent_fails_at_an_accuracy_of_98_percent():
    truth = np.concatenate([np.repeat(np.arange(9), 120), np.full(25, 9)])
    candidate = truth.copy()
    candidate[-22:] = 0
    names = [f"class {k}" for k in range(9)] + ["stop sign"]
    result = judge.recall(truth, truth, candidate, classes=names)
    assert result.verdict is FAIL
    [failed] = result.named(FAIL)
    assert (failed.name, failed.support, failed.before, failed.after) == ("stop sign", 25, 1.0, 0.12)
    assert (failed.b, failed.c) == (22, 0)
    assert failed.p == pytest.approx(2.0**-22)
    # No other class could have failed, and half of alpha is the classes'.
    assert failed.p_adjusted == pytest.approx(2 * 2.0**-22)
    assert len(result.named(PASS)) == 9
    whole = judge.accuracy(truth, truth, candidate)
    assert (whole.before, round(whole.after, 3)) == (1.0, 0.98)


def test_an_unchanged_engine_with_an_imperfect_confusion_passes():
    truth = np.repeat([0, 1], [105, 95])
    answers = np.repeat([0, 1, 0, 1], [90, 15, 10, 85])  # TP 90, FN 15, FP 10, TN 85
    for function, figure in ((judge.recall, 0.857), (judge.precision, 0.900)):
        result = function(truth, answers, answers.copy(), classes=["part", "scrap"])
        part = rows(result)["part"]
        assert result.verdict is PASS
        assert (round(part.before, 3), round(part.after, 3), part.drop) == (figure, figure, 0)
        assert (part.b, part.c, part.p) == (0, 0, 1.0)
        assert part.detectable == pytest.approx(0.14, abs=0.02)  # about 100 images, two classes


@pytest.mark.parametrize(
    ("n", "b", "c", "drop", "verdict"),
    [
        (1000, 10, 0, 0.01, FAIL),  # exactly the margin
        (1000, 9, 0, 0.01, PASS),  # significant (p = .004), but below the margin
        (100, 14, 0, 0.15, PASS),  # p = 6e-5: below the margin however significant
        (100, 15, 0, 0.15, FAIL),
        (1000, 300, 291, 0.01, PASS),
        (1000, 40, 30, 0.01, INCONCLUSIVE),  # the margin is reached, p = .14
        (100, 1, 0, 0.01, INCONCLUSIVE),
        (1000, 8, 0, 0.0, FAIL),  # p = .0039: .0078 of the half of alpha that is the classes'
        (1000, 7, 0, 0.0, INCONCLUSIVE),  # p = .0078: .016
        (1000, 20, 20, 0.0, PASS),  # no drop
        (1000, 0, 50, 0.0, PASS),  # a gain
    ],
)  # fmt: skip
def test_size_and_significance_are_both_needed(n, b, c, drop, verdict):
    truth, reference, candidate = broken(n, b, c)
    row = judge.recall(truth, reference, candidate, classes=["a", "b"], drop=drop).classes[0]
    assert (row.b, row.c, row.verdict) == (b, c, verdict)
    assert row.p == pytest.approx(stats.binomtest(b, b + c, 0.5, "greater").pvalue)


@pytest.mark.parametrize(("b", "c", "drop", "verdict"), [
    (20, 0, 0.01, FAIL), (19, 0, 0.01, PASS), (45, 20, 0.01, FAIL), (25, 5, 0.01, FAIL),
    (40, 20, 0.01, FAIL), (60, 40, 0.01, INCONCLUSIVE), (10, 10, 0.0, PASS), (0, 9, 0.0, PASS),
])  # fmt: skip
def test_accuracy_is_judged_on_all_images(b, c, drop, verdict):
    truth, reference, candidate = broken(1000, b, c)
    result = judge.accuracy(truth, reference, candidate, drop=drop)
    assert (result.images, result.b, result.c, result.verdict) == (2000, b, c, verdict)
    assert (result.before, result.after) == ((2000 - c) / 2000, (2000 - b) / 2000)


def test_a_margin_of_one_class_is_its_own():
    truth, reference, candidate = broken(1000, 10)
    strict = judge.recall(truth, reference, candidate, classes=["a", "b"], drop=0.5, class_drops={"a": 0.01})
    assert [row.verdict for row in strict.classes] == [FAIL, PASS]
    assert [row.margin for row in strict.classes] == [0.01, 0.5]
    lenient = judge.recall(
        truth, reference, candidate, classes=["a", "b"], drop=0.0, class_drops={"a": 0.011}, pooled_drop=0.01
    )
    assert lenient.verdict is PASS


def test_a_class_without_images_is_skipped_and_costs_the_others_nothing():
    truth, reference, candidate = broken(1000, 10)
    for function in (judge.recall, judge.precision):
        two = function(truth, reference, candidate, classes=["a", "b"])
        many = function(truth, reference, candidate, classes=["a", "b", *(f"empty {k}" for k in range(500))])
        empty = rows(many)["empty 3"]
        assert (empty.verdict, empty.support, empty.before, empty.after, empty.drop) == (
            SKIPPED,
            0,
            None,
            None,
            None,
        )
        assert (empty.p, empty.p_adjusted, empty.detectable) == (1.0, 1.0, None)
        assert many.classes[:2] == two.classes
        assert many.verdict is two.verdict


def test_no_answer_is_a_wrong_answer():
    truth = np.repeat([0, 1], 100)
    candidate = np.where(np.arange(200) < 20, -1, truth)
    result = judge.recall(truth, truth, candidate, classes=["a", "b"])
    assert result.verdict is FAIL
    assert (result.classes[0].b, result.classes[0].after) == (20, 0.8)
    assert judge.accuracy(truth, truth, candidate).after == 0.9
    nothing = np.full(200, -1)
    assert judge.accuracy(truth, truth, nothing).verdict is FAIL
    assert judge.recall(truth, truth, nothing, classes=["a", "b"]).named(FAIL)[1].after == 0.0
    # But it is nobody's false positive.
    assert [row.b for row in judge.precision(truth, truth, nothing, classes=["a", "b"]).classes] == [0, 0]


def test_an_engine_may_mend_what_the_reference_did_not_answer():
    truth = np.repeat([0, 1], 100)
    result = judge.recall(truth, np.full(200, -1), truth, classes=["a", "b"])
    assert [(row.before, row.after, row.c) for row in result.classes] == [(0.0, 1.0, 100)] * 2
    assert result.verdict is PASS


def test_images_without_a_label_are_left_out():
    truth, reference, candidate = broken(1000, 10)
    more = np.full(5000, -1)
    for function in (judge.recall, judge.precision):
        plain = function(truth, reference, candidate, classes=["a", "b"])
        padded = function(
            np.append(truth, more),
            np.append(reference, more * 0),
            np.append(candidate, more * 0 + 1),
            classes=["a", "b"],
        )
        assert padded == plain
    assert (
        judge.accuracy(
            np.append(truth, more), np.append(reference, more), np.append(candidate, more * 0)
        ).images
        == 2000
    )


def test_few_images_are_inconclusive_and_never_a_silent_pass():
    truth = np.repeat(np.arange(10), 8)
    result = judge.recall(truth, truth, truth, classes=[str(k) for k in range(10)])
    assert result.verdict is INCONCLUSIVE
    assert {row.verdict for row in result.classes} == {INCONCLUSIVE}
    # One class that can see is enough, and the blind ones are named.
    truth = np.append(truth, np.zeros(500, int))
    result = judge.recall(truth, truth, truth, classes=[str(k) for k in range(10)])
    assert result.verdict is PASS
    assert [row.name for row in result.named(PASS)] == ["0"]
    assert judge.accuracy(truth[:5], truth[:5], truth[:5]).verdict is INCONCLUSIVE


def test_nothing_to_judge_is_refused_or_inconclusive():
    nothing = np.full(10, -1)
    assert judge.recall(nothing, nothing, nothing, classes=["a", "b"]).verdict is INCONCLUSIVE
    with pytest.raises(ValueError, match="at least one image"):
        judge.accuracy(nothing, nothing, nothing)
    with pytest.raises(ValueError, match="three equal vectors"):
        judge.recall(np.zeros(3, int), np.zeros(3, int), np.zeros(2, int), classes=["a"])
    with pytest.raises(ValueError, match="labels outside"):
        judge.recall(np.zeros(3, int), np.zeros(3, int), np.full(3, 7), classes=["a"])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_any_integer_type_are_judged_alike(dtype):
    vectors = broken(1000, 30, 5)
    for function in (judge.recall, judge.precision):
        expected = function(*vectors, classes=["a", "b"])
        assert function(*(v.astype(dtype) for v in vectors), classes=["a", "b"]) == expected
        mixed = (vectors[0].astype(dtype), vectors[1].astype("int64"), vectors[2].astype("int8"))
        assert function(*mixed, classes=["a", "b"]) == expected
    assert judge.accuracy(*(v.astype(dtype) for v in vectors)) == judge.accuracy(*vectors)


LABELS = st.lists(st.tuples(*[st.integers(-1, 3)] * 3), min_size=1, max_size=40)


@settings(deadline=None)
@given(LABELS)
def test_discordant_pairs_are_those_of_a_plain_count(images):
    truth, reference, candidate = (np.array(column) for column in zip(*images, strict=True))
    names = ["a", "b", "c", "d"]
    recalled = judge.recall(truth, reference, candidate, classes=names)
    precise = judge.precision(truth, reference, candidate, classes=names)
    for k in range(4):
        own = [(r, n) for t, r, n in images if t == k]
        others = [(r, n) for t, r, n in images if t not in (k, -1)]
        row, other = recalled.classes[k], precise.classes[k]
        assert row.support == other.support == len(own)
        assert row.b == sum(r == k != n for r, n in own)
        assert row.c == sum(n == k != r for r, n in own)
        assert other.b == sum(n == k != r for r, n in others)
        assert other.c == sum(r == k != n for r, n in others)
        for side, pick in (("before", 0), ("after", 1)):
            right = sum(pair[pick] == k for pair in own)
            said = right + sum(pair[pick] == k for pair in others)
            assert getattr(row, side) == (right / len(own) if own else None)
            assert getattr(other, side) == (right / said if said else None)
        if not own:
            assert row.verdict is other.verdict is SKIPPED


def test_new_false_positives_fail_precision_and_not_recall_of_their_class():
    truth = np.repeat([0, 1], [100, 1000])
    candidate = truth.copy()
    candidate[100:150] = 0
    names = ["weld", "crack"]
    precise = judge.precision(truth, truth, candidate, classes=names)
    [failed] = precise.named(FAIL)
    assert (failed.name, failed.b, failed.c, failed.support) == ("weld", 50, 0, 100)
    assert (failed.before, failed.after) == (1.0, pytest.approx(100 / 150))
    assert rows(judge.recall(truth, truth, candidate, classes=names))["weld"].verdict is PASS


@pytest.mark.parametrize(
    ("before", "after", "margin", "fell"),
    [
        ((90, 10), (89, 11), 0.01, True),  # .90 -> .89 is a drop of exactly one point
        ((90, 10), (890, 110), 0.01, True),
        ((90, 10), (8901, 1099), 0.01, False),
        ((90, 10), (90, 10), 0.0, False),
        ((90, 10), (91, 10), 0.0, False),
        ((0, 0), (0, 50), 0.0, False),  # undefined before
        ((90, 10), (0, 0), 0.0, False),  # never predicted any more: recall tells
    ],
)
def test_precision_is_compared_in_rational_numbers(before, after, margin, fell):
    columns = [tuple(np.array([count]) for count in side) for side in (before, after)]
    assert precision_fell(*columns, [margin]).tolist() == [fell]


def test_benign_flips_seldom_raise_an_alarm():
    rng, rounds, alpha = np.random.default_rng(11), 400, 0.05
    truth = np.repeat(np.arange(10), 100)
    alarms = {judge.recall: 0, judge.precision: 0}
    for _ in range(rounds):
        answers = [np.where(rng.random(1000) < 0.04, rng.integers(0, 10, 1000), truth) for _ in range(2)]
        for function in alarms:
            result = function(truth, *answers, classes=[str(k) for k in range(10)], drop=0.0, alpha=alpha)
            alarms[function] += result.verdict is FAIL
    # At a true rate of alpha this or more would be seen once in a thousand times.
    limit = stats.binom.isf(1e-3, rounds, alpha)
    assert max(alarms.values()) <= limit


def test_the_detectable_drop_is_found_about_as_often_as_promised():
    rng, rounds = np.random.default_rng(12), 300
    truth = np.repeat(np.arange(4), 200)
    names = ["a", "b", "c", "d"]
    drop = judge.recall(truth, truth, truth, classes=names).classes[0].detectable
    found = 0
    for _ in range(rounds):
        fate = rng.choice(3, 800, p=[0.96, 0.02, 0.02])
        fate[:200] = rng.choice(3, 200, p=[0.96 - drop, 0.02 + drop, 0.02])
        reference = np.where(fate == 2, (truth + 1) % 4, truth)
        candidate = np.where(fate == 1, (truth + 1) % 4, truth)
        found += "a" in [
            row.name for row in judge.recall(truth, reference, candidate, classes=names).named(FAIL)
        ]
    assert found >= stats.binom.ppf(1e-3, rounds, 0.8)


def test_a_thousand_classes_take_no_time():
    rng = np.random.default_rng(13)
    truth = np.repeat(np.arange(1000), 50)
    reference, candidate = (
        np.where(rng.random(50_000) < 0.2, rng.integers(0, 1000, 50_000), truth) for _ in range(2)
    )
    candidate[:50] = 1
    names = [str(k) for k in range(1000)]
    start = time.perf_counter()
    recalled = judge.recall(truth, reference, candidate, classes=names)
    judge.precision(truth, reference, candidate, classes=names)
    assert time.perf_counter() - start < 5
    assert [row.name for row in recalled.named(FAIL)] == ["0"]
    assert recalled.classes[1].detectable == pytest.approx(0.488)  # level .005 of 1000 classes


def test_failed_classes_come_worst_first():
    truth = np.repeat(np.arange(3), 1000)
    candidate = truth.copy()
    candidate[:50], candidate[1000:1200], candidate[2000:2100] = 1, 2, 0
    result = judge.recall(truth, truth, candidate, classes=["a", "b", "c"])
    assert [row.name for row in result.named(FAIL)] == ["b", "c", "a"]


def test_top_k_hits_are_judged_like_answers():
    before, after = np.ones(1000, bool), np.arange(1000) >= 30
    result = judge.top_k_accuracy(before, after)
    assert (result.verdict, result.b, result.after) == (FAIL, 30, 0.97)
    with pytest.raises(ValueError, match="two equal vectors"):
        judge.top_k_accuracy(before, after[:5])

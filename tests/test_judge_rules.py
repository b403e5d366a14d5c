"""Which rule makes which verdict: key classes, floors, targets, the pooled test, thresholds and proof."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcheck import judge
from trtcheck.case import DropTest, Verdict
from trtcheck.judge import family

PASS, FAIL, INCONCLUSIVE, SKIPPED = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.SKIPPED
BOTH = pytest.mark.parametrize("function", [judge.recall, judge.precision])


def answers(*classes: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and answers of classes of (images, newly wrong, newly right); wrong is the next class."""
    truth = np.repeat(np.arange(len(classes)), [n for n, _, _ in classes])
    reference, candidate = truth.copy(), truth.copy()
    for k, (_, b, c) in enumerate(classes):
        own = np.flatnonzero(truth == k)
        candidate[own[:b]] = (k + 1) % len(classes)
        reference[own[b : b + c]] = (k + 1) % len(classes)
    return truth, reference, candidate


def test_the_verdict_is_an_enum_of_plain_words():
    truth, reference, candidate = answers((1000, 100, 0), (1000, 0, 0))
    result = judge.recall(truth, reference, candidate, classes=["crack", "fine"])
    assert (result.verdict, result.verdict.value) == (judge.Verdict.FAIL, "fail")
    assert judge.accuracy(truth, truth, truth).verdict.value == "pass"
    assert isinstance(result, judge.RecallVerdict)
    assert isinstance(judge.precision(truth, truth, truth, classes=2), judge.PrecisionVerdict)


def test_a_number_of_classes_names_them_by_number():
    truth, reference, candidate = answers((1000, 100, 0), (1000, 0, 0))
    numbered = judge.recall(truth, reference, candidate, classes=2)
    assert numbered == judge.recall(truth, reference, candidate, classes=["0", "1"])


# key classes


def test_a_key_class_that_cannot_be_told_makes_the_item_inconclusive():
    vectors = answers((2000, 0, 0), (2000, 0, 0), (12, 0, 0))
    names = ["fine", "scratch", "crack"]
    plain = judge.recall(*vectors, classes=names)
    assert (plain.verdict, [row.verdict for row in plain.classes]) == (PASS, [PASS, PASS, INCONCLUSIVE])
    keyed = judge.recall(*vectors, classes=names, key_classes=["crack"])
    assert keyed.verdict is INCONCLUSIVE
    assert [row.key for row in keyed.classes] == [False, False, True]
    assert keyed.classes[2].enough == judge.Enough(100, 0.156)  # level .0025 of one key class


def test_a_key_class_without_images_is_inconclusive_and_not_skipped():
    vectors = answers((2000, 0, 0), (2000, 0, 0), (0, 0, 0))
    for function in (judge.recall, judge.precision):
        plain = function(*vectors, classes=["a", "b", "crack"])
        assert (plain.verdict, plain.classes[2].verdict) == (PASS, SKIPPED)
        keyed = function(*vectors, classes=["a", "b", "crack"], key_classes=["cr*"])
        assert (keyed.verdict, keyed.classes[2].verdict) == (INCONCLUSIVE, INCONCLUSIVE)


@BOTH
def test_a_key_class_shares_no_level_with_a_thousand_others(function):
    # 30 images a class, 9 newly wrong in one of 1000: p = 2^-9 is nothing among 1000, and enough for one.
    vectors = list(answers(*[(30, 9, 0)], *[(30, 10, 10)] * 999))
    names = ["crack", *(f"c{k}" for k in range(999))]
    if function is judge.precision:
        vectors = list(answers(*[(30, 10, 10)] * 999, (30, 9, 0)))  # the last one's go to class 0
    lost = function(*vectors, classes=names, pooled_drop=1.0)
    found = function(*vectors, classes=names, pooled_drop=1.0, key_classes=["crack"])
    assert (lost.classes[0].verdict, found.classes[0].verdict) == (INCONCLUSIVE, FAIL)
    assert found.classes[0].p_adjusted == pytest.approx(4 * found.classes[0].p)
    assert found.classes[0].detectable < lost.classes[0].detectable


def test_the_shares_of_alpha_add_up():
    tested = np.array([True, True, True, False])
    for keys in ([0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]):
        found = family.groups(tested, np.array(keys, bool), 0.01)
        assert sum(level for _, level in found) == pytest.approx(0.005)
        assert sum(mask.astype(int) for mask, _ in found).tolist() == [1, 1, 1, 0]
    assert [level for _, level in family.groups(tested, np.array([1, 0, 0, 0], bool), 0.01)] == [0.0025] * 2


# the pooled test


@BOTH
def test_a_small_harm_to_every_class_is_found_by_the_pooled_test(function):
    vectors = answers(*[(50, 1, 0)] * 20, *[(50, 0, 0)] * 80)
    result = function(*vectors, classes=100)
    assert result.named(FAIL) == ()
    pooled = result.pooled
    assert (result.verdict, pooled.verdict) == (FAIL, FAIL)
    assert (pooled.images, pooled.b, pooled.c, pooled.drop) == (5000, 20, 0, 0.004)
    assert pooled.p == pytest.approx(2.0**-20)
    assert pooled.alpha == 0.005
    harmless = function(*vectors, classes=100, pooled_drop=0.005)
    assert (harmless.verdict, harmless.pooled.verdict) == (PASS, PASS)


def test_what_is_wrong_on_both_sides_neither_helps_nor_harms_precision_as_a_whole():
    truth = np.repeat([0, 1, 2], 1000)
    reference, candidate = truth.copy(), truth.copy()
    reference[:200], candidate[:200] = 1, 2  # wrong before and after, and no class's answers stay
    result = judge.precision(truth, reference, candidate, classes=3)
    assert (result.pooled.b, result.pooled.c) == (0, 0)
    assert [(row.b, row.c) for row in result.classes] == [(0, 0), (0, 200), (200, 0)]


# floors and targets


@BOTH
def test_a_floor_holds_whatever_the_reference(function):
    vectors = answers((1000, 0, 0), (1000, 0, 0))
    truth, reference, candidate = vectors
    candidate = reference = np.where(np.arange(2000) < 100, 1, truth)  # recall of 0: .9, precision of 1: .909
    assert function(truth, reference, candidate, classes=["a", "b"]).verdict is PASS
    result = function(truth, reference, candidate, classes=["a", "b"], floor=0.95)
    low = "a" if function is judge.recall else "b"
    assert [(row.name, row.below_floor, row.floor) for row in result.named(FAIL)] == [(low, True, 0.95)]
    assert result.verdict is FAIL
    assert function(truth, reference, candidate, classes=["a", "b"], floor=0.9).verdict is PASS
    own = function(truth, reference, candidate, classes=["a", "b"], class_floors={low: 0.92})
    assert [row.floor for row in own.classes] == [0.92 if name == low else None for name in "ab"]
    assert own.verdict is FAIL


def test_a_floor_is_met_exactly():
    truth = np.repeat([0, 1], 10)
    answer = np.where(np.arange(20) < 3, 1, truth)
    assert judge.recall(truth, answer, answer, classes=2, floor=0.7).named(FAIL) == ()
    assert len(judge.recall(truth, answer, answer, classes=2, floor=0.71).named(FAIL)) == 1


def test_precision_of_a_class_that_is_never_answered_meets_no_floor():
    truth = np.repeat([0, 1], 500)
    nothing = np.zeros(1000, int)
    result = judge.precision(truth, nothing, nothing, classes=["a", "b"], floor=0.1)
    assert [row.name for row in result.named(FAIL)] == ["b"]
    # Without a floor there is nothing to compare, which is no pass.
    assert judge.precision(truth, nothing, nothing, classes=["a", "b"]).classes[1].verdict is INCONCLUSIVE


@pytest.mark.parametrize(
    ("right", "target", "verdict"), [(941, 0.99, PASS), (940, 0.99, FAIL), (950, 1, PASS)]
)
def test_a_target_is_a_share_of_the_references_accuracy(right, target, verdict):
    # 99 % of 950 right answers is 940.5: 941 are needed, whatever the margin.
    truth = np.zeros(1000, int)
    reference = np.where(np.arange(1000) < 950, 0, 1)
    candidate = np.where(np.arange(1000) < right, 0, 1)
    found = judge.accuracy(truth, reference, candidate, drop=0.5, target=target)
    assert (found.verdict, found.target) == (verdict, target)


def test_an_accuracy_floor_holds_whatever_the_reference():
    truth = np.zeros(1000, int)
    answer = np.where(np.arange(1000) < 950, 0, 1)
    assert judge.accuracy(truth, answer, answer, floor=0.95).verdict is PASS
    assert judge.accuracy(truth, answer, answer, floor=0.951).verdict is FAIL


# thresholds and proof


@BOTH
def test_a_plain_threshold_fails_noise_and_proof_fails_what_is_not_shown(function):
    noise = answers((100, 2, 0), (100, 2, 0))
    assert function(*noise, classes=2).classes[0].verdict is INCONCLUSIVE
    threshold = function(*noise, classes=2, test="threshold")
    assert (threshold.verdict, threshold.pooled.verdict) == (FAIL, SKIPPED)
    same = answers((100, 0, 0), (100, 0, 0))
    assert function(*same, classes=2, test="threshold").verdict is PASS
    assert function(*same, classes=2).verdict is PASS
    assert function(*same, classes=2, test="proven").verdict is FAIL  # up to 5 points are possible
    many = answers((10_000, 5, 5), (10_000, 5, 5))
    proven = function(*many, classes=2, test="proven")
    assert (proven.verdict, proven.test) == (PASS, DropTest.PROVEN)
    assert all(row.interval[1] < 0.01 for row in proven.classes)


def test_accuracy_knows_the_same_three_rules():
    truth, reference, candidate = answers((100, 2, 0), (100, 2, 0))
    verdicts = {test: judge.accuracy(truth, reference, candidate, test=test) for test in DropTest}
    assert {test.value: found.verdict for test, found in verdicts.items()} == {
        "paired": INCONCLUSIVE, "threshold": FAIL, "proven": FAIL,
    }  # fmt: skip
    assert verdicts[DropTest.PAIRED].enough.drop <= 0.02
    assert judge.accuracy(truth, truth, truth, test="threshold").verdict is PASS
    many = answers((100_000, 5, 5))
    assert judge.accuracy(*many, test="proven").verdict is PASS


@BOTH
def test_the_interval_holds_the_drop(function):
    vectors = answers((300, 30, 6), (200, 3, 9), (500, 1, 1))
    for row in function(*vectors, classes=3).classes:
        low, high = row.interval
        assert low < row.drop < high
    wide = function(*vectors, classes=3, alpha=0.001).classes
    assert all(
        w.interval[1] > n.interval[1]
        for w, n in zip(wide, function(*vectors, classes=3).classes, strict=True)
    )


# blind classes


def test_what_cannot_be_lost_cannot_be_seen():
    # 5 of 50 right: no loss of them is ever significant, whatever a table of power says of 50 images.
    truth = np.repeat([0, 1], [50, 1000])
    answer = np.where(np.arange(1050) < 45, 1, truth)
    result = judge.recall(truth, answer, answer, classes=["rare", "common"])
    rare = result.classes[0]
    assert (rare.before, rare.detectable, rare.blind, rare.verdict) == (0.1, None, True, INCONCLUSIVE)
    assert result.verdict is PASS


def test_how_much_must_be_seen_is_the_users_choice():
    truth = np.repeat([0, 1], 50)
    assert judge.recall(truth, truth, truth, classes=2).verdict is PASS
    assert judge.recall(truth, truth, truth, classes=2, must_see=0.1).verdict is INCONCLUSIVE
    assert judge.accuracy(truth, truth, truth, must_see=0.1).verdict is INCONCLUSIVE


def test_a_class_that_rose_is_not_blind_to_a_fall():
    truth = np.repeat([0, 1], [12, 2000])
    reference = np.where(np.arange(2012) < 12, 1, truth)
    row = judge.recall(truth, reference, truth, classes=2, key_classes=["0"]).classes[0]
    assert (row.before, row.after, row.verdict) == (0.0, 1.0, PASS)


@BOTH
def test_what_it_would_take_is_told_and_would_do(function):
    vectors = answers((100, 2, 0), (100, 2, 0), (4, 0, 0))
    for row in function(*vectors, classes=3).named(INCONCLUSIVE):
        assert row.enough.images > row.support
        assert row.enough.drop <= max(row.drop, 0.2)


def test_so_many_images_would_do_also_where_many_answers_flip():
    # 10 % flip either way: a table made for 2 % would ask for the 2000 images that there are.
    flipping = answers((2000, 220, 180), (2000, 0, 0))
    for result in (
        judge.accuracy(*(v[:2000] for v in flipping)),
        judge.recall(*flipping, classes=2).classes[0],
    ):
        assert (result.verdict, result.fell, result.enough.images) == (INCONCLUSIVE, True, 10_000)
        assert result.enough.drop <= result.drop
    rng, found = np.random.default_rng(6), 0
    for _ in range(50):
        b, c, _ = rng.multinomial(10_000, [0.11, 0.09, 0.8])
        found += judge.recall(*answers((10_000, b, c), (10_000, 0, 0)), classes=2).classes[0].verdict is FAIL
    assert found >= 35


def test_more_images_than_there_are_show_what_must_be_seen():
    truth = np.repeat([0, 1], 100)
    for row in judge.recall(truth, truth, truth, classes=2, must_see=0.1).classes:
        assert (row.verdict, row.enough) == (INCONCLUSIVE, judge.Enough(200, 0.093))
    assert judge.accuracy(truth[:100], truth[:100], truth[:100], must_see=0.1).enough == judge.Enough(
        200, 0.077
    )


@pytest.mark.parametrize("test", list(DropTest))
def test_what_was_never_right_is_no_pass_of_accuracy(test):
    truth = np.zeros(10_000, int)
    assert judge.accuracy(truth, truth + 1, truth + 1, test=test).verdict is INCONCLUSIVE


def test_accuracy_that_rose_is_not_blind_to_a_fall():
    truth = np.zeros(12, int)
    assert judge.accuracy(truth, truth + 1, truth).verdict is PASS


def test_whether_a_drop_reaches_its_margin_is_told_exactly():
    # .82 - .81 is .009999999999999898.
    truth, reference, candidate = (np.arange(100) >= share for share in (0, 82, 81))
    result = judge.accuracy(truth * 1, 1 - reference, 1 - candidate)
    assert (result.drop < 0.01, result.fell, result.verdict) == (True, True, INCONCLUSIVE)


# misuse


@BOTH
def test_plain_lists_are_judged_like_arrays(function):
    vectors = answers((200, 40, 3), (300, 5, 9))
    assert function(*(v.tolist() for v in vectors), classes=["a", "b"]) == function(
        *vectors, classes=["a", "b"]
    )
    assert function(*vectors, classes=np.int64(2)) == function(*vectors, classes=2)
    assert function([], [], [], classes=2).verdict is INCONCLUSIVE
    assert judge.accuracy(*(v.tolist() for v in vectors)) == judge.accuracy(*vectors)
    assert judge.top_k_accuracy([True] * 300, [True] * 300).verdict is PASS


@BOTH
def test_limits_of_single_classes_go_by_name_and_by_pattern(function):
    truth = np.repeat([0, 1, 2], 100)
    result = function(
        truth, truth, truth, classes=["crack", "crab", "fine"],
        class_drops={"cr*": 0.2, "c*": 0.4, "crab": 0.3}, class_floors={"*": 0.5, "fine": 0.9},
    )  # fmt: skip
    assert [row.margin for row in result.classes] == [0.2, 0.3, 0.01]
    assert [row.floor for row in result.classes] == [0.5, 0.5, 0.9]
    one = function(truth, truth, truth, classes=["crack", "crab", "fine"], key_classes="crack")
    assert [row.key for row in one.classes] == [True, False, False]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros(20), "truth must hold integer labels, got float64"),
        (["a", "b"] * 10, "truth must hold integer labels, got <U1"),
        (np.zeros((20, 1), int), "must be three equal vectors"),
        (0, "must be three equal vectors"),
        (np.full(20, -2), "truth holds labels"),
    ],
)
def test_what_is_no_vector_of_labels_is_refused(wrong, message):
    right = np.zeros(20, int)
    judges = (
        lambda *v: judge.recall(*v, classes=2), lambda *v: judge.precision(*v, classes=2), judge.accuracy,
    )  # fmt: skip
    for function in judges:
        with pytest.raises(ValueError, match=message):
            function(wrong, right, right)


def test_top_k_hits_are_whether_and_not_which():
    with pytest.raises(ValueError, match="expected bool vectors, got int64"):
        judge.top_k_accuracy(np.full(10, 7), np.full(10, 5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drop": 1.5}, "drop is 1.5, expected a fraction"),
        ({"drop": -0.1}, "drop is -0.1"),
        ({"alpha": 0}, "alpha is 0"),
        ({"test": "guess"}, "guess"),
        ({"floor": 90}, "floor is 90"),
        ({"class_drops": {"c": 0.1}}, "'c' is none of the classes a, b"),
        ({"class_drops": {"a": 2}}, "a is 2"),
        ({"key_classes": ["x*"]}, "'x\\*' is none of the classes"),
        ({"pooled_drop": 3}, "pooled_drop is 3"),
        ({"must_see": 60}, "must_see is 60"),
        ({"classes": ["a", "a"]}, "different names"),
        ({"classes": "ab"}, "different names"),
        ({"classes": 0}, "different names, or how many"),
        ({"classes": -1}, "different names, or how many"),
    ],
)
def test_wrong_limits_are_refused(wrong, message):
    truth = np.repeat([0, 1], 10)
    for function in (judge.recall, judge.precision):
        with pytest.raises(ValueError, match=message):
            function(truth, truth, truth, **{"classes": ["a", "b"], **wrong})


@pytest.mark.parametrize("wrong", [
    {"drop": 1.5}, {"floor": 90}, {"target": 99}, {"test": "guess"}, {"alpha": 0}, {"alpha": 1},
    {"must_see": 60},
])  # fmt: skip
def test_wrong_limits_of_accuracy_are_refused(wrong):
    truth = np.repeat([0, 1], 10)
    with pytest.raises(ValueError):
        judge.accuracy(truth, truth, truth, **wrong)


# what must hold of any answers


SUITES = st.lists(
    st.integers(0, 60).flatmap(lambda n: st.integers(0, n).flatmap(
        lambda b: st.integers(0, n - b).map(lambda c: (n, b, c)))),
    min_size=1, max_size=5,
).filter(lambda classes: sum(n for n, _, _ in classes) > 0)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(SUITES, st.sampled_from(list(DropTest)), st.sampled_from([0.0, 0.01, 0.1]))
def test_no_suite_fails_without_a_loss_and_none_passes_in_silence(classes, test, drop):
    vectors = answers(*classes)
    for function in (judge.recall, judge.precision):
        result = function(*vectors, classes=len(classes), test=test, drop=drop)
        assert result.verdict in (PASS, FAIL, INCONCLUSIVE)
        failed = result.named(FAIL)
        assert (result.verdict is FAIL) == (bool(failed) or result.pooled.verdict is FAIL)
        if test is not DropTest.PROVEN:
            assert all(row.drop > 0 and row.drop >= drop - 1e-12 for row in failed)
        if test is DropTest.PAIRED:
            assert all(row.p_adjusted <= result.alpha for row in failed)
            # A failure under the paired rule is one under the plain threshold.
            plain = function(*vectors, classes=len(classes), test="threshold", drop=drop)
            assert {row.name for row in failed} <= {row.name for row in plain.named(FAIL)}
        for row in result.classes:
            assert (row.verdict is SKIPPED) == (row.support == 0)
            assert row.interval is None or -1 <= row.interval[0] <= row.interval[1] <= 1


@settings(deadline=None, max_examples=40)
@given(SUITES, st.integers(1, 5))
def test_more_of_the_same_images_never_hide_a_failure(classes, times):
    few = judge.recall(*answers(*classes), classes=len(classes))
    many = judge.recall(
        *answers(*[(n * times, b * times, c * times) for n, b, c in classes]), classes=len(classes)
    )
    assert {row.name for row in few.named(FAIL)} <= {row.name for row in many.named(FAIL)}


def test_the_pooled_test_has_half_of_alpha():
    # p of 7 newly wrong images and none newly right is .0078: below alpha, above its half.
    for worse, verdict in ((7, PASS), (8, FAIL)):
        pooled = judge.recall(*answers(*[(100, 1, 0)] * worse), classes=worse, drop=0.05).pooled
        assert (pooled.b, pooled.c, pooled.verdict) == (worse, 0, verdict)


def test_no_answer_of_the_reference_is_given_to_no_wrong_class():
    truth = np.repeat([0, 1], 500)
    reference = np.where(np.arange(1000) < 100, -1, truth)
    result = judge.precision(truth, reference, np.where(reference < 0, 1, truth), classes=2)
    assert (result.pooled.b, result.pooled.c, result.pooled.verdict) == (100, 0, FAIL)
    mended = judge.precision(truth, np.where(reference < 0, 1, truth), reference, classes=2)
    assert (mended.pooled.b, mended.pooled.c, mended.pooled.verdict) == (0, 100, PASS)


def test_a_bound_of_exactly_the_margin_proves_nothing():
    # Where there are no other classes, the interval of precision is a point: 0, which is not below 0.
    truth = np.zeros(100, int)
    for drop, verdict in ((0.01, PASS), (0.0, FAIL)):
        assert judge.precision(truth, truth, truth, classes=1, test="proven", drop=drop).verdict is verdict


@BOTH
def test_classes_that_see_and_fell_by_noise_are_named_and_let_the_item_pass(function):
    result = function(*answers((1000, 15, 5), (1000, 15, 5)), classes=2, pooled_drop=0.02)
    assert {(row.verdict, row.blind) for row in result.classes} == {(INCONCLUSIVE, False)}
    assert (result.verdict, result.pooled.verdict) == (PASS, PASS)


def test_a_class_without_images_is_below_no_floor():
    truth = np.zeros(500, int)
    empty = judge.recall(truth, truth, truth, classes=["a", "b"], floor=0.9, key_classes=["b"]).classes[1]
    assert (empty.below_floor, empty.verdict) == (False, INCONCLUSIVE)


def test_what_it_would_take_counts_the_margin_in():
    # Exactly the margin is observed half of the time, whatever the number of images.
    vectors = answers((100, 1, 0), (100, 0, 0))
    enough = judge.recall(*vectors, classes=2).classes[0].enough
    assert 0.01 < enough.drop <= 0.0125
    truth, reference, candidate = answers((enough.images, 0, 0), (enough.images, 0, 0))
    assert judge.recall(truth, reference, candidate, classes=2).classes[0].detectable == enough.drop


def test_a_key_class_without_images_is_planned_like_one_with_some():
    vectors = answers((2000, 0, 0), (2000, 0, 0), (0, 0, 0))
    enough = judge.recall(*vectors, classes=["a", "b", "crack"], key_classes=["crack"]).classes[2].enough
    assert enough == judge.Enough(100, 0.156)  # as for any single key class, at a quarter of alpha


def test_a_rule_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="test is 'guess', expected 'paired', 'threshold', 'proven'"):
        judge.recall([0], [0], [0], classes=1, test="guess")

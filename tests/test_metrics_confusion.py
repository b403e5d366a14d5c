"""Confusion counts and what follows from them, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics

from trtcheck.metrics import confusion as counting
from trtcheck.metrics.confusion import CHUNK, NO_ANSWER, Changes, Confusion, confusion_matrix

UNDEFINED = {"zero_division": np.nan}


@st.composite
def answered(draw, least_classes=2):
    """Truth (-1: no label), answers (-1: none) and the number of classes; few images, so that classes lack
    images and answers."""
    classes = draw(st.integers(least_classes, 5))
    size = draw(st.integers(1, 25))
    labels = st.lists(st.integers(-1, classes - 1), min_size=size, max_size=size)
    return np.array(draw(labels)), np.array(draw(labels)), classes


@settings(deadline=None, max_examples=300)
@given(answered())
def test_figures_are_those_of_scikit_learn(data):
    truth, predicted, classes = data
    ours = Confusion.of(truth, predicted, classes)
    counted = truth != -1
    y, z, names = truth[counted], predicted[counted], range(classes)
    if not counted.any():
        assert ours.matrix.sum() == 0
        assert np.isnan([ours.accuracy, ours.macro.f1, ours.weighted.recall, *ours.recall]).all()
        return
    np.testing.assert_array_equal(ours.matrix[:, :-1], metrics.confusion_matrix(y, z, labels=names))
    assert ours.accuracy == pytest.approx(metrics.accuracy_score(y, z))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(y, z, labels=names, **UNDEFINED)
    np.testing.assert_allclose(ours.precision, precision)
    np.testing.assert_allclose(ours.recall, recall)
    np.testing.assert_allclose(ours.f1, f1)
    np.testing.assert_array_equal(ours.support, support)
    for average, found in (("macro", ours.macro), ("weighted", ours.weighted)):
        expected = metrics.precision_recall_fscore_support(y, z, labels=names, average=average, **UNDEFINED)
        np.testing.assert_allclose([found.precision, found.recall, found.f1], expected[:3], err_msg=average)


def looped(truth, predicted, classes):
    """The confusion matrix, one image at a time."""
    matrix = [[0] * (classes + 1) for _ in range(classes)]
    for label, answer in zip(truth, predicted, strict=True):
        if label != -1:
            matrix[label][answer] += 1  # an answer of -1 is the last column
    return matrix


@settings(deadline=None, max_examples=300)
@given(answered(least_classes=1))
def test_the_matrix_is_that_of_a_plain_loop(data):
    assert confusion_matrix(*data).tolist() == looped(*data)


@pytest.mark.parametrize(("classes", "size"), [(2, 3 * CHUNK + 7), (300, 90_301)])
def test_more_images_than_are_counted_at_a_time_are_all_counted(classes, size):
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(-1, classes, (2, size))
    assert size > max(CHUNK, classes * (classes + 1))
    assert confusion_matrix(truth, predicted, classes).tolist() == looped(truth, predicted, classes)


def test_no_images_are_no_counts():
    matrix = confusion_matrix(np.zeros(0, int), np.zeros(0, int), 3)
    assert (matrix.shape, matrix.sum(), matrix.dtype) == ((3, 4), 0, np.int64)


def test_the_labels_stay_as_they_are():
    truth, predicted = np.array([0, -1, 1]), np.array([-1, 0, 1])
    truth.flags.writeable = predicted.flags.writeable = False
    assert confusion_matrix(truth[::-1], predicted[::-1], 2).tolist() == [[0, 0, 1], [0, 1, 0]]


@settings(deadline=None)
@given(answered())
def test_counts_are_those_of_scikit_learn_one_class_against_the_rest(data):
    truth, predicted, classes = data
    counted = truth != -1
    ours = Confusion.of(truth, predicted, classes)
    for k in range(classes):
        right, said = truth[counted] == k, predicted[counted] == k
        expected = (
            metrics.confusion_matrix(right, said, labels=[False, True]) if counted.any() else [[0, 0]] * 2
        )
        assert [[ours.tn[k], ours.fp[k]], [ours.fn[k], ours.tp[k]]] == np.asarray(expected).tolist()


@settings(deadline=None)
@given(answered(), st.data())
def test_shards_add_up_to_the_whole(data, more):
    truth, predicted, classes = data
    cut = more.draw(st.integers(0, len(truth)))
    parts = [Confusion.of(truth[part], predicted[part], classes) for part in (slice(cut), slice(cut, None))]
    whole = Confusion.of(truth, predicted, classes)
    np.testing.assert_array_equal((parts[0] + parts[1]).matrix, whole.matrix)


def test_only_a_class_without_images_is_known_to_be_predicted():
    # Weights are all 0 there; scikit-learn then takes the plain mean, and a NaN would read "undefined".
    confusion = Confusion.of(np.zeros(3, int), np.ones(3, int), 2)
    assert (confusion.weighted.precision, confusion.macro.precision) == (0.0, 0.0)
    assert np.isnan(confusion.precision[0])


def test_a_class_without_images_has_no_recall():
    confusion = Confusion.of(np.array([0, 0]), np.array([0, 1]), 3)
    assert confusion.support.tolist() == [2, 0, 0]
    assert confusion.recall[0] == 0.5
    assert np.isnan(confusion.recall[1:]).all()
    assert confusion.precision[1] == 0.0  # predicted once, and wrongly
    assert np.isnan(confusion.precision[2])


def test_no_answer_counts_as_wrong_and_no_label_does_not_count():
    confusion = Confusion.of(np.array([1, 1, 1, -1, -1]), np.array([1, NO_ANSWER, 0, 1, NO_ANSWER]), 2)
    assert confusion.matrix.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert confusion.accuracy == pytest.approx(1 / 3)
    assert (confusion.tp[1], confusion.fn[1], confusion.fp[1]) == (1, 2, 0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_any_integer_type_count_alike(dtype):
    labels = np.arange(100).astype(dtype)
    matrix = confusion_matrix(labels, labels[::-1], 100)
    np.testing.assert_array_equal(matrix[:, :-1], np.eye(100)[::-1])


@pytest.mark.parametrize(
    ("dtype", "classes"), [("int8", 100), ("int8", 300), ("int16", 1000), ("int64", 300)]
)
def test_labels_of_few_bits_may_be_none(dtype, classes):
    labels = np.array([-1, 0, 99, -1], dtype)
    matrix = confusion_matrix(labels, labels[::-1], classes)
    assert (matrix.sum(), matrix[0, 99], matrix[99, 0]) == (2, 1, 1)
    assert confusion_matrix(np.zeros(4, dtype), labels, classes)[0, [-1, 0, 99]].tolist() == [2, 1, 1]


def test_a_huge_unsigned_label_is_not_taken_for_none():
    with pytest.raises(ValueError, match="truth holds labels outside"):
        confusion_matrix(np.array([2**64 - 1], np.uint64), np.array([0]), 2)


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [([0, 1], [0]), ([[0, 1]], [[0, 1]]), ([0, 3], [0, 1]), ([0, 1], [0, 3]), ([-2, 1], [0, 1]), ([0], [-2])],
)
def test_labels_that_do_not_fit_are_refused(truth, predicted):
    with pytest.raises(ValueError, match=r"two equal vectors|outside -1\.\.2"):
        confusion_matrix(np.array(truth), np.array(predicted), 3)


def test_a_label_out_of_place_is_found_wherever_it_stands():
    truth = np.zeros(CHUNK + 1, int)
    predicted = np.append(np.zeros(CHUNK, int), 2)
    with pytest.raises(ValueError, match=r"predicted holds labels outside -1\.\.1"):
        confusion_matrix(truth, predicted, 2)


@pytest.mark.parametrize("labels", [np.array([0.0, 1.0]), np.array([0, 1.5]), np.array(["0", "1"])])
def test_labels_that_are_no_integers_are_refused(labels):
    with pytest.raises(ValueError, match="predicted must hold integer labels, got"):
        confusion_matrix(np.array([0, 1]), labels, 2)
    with pytest.raises(ValueError, match="truth must hold integer labels, got"):
        confusion_matrix(labels, np.array([0, 1]), 2)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answered(least_classes=1))
def test_sorted_pairs_count_like_a_whole_matrix(monkeypatch, data):
    whole = Confusion.of(*data)
    with monkeypatch.context() as patched:
        patched.setattr(counting, "DENSE", 0)  # as of many classes
        sparse = Confusion.of(*data)
    assert sparse.matrix.tolist() == whole.matrix.tolist() == looped(*data)
    for name in ("support", "tp", "fp", "fn", "tn"):
        assert getattr(sparse, name).tolist() == getattr(whole, name).tolist(), name
    assert [sparse.row(k).tolist() for k in range(data[2])] == looped(*data)


def test_many_classes_are_counted_without_a_matrix():
    truth = np.array([21_999, 21_999, 0, -1, 7])
    found = Confusion.of(truth, np.array([21_999, -1, 21_999, 3, 7]), 22_000)
    assert (found.support[21_999], found.tp[21_999], found.fn[21_999], found.fp[21_999]) == (2, 1, 1, 1)
    assert found.accuracy == 0.5
    assert "matrix" not in found.__dict__  # it would take 3.9 GB
    with pytest.raises(ValueError, match="outside"):
        Confusion.of(truth, truth + 1, 22_000)


@given(answered(), st.data())
def test_changes_are_the_fields_that_differ(data, more):
    truth, before, classes = data
    after = np.array(
        more.draw(st.lists(st.integers(-1, classes - 1), min_size=len(truth), max_size=len(truth)))
    )
    a, b = Confusion.of(truth, before, classes), Confusion.of(truth, after, classes)
    found = Changes.of(a, b)
    expected = [(*place, a.matrix[place], b.matrix[place]) for place in np.ndindex(a.matrix.shape)]
    rows = zip(found.truth, found.answer, found.before, found.after, strict=True)
    assert list(rows) == [row for row in expected if row[2] != row[3]]

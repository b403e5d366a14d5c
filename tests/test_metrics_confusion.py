"""Confusion counts and what follows from them, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from trtcheck.metrics.confusion import NO_ANSWER, Confusion, confusion_matrix

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
    ("truth", "predicted"),
    [([0, 1], [0]), ([[0, 1]], [[0, 1]]), ([0, 3], [0, 1]), ([0, 1], [0, 3]), ([-2, 1], [0, 1]), ([0], [-2])],
)
def test_labels_that_do_not_fit_are_refused(truth, predicted):
    with pytest.raises(ValueError, match=r"two equal vectors|outside -1\.\.2"):
        confusion_matrix(np.array(truth), np.array(predicted), 3)

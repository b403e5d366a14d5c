"""Paired counts of two engines, against a plain loop and against the confusion of each engine."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcheck.metrics import confusion
from trtcheck.metrics.confusion import Confusion
from trtcheck.metrics.paired import PairedCounts, paired_counts

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4", "bool"]


@st.composite
def answered_twice(draw):
    """Truth (-1: no label), two answers to each image (-1: none) and the number of classes."""
    classes = draw(st.integers(1, 5))
    size = draw(st.integers(0, 30))
    labels = st.lists(st.integers(-1, classes - 1), min_size=size, max_size=size)
    return *(np.array(draw(labels), draw(st.sampled_from(["int8", "int64"]))) for _ in range(3)), classes


def looped(truth, before, after, classes):
    """The counts as their descriptions say, one image at a time."""
    rows = {field.name: [0] * classes for field in fields(PairedCounts)}
    for label, old, new in zip(truth, before, after, strict=True):
        if label == -1:
            continue
        rows["support"][label] += 1
        rows["before"][label] += old == label
        rows["after"][label] += new == label
        rows["b"][label] += old == label != new
        rows["c"][label] += new == label != old
        for k in set(range(classes)) - {int(label)}:
            rows["fp_before"][k] += old == k
            rows["fp_after"][k] += new == k
            rows["fp_b"][k] += new == k != old
            rows["fp_c"][k] += old == k != new
    return {name: list(map(int, row)) for name, row in rows.items()}


def listed(counts):
    return {field.name: getattr(counts, field.name).tolist() for field in fields(counts)}


@settings(deadline=None, max_examples=300)
@given(answered_twice())
def test_counts_are_those_of_a_plain_loop(data):
    assert listed(paired_counts(*data)) == looped(*data)


@settings(deadline=None)
@given(answered_twice())
def test_counts_agree_with_the_confusion_of_each_engine(data):
    truth, before, after, classes = data
    counts = paired_counts(*data)
    old, new = Confusion.of(truth, before, classes), Confusion.of(truth, after, classes)
    assert counts.support.tolist() == old.support.tolist()
    assert [counts.before.tolist(), counts.after.tolist()] == [old.tp.tolist(), new.tp.tolist()]
    assert [counts.fp_before.tolist(), counts.fp_after.tolist()] == [old.fp.tolist(), new.fp.tolist()]
    assert (counts.b - counts.c).tolist() == (old.tp - new.tp).tolist()
    assert (counts.fp_b - counts.fp_c).tolist() == (new.fp - old.fp).tolist()


@settings(deadline=None)
@given(answered_twice(), st.data())
def test_shards_add_up_to_the_whole(data, more):
    *vectors, classes = data
    cut = more.draw(st.integers(0, len(vectors[0])))
    first, second = (
        paired_counts(*(vector[part] for vector in vectors), classes)
        for part in (slice(cut), slice(cut, None))
    )
    assert listed(first + second) == listed(paired_counts(*vectors, classes))


def test_more_images_than_a_chunk_are_all_counted():
    rng = np.random.default_rng(0)
    size = 2 * confusion.CHUNK + 5
    truth, before, after = (rng.integers(-1, 3, size) for _ in range(3))
    assert listed(paired_counts(truth, before, after, 3)) == looped(truth, before, after, 3)


@pytest.mark.parametrize("dtype", TYPES)
def test_labels_of_any_integer_type_count_alike(dtype):
    truth, before, after = (
        np.array(labels, dtype)[::2] for labels in ([0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1])
    )
    counts = paired_counts(truth, before, after, 2)
    assert (counts.b.tolist(), counts.fp_b.tolist(), counts.b.dtype) == ([0, 1], [1, 0], np.int64)


def test_vectors_of_different_length_are_refused():
    with pytest.raises(
        ValueError, match=r"truth \(2,\), reference \(2,\) and candidate \(1,\) must be three equal"
    ):
        paired_counts(np.zeros(2, int), np.zeros(2, int), np.zeros(1, int), 2)


@pytest.mark.parametrize(("wrong", "name"), [(0, "truth"), (1, "reference"), (2, "candidate")])
@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([-2, 0]), np.array([0.0, 1.0])])
def test_what_is_no_label_is_refused_by_name(wrong, name, labels):
    vectors = [np.zeros(2, int) for _ in range(3)]
    vectors[wrong] = labels
    with pytest.raises(ValueError, match=rf"^{name} (holds labels outside -1\.\.1|must hold integer labels)"):
        paired_counts(*vectors, 2)

"""Verdicts in words: no contradiction, nothing undefined, one image where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcheck import judge, messages
from trtcheck.case import Check, DropTest


def recalled(truth, reference, candidate, **more) -> str:
    return messages.classes(Check.RECALL, judge.recall(truth, reference, candidate, **more))


def test_a_class_that_rose_hides_nothing():
    truth = np.repeat([0, 1], [12, 2000])
    reference = np.where(np.arange(2012) < 12, 1, truth)
    told = recalled(truth, reference, truth, classes=["rare", "b"])
    assert "a drop under 2.1 points could have been missed in any class" in told
    only = recalled(truth[:12], reference[:12], truth[:12], classes=["rare", "b"])
    assert "recall holds in 1 class of 2: none of them fell; the drop is at most -" in only


def test_where_no_other_class_is_there_precision_cannot_fall():
    truth = np.zeros(100, int)
    told = messages.classes(Check.PRECISION, judge.precision(truth, truth, truth, classes=["only"]))
    assert told == (
        "precision holds in 1 class: no class fell; the drop is at most 0.0 points in any class; "
        "a drop under 14.5 points in all together could have been missed"
    )


def test_a_fall_of_exactly_the_margin_is_told_as_a_fall():
    truth, reference, candidate = np.zeros(100, int), np.arange(100) // 82, np.arange(100) // 81
    candidate = np.minimum(candidate, 1)
    told = messages.accuracy("accuracy", judge.accuracy(truth, reference, candidate))
    assert told.startswith("accuracy .820 -> .810 of 100 images: fell by 1.0 points, which can be noise")
    assert recalled(truth, reference, candidate, classes=["a", "b"]).startswith(
        "'a' fell by 1.0 points of 100 images"
    )


def test_what_was_seen_as_noise_is_not_called_too_small_to_be_seen():
    truth, order = np.zeros(2000, int), np.arange(2000)
    reference, candidate = ((order >= 220) & (order < 400)) * 1, (order < 220) * 1
    told = messages.accuracy("accuracy", judge.accuracy(truth, reference, candidate))
    assert told.endswith("limit 1.0 points); about 10000 images would show 1.5 points")
    assert "cannot be seen" not in told


def test_what_three_digits_do_not_show_is_told():
    truth, answer = np.zeros(10_000, int), (np.arange(10_000) >= 8999) * 1
    told = recalled(truth, answer, answer, classes=["a", "b"], floor=0.9)
    assert "recall of 'a' is .900, below the floor of .9 by 0.01 points (before" in told
    told = messages.accuracy("accuracy", judge.accuracy(truth, answer, answer, floor=0.9))
    assert told.endswith("below the floor of .9 by 0.01 points")


def test_nothing_to_lose_is_not_too_few_images():
    truth = np.zeros(500, int)
    told = messages.accuracy("accuracy", judge.accuracy(truth, truth + 1, truth + 1))
    assert told.startswith("accuracy .000 -> .000 of 500 images: nothing to lose, never right before")


SUITES = st.lists(st.tuples(*[st.integers(-1, 2)] * 3), min_size=1, max_size=30).filter(
    lambda images: any(truth >= 0 for truth, _, _ in images)
)


@settings(deadline=None, max_examples=80)
@given(SUITES, st.sampled_from([1, 10, 300]), st.sampled_from(list(DropTest)), st.sampled_from([(), ("a",)]),
       st.sampled_from([None, 0.5]), st.sampled_from([0.0, 0.01]))  # fmt: skip
def test_every_verdict_can_be_read(images, times, test, keys, floor, drop):
    vectors = [np.repeat(column, times) for column in zip(*images, strict=True)]
    told = [messages.accuracy("accuracy", judge.accuracy(*vectors, test=test, floor=floor, drop=drop))]
    for check, function in ((Check.RECALL, judge.recall), (Check.PRECISION, judge.precision)):
        result = function(
            *vectors, classes=["a", "b", "c"], test=test, key_classes=keys, floor=floor, drop=drop
        )
        told.append(messages.classes(check, result))
        for row in result.classes:
            assert row.enough is None or row.enough.images > row.support
    for text in told:
        assert text.strip("; ")
        for wrong in ("undefined could", "None", "nan", " 1 images", " 1 classes", "; ;", ";;", "  "):
            assert wrong not in text, text


@pytest.mark.parametrize(("images", "words"), [(1, "of 1 image:"), (2, "of 2 images:")])
def test_one_image_is_one_image(images, words):
    truth = np.zeros(images, int)
    assert words in messages.accuracy("accuracy", judge.accuracy(truth, truth, truth))

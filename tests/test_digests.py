"""Digests tell different contents apart and equal ones together."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import pytest

from trtcheck import digests


def test_a_files_digest_is_sha256_of_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * (1 << 23))
    (tmp_path / "b").write_bytes(b"y")
    expected = hashlib.sha256(b"x" * (1 << 23)).hexdigest()
    assert digests.of_files([tmp_path / "a"]) == f"sha256:{expected}"
    assert digests.of_files([tmp_path / "a", tmp_path / "b"]) != digests.of_files(
        [tmp_path / "b", tmp_path / "a"]
    )


def test_an_arrays_digest_does_not_depend_on_its_storage(tmp_path):
    array = np.arange(3_000_000, dtype=np.float32).reshape(1000, 3000)
    np.save(tmp_path / "a.npy", array)
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    wide = np.zeros((1000, 6000), np.float32)
    wide[:, ::2] = array
    same = [array, mapped, np.asfortranarray(array), wide[:, ::2]]
    assert len({digests.of_array(each) for each in same}) == 1


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((2, 6), np.float32),  # another shape
        np.zeros((4, 3), np.int32),  # another type of the same bytes
        np.zeros((4, 3), ml_dtypes.bfloat16),
        np.eye(4, 3, k=2, dtype=np.float32),
        np.zeros((0, 3), np.float32),
        np.zeros((), np.float32),
        np.zeros((4, 3), ">f4"),
    ],
)
def test_arrays_that_differ_have_another_digest(other):
    assert digests.of_array(other) != digests.of_array(np.zeros((4, 3), np.float32))


def test_one_late_element_changes_the_digest():
    array = np.zeros((3, 2_000_000), np.float32)  # more than one chunk
    before = digests.of_array(array)
    array[2, -1] = 1
    assert digests.of_array(array) != before


def test_json_does_not_depend_on_the_order_of_keys():
    assert digests.of_json({"a": 1, "b": [2, None]}) == digests.of_json({"b": [2, None], "a": 1})
    assert digests.of_json({"a": [1, 2]}) != digests.of_json({"a": [2, 1]})
    assert digests.short(digests.of_json(1)) == hashlib.sha256(b"1").hexdigest()[:12]

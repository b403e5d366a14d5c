"""Digests tell different contents apart and equal ones together."""

from __future__ import annotations

import hashlib

import ml_dtypes
import numpy as np
import pytest

from trtcheck import digests
from trtcheck.data.npy import Rows, open_rows


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


def numbers(shape, dtype) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (numbers((600, 7, 5), "u1"), "d00a2d319d6094083eab8a162f93a59b10c0c9e2812d21f299148baf45cc649f"),
        (numbers((600, 7, 5), "<f4"), "502610e7ba36f592624c4677133c7a0f2c83c2ffcd2a4b741ce1b74903bba3b3"),
        (numbers((600, 7, 5), ">f4"), "5634e9e490b438ed1bd4a0c0f1d10056dd7c594275f53b51511b117902a8d7ce"),
        (numbers((600, 7, 5), "?"), "c8e0c925cd8a45826bc9a42d0968fdf2a4f5c1944c2991e15a02fc0d152d1294"),
        (numbers((60, 7), "<c8"), "d3e4c568676f937f1faff85ba084a283c2220e1eef3581c5d8e95bfbab838c89"),
        (
            np.asfortranarray(numbers((600, 7, 5), "<f2")),
            "f97d8295a72e721c1e69faaa6b3787906da7d5afb915f561ddb5a9ae1657634a",
        ),
        (
            np.asfortranarray(numbers((300, 50, 300), "u1")),
            "4b601dc05e5227bc2dfd9280beba9b63594d22a0b7a6d2a38ceaf3653e6fd190",
        ),
        (
            numbers((3000, 6), "<i4")[:, ::2],
            "bfef6aff7c5b271259d9e09b99d8673ae3880055bc4c77d415a320a09eb4f268",
        ),
        (numbers(1000, "<i8"), "abfdf604277daa7c6af921df624f9ed1c4649756dcc9290557ed591269e183eb"),
        (numbers((2, 3 << 20), "u1"), "5e5fd6f24706fdaf41227b3e5dceb563079ef78bcdc98ff1152eeacb95a1baff"),
        (numbers((2, 5 << 20), "u1"), "a63fdb323bbd0dc9901064270630a44b02c57df6fe51b02b13ffc06c806b3e69"),
        (numbers((0, 3), "<f4"), "8a52440f20e475aedff1a24f09a95911e9ed8d64f740ff28159e8c94b330740a"),
        (numbers((4, 0), "<f4"), "87cf8cc92454f888cd54091b55bdbc2d0a849da40a24948af9e0393a4b2287c5"),
        (
            np.array(["a", "bcd", "é"], "<U3"),
            "6b258309e26825f83eb7bc86a0412d1288ed9a1774688a9390d6e9d2edba6cb3",
        ),
        (np.array([b"ab", b"c"]), "d6c1281895b36d1b73065aaaa32578d70d4509e1374b6bfdb673ab7db0332257"),
        (np.arange(5).astype("<M8[s]"), "1a3a62ddc383f38e18b728966aa7267f627f4963811b84436a4da1e91240eb09"),
        (
            np.zeros(4, [("a", "<i4"), ("b", "<f8")]),
            "d2a6b9918775db5f2a82faccb809351e3e188935e700529c92b982af6fd2af02",
        ),
    ],
)
@pytest.mark.parametrize("held", ["memory", "npy"])
def test_digests_are_those_of_caches_and_baselines_of_old(array, expected, held, tmp_path):
    """Literal digests, computed when .npy files were memory-mapped: others would void every cache."""
    if held == "npy":
        np.save(tmp_path / "a.npy", array)
        array = open_rows(tmp_path / "a.npy")
    assert digests.of_array(array) == f"sha256:{expected}"


def test_the_digest_of_a_file_reads_a_few_megabytes_at_a_time(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((40, 1 << 20), np.uint8))
    rows = open_rows(tmp_path / "a.npy")
    read = []
    original = Rows.__getitem__
    monkeypatch.setattr(Rows, "__getitem__", lambda self, s: (read.append(original(self, s)), read[-1])[1])
    digests.of_array(rows)
    assert max(part.nbytes for part in read) == 4 << 20
    assert sum(part.nbytes for part in read) >= 40 << 20

"""Rows of .npy files: as numpy reads them, without holding the file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from trtcheck.data.npy import Rows, open_rows
from trtcheck.data.sources import open_images
from trtcheck.errors import DataError

BASE = np.arange(6 * 4 * 3).reshape(6, 4, 3)


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    "array",
    [
        BASE.astype("u1"),
        BASE.astype(">f4"),
        BASE.astype("f2"),
        BASE % 2 == 0,
        BASE.astype("c16"),
        np.arange(6),
        np.array([f"word {k}é" for k in range(6)]),
        np.array([b"a", b"bc", b"", b"d", b"e", b"f"]),
        np.arange(6).astype("M8[D]"),
        BASE[:, :, :0],
        np.asfortranarray(BASE),
        np.zeros(6, [("a", "i4"), ("b", "f8")]),
    ],
)
def test_slices_are_those_of_the_array(array, tmp_path):
    rows = open_rows(saved(tmp_path / "a.npy", array))
    assert (len(rows), rows.shape, rows.dtype, rows.ndim) == (6, array.shape, array.dtype, array.ndim)
    for part in (slice(2, 5), slice(None), slice(4, 99), slice(3, 3), slice(5, 2), slice(0, 1)):
        np.testing.assert_array_equal(rows[part], array[part])
        assert rows[part].dtype == array.dtype


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_file_is_neither_mapped_nor_kept_open(tmp_path):
    data = open_images(saved(tmp_path / "a.npy", BASE.astype("u1")))
    data.read(0, 6)
    data.digest()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    assert not [link for link in Path("/proc/self/fd").iterdir() if str(tmp_path) in str(link.resolve())]


def test_what_is_read_is_a_writable_array_of_its_own(tmp_path):
    data = open_images(saved(tmp_path / "a.npy", BASE))
    data.read(0, 2)["images"][:] = 0
    np.testing.assert_array_equal(data.read(0, 2)["images"], BASE[:2])


def test_a_file_is_held_against_its_header_when_it_is_opened(tmp_path):
    path = saved(tmp_path / "a.npy", BASE.astype("u1"))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{size - 1} bytes; uint8 \(6, 4, 3\) takes {size}"):
        open_images(path)


@pytest.mark.parametrize("change", ["shrinks", "is replaced"])
def test_a_file_that_changes_or_goes_while_it_is_used_is_told(tmp_path, change):
    path = saved(tmp_path / "a.npy", BASE.astype("u1"))
    data = open_images(path)
    np.testing.assert_array_equal(data.read(0, 4)["images"], BASE[:4])
    if change == "shrinks":
        path.write_bytes(path.read_bytes()[:-13])
    else:  # with one of the same shape: answers to it would be kept under the digest of the first
        saved(tmp_path / "b.npy", BASE.astype("u1")[::-1]).replace(path)
    with pytest.raises(DataError, match=r"a\.npy: cannot be read any more") as info:
        data.read(4, 6)
    assert "written to, or replaced" in str(info.value)
    with pytest.raises(DataError, match="leave the data alone"):
        data.digest()
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        data.read(0, 1)


def test_one_axis_of_either_order_is_read_by_rows(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        told = {"descr": "<i8", "fortran_order": True, "shape": (6,)}
        np.lib.format.write_array_header_1_0(file, told)
        file.write(np.arange(6, dtype="<i8").tobytes())
    rows = open_rows(tmp_path / "a.npy")
    assert isinstance(rows, Rows)
    assert rows[2:4].tolist() == [2, 3]

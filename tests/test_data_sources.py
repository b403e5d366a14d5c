"""Array sources: .npz, .npy, arrays in memory, pairs, and what is wrong with them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trtcheck.case import InputSpec
from trtcheck.data import Images
from trtcheck.data.labels import check_labels
from trtcheck.data.sources import open_images
from trtcheck.errors import DataError

IMAGES = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
LABELS = np.array([0, 1, 2, 1, -1])


def npz(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def message(*args, **kwargs) -> str:
    with pytest.raises(DataError) as info:
        open_images(*args, **kwargs)
    return str(info.value)


def test_importing_the_package_costs_no_numpy():
    code = "import sys, trtcheck.data; sys.exit('numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode
        == 0
    )


def test_open_images_is_exported_by_the_package():
    import trtcheck.data

    assert trtcheck.data.open_images is open_images
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        _ = trtcheck.data.missing


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_gives_images_and_int64_labels(tmp_path, save):
    save(tmp_path / "eval.npz", images=IMAGES, labels=LABELS.astype(np.int8))
    data = open_images(tmp_path / "eval.npz", classes=["a", "b", "c"])
    assert isinstance(data, Images)
    assert len(data) == 5
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.labels, LABELS)
    assert list(data.read(1, 3)) == ["images"]
    np.testing.assert_array_equal(data.read(1, 3)["images"], IMAGES[1:3])


def test_npz_is_read_once_and_what_is_read_is_a_copy(tmp_path):
    path = npz(tmp_path / "eval.npz", images=IMAGES)
    data = open_images(str(path))
    data.read(0, 5)["images"][:] = 0
    path.unlink()
    np.testing.assert_array_equal(data.read(0, 5)["images"], IMAGES)
    assert data.labels is None


def test_npz_for_several_inputs_keeps_the_names(tmp_path):
    path = npz(tmp_path / "eval.npz", ids=np.zeros((5, 7), np.int32), mask=np.ones((5, 7)), labels=LABELS)
    assert set(open_images(path).read(0, 2)) == {"ids", "mask"}


def test_npz_is_not_loaded_when_it_is_opened(tmp_path):
    path = npz(tmp_path / "eval.npz", images=np.zeros((1000, 100, 100), np.uint8), labels=np.zeros(1000, int))
    tracemalloc.start()
    open_images(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # the images are 10 MB


def test_npz_that_would_need_pickle(tmp_path):
    path = npz(tmp_path / "eval.npz", images=np.array([{"a": 1}, None], dtype=object))
    text = message(path)
    assert f"{path} (data): array 'images' would need pickle" in text
    assert "expected: an array of numbers or strings" in text
    assert "found:    dtype object" in text


@pytest.mark.parametrize("labels", [np.array([1, "x", None, 2, 3], dtype=object)])
def test_npz_labels_that_would_need_pickle(tmp_path, labels):
    assert "array 'labels' would need pickle" in message(
        npz(tmp_path / "e.npz", images=IMAGES, labels=labels)
    )


def test_npz_truncated_anywhere_is_one_clear_error(tmp_path):
    whole = npz(tmp_path / "whole.npz", images=IMAGES, labels=LABELS).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        text = message(path)
        assert text.startswith(f"{path} (data): ")
        assert "expected: an archive written by numpy.savez" in text


def test_npz_with_a_damaged_array_names_it(tmp_path):
    path = npz(tmp_path / "eval.npz", images=np.zeros((5, 100, 100), np.uint8), labels=LABELS)
    content = path.read_bytes()
    path.write_bytes(content[:40_000] + b"\xff" + content[40_001:])
    data = open_images(path)
    with pytest.raises(DataError) as info:
        data.read(0, 1)
    assert f"{path} (data): array 'images' cannot be read" in str(info.value)
    assert "expected: an intact array" in str(info.value)
    assert "CRC" in str(info.value)


def test_npz_that_lies_about_its_size(tmp_path):
    path = tmp_path / "eval.npz"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="array 'images' cannot be read"):
        open_images(path).digest()


def test_npz_member_that_is_no_array_is_named(tmp_path):
    path = tmp_path / "eval.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"hello")
    assert "array 'images' cannot be read" in message(path)


@pytest.mark.parametrize("content", [b"", b"hello", pickle.dumps([1, 2])])
def test_npz_that_is_no_archive(tmp_path, content):
    path = tmp_path / "eval.npz"
    path.write_bytes(content)
    text = message(path, role="calibration")
    assert f"{path} (calibration): cannot be read" in text
    assert "found:    BadZipFile" in text


@pytest.mark.parametrize("arrays", [{}, {"labels": LABELS}])
def test_npz_without_images(tmp_path, arrays):
    assert "holds no images" in message(npz(tmp_path / "eval.npz", **arrays))


def test_npz_with_arrays_of_different_length(tmp_path):
    text = message(npz(tmp_path / "eval.npz", a=np.zeros((5, 2)), b=np.zeros((4, 2))))
    assert "the arrays differ in their number of images" in text
    assert "found:    a: 5, b: 4" in text


def test_npz_with_labels_of_different_length(tmp_path):
    text = message(npz(tmp_path / "eval.npz", images=IMAGES, labels=LABELS[:4]))
    assert "expected: 5 labels, as many as images" in text
    assert "found:    4 labels" in text


@pytest.mark.parametrize("shape", [(0, 4, 3), (5, 0, 3)])
def test_empty_data_are_refused(tmp_path, shape):
    empty = np.zeros(shape, np.uint8)
    for source in (npz(tmp_path / "e.npz", images=empty), npy(tmp_path / "e.npy", empty), (empty, LABELS)):
        assert "the data set is empty" in message(source)


def test_array_without_an_axis_of_images(tmp_path):
    assert "array 'version' has no axis" in message(
        npz(tmp_path / "e.npz", images=IMAGES, version=np.array(3))
    )
    assert "array 'images' has no axis" in message(npy(tmp_path / "e.npy", np.array(3)))


def test_npy_pair_is_not_loaded_whole(tmp_path):
    shape = (4_000, 256, 1024)  # a sparse file of 1 GiB
    images = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, shape)
    images[3_999, -1, -1] = 7
    del images
    files = {"images": tmp_path / "x.npy", "labels": npy(tmp_path / "y.npy", np.zeros(4_000, int))}
    tracemalloc.start()
    data = open_images(files)
    last = data.read(3_998, 4_000)["images"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last[1, -1, -1] == 7
    assert peak < 8 * last.nbytes
    assert not isinstance(last, np.memmap)
    assert last.flags.owndata


def test_npy_digest_reads_in_chunks(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (64, 1024, 1024)).flush()
    tracemalloc.start()
    open_images(tmp_path / "x.npy").digest()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_single_npy_has_no_labels(tmp_path):
    data = open_images(npy(tmp_path / "calibration.NPY", IMAGES).with_suffix(".NPY.npy"), role="calibration")
    assert data.labels is None
    np.testing.assert_array_equal(data.read(2, 4)["images"], IMAGES[2:4])


def test_npy_with_labels_of_different_length(tmp_path):
    files = {"images": npy(tmp_path / "x.npy", IMAGES), "labels": npy(tmp_path / "y.npy", LABELS[:3])}
    text = message(files)
    assert text.startswith(f"{tmp_path / 'y.npy'} (data): labels and images differ in number")
    assert f"expected: 5 labels, as many as {tmp_path / 'x.npy'}" in text
    assert "found:    3 labels" in text


def test_npy_missing_truncated_or_pickled(tmp_path):
    assert "expected: an .npy file for array 'images'" in message({"images": tmp_path / "none.npy"})
    path = npy(tmp_path / "x.npy", IMAGES)
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} (data): array 'images' cannot be read" in message(path)
    path.write_bytes(b"")
    assert "cannot be read" in message(path)
    assert "would need pickle" in message(npy(tmp_path / "o.npy", np.array([None, {}], dtype=object)))


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_npy_of_either_format(tmp_path, version):
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, IMAGES, version)
    np.testing.assert_array_equal(open_images(tmp_path / "x.npy").read(0, 5)["images"], IMAGES)


def test_npy_of_records_with_names_beyond_ascii_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="format 3.0"):
        unicode = npy(tmp_path / "u.npy", np.zeros(3, np.dtype([("日", "i4")])))
    assert "arrays of records" in message(unicode)


def test_only_labels_given_as_npy(tmp_path):
    assert "holds no images" in message({"labels": npy(tmp_path / "y.npy", LABELS)})


def test_missing_path_and_unknown_kind(tmp_path):
    text = message(tmp_path / "none.npz", role="calibration")
    assert text.startswith(f"{tmp_path / 'none.npz'} (calibration): no such file or folder")
    assert 'check the path in calibration = "…"' in text
    (tmp_path / "data.csv").write_text("1,2")
    assert "found:    a file ending in '.csv'" in message(tmp_path / "data.csv")


def test_arrays_in_memory():
    data = open_images((IMAGES, LABELS))
    np.testing.assert_array_equal(data.read(0, 5)["images"], IMAGES)
    np.testing.assert_array_equal(data.labels, LABELS)
    assert open_images(IMAGES).labels is None
    assert "would need pickle" in message((np.array([None, 1], dtype=object), np.zeros(2)))


def test_two_pairs_in_a_tuple_are_pairs():
    data = open_images(((IMAGES[0], 1), (IMAGES[1], 2)))
    np.testing.assert_array_equal(data.read(0, 2)["images"], IMAGES[:2])
    np.testing.assert_array_equal(data.labels, [1, 2])


def test_sequence_of_pairs():
    pairs = [(image, np.int64(label)) for image, label in zip(IMAGES, LABELS, strict=True)]
    data = open_images(pairs, classes=["a", "b", "c"])
    assert len(data) == 5
    np.testing.assert_array_equal(data.read(1, 4)["images"], IMAGES[1:4])
    np.testing.assert_array_equal(data.labels, LABELS)
    assert data.digest() == open_images([(image, 0) for image in IMAGES]).digest()
    assert data.digest() != open_images(pairs[::-1]).digest()


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], "the data set is empty"),
        ([(IMAGES[0], 0), IMAGES[1]], "element 1 is no (image, label) pair"),
        ([(IMAGES[0], 0), (IMAGES[1], [1, 2])], "the label of element 1 is no class number"),
        ([(IMAGES[0], 0), (IMAGES[1], None)], "labels are no numbers"),
        ([(object(), 0)], "the image of element 0 is no array of numbers"),
        (3, "cannot be used as a data source"),
    ],
)
def test_sequences_that_cannot_be_used(pairs, expected):
    assert expected in message(pairs)


@pytest.mark.parametrize("other", [IMAGES[1][:2], IMAGES[1].astype(float)])
def test_pairs_of_different_shape_or_dtype(other):
    data = open_images([(IMAGES[0], 0), (other, 1)])
    with pytest.raises(DataError, match="image 1: ") as info:
        data.read(1, 2)
    assert "expected: uint8 (4, 3), as image 0" in str(info.value)


class Own:
    name = "own"
    labels: np.ndarray | None = LABELS
    class_names = None

    def __len__(self):
        return 5

    def read(self, start, stop):
        return {"images": IMAGES[start:stop]}

    def digest(self):
        return "sha256:own"


def test_object_of_the_protocol_is_returned_as_it_is():
    own = Own()
    assert open_images(own) is own
    own.labels = None
    assert open_images(own, classes=["a"]) is own
    own.labels = LABELS[:2]
    assert "own: labels and images differ in number" in message(own)
    own.labels = LABELS
    assert "own: labels[2] is out of range" in message(own, classes=["a", "b"])
    assert "own: resize applies to image folders only" in message(own, spec=InputSpec(resize=8))


def test_empty_object_of_the_protocol_is_refused():
    class Empty(Own):
        def __len__(self):
            return 0

    assert "the data set is empty" in message(Empty())


@pytest.mark.parametrize("key", ["resize", "crop", "color"])
def test_keys_for_image_folders_are_refused_for_arrays(tmp_path, key):
    spec = InputSpec(**{key: "L" if key == "color" else 8})
    path = npz(tmp_path / "eval.npz", images=IMAGES)
    for source in (path, {"images": path}, (IMAGES, LABELS), [(IMAGES[0], 0)]):
        assert f"{key} applies to image folders only" in message(source, spec=spec)


def test_digest_covers_contents_not_the_container_nor_the_labels(tmp_path):
    sources = [npz(tmp_path / "a.npz", images=IMAGES), (IMAGES, LABELS), (IMAGES, LABELS * 0)]
    np.savez_compressed(tmp_path / "b.npz", images=IMAGES, labels=LABELS)
    sources += [tmp_path / "b.npz", npy(tmp_path / "c.npy", IMAGES)]
    assert len({open_images(source).digest() for source in sources}) == 1
    changed = IMAGES.copy()
    changed[-1, -1, -1] += 1
    others = [changed, IMAGES.astype(np.int16), IMAGES.reshape(5, 3, 4), npz(tmp_path / "d.npz", x=IMAGES)]
    digests = {open_images(source).digest() for source in [IMAGES, *others]}
    assert len(digests) == 5


# Labels


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32", "uint64", "float32", "float64"])
def test_labels_of_any_dtype_become_int64(dtype):
    labels = check_labels(np.array([[0], [1], [1]], dtype), 3, classes=["a", "b"], where="f")
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ([0, 1, 2, 9, 10], ["f: labels[3] is out of range", "0 to 2 (3 classes), or -1 for no label", "9"]),
        ([0, -2, -3], ["f: labels[1] is out of range", "0 to 2 (3 classes)", "-2"]),
        ([0, 1.5, 2.5], ["f: labels[1] is no class number", "whole numbers", "1.5"]),
        ([0, 1, np.nan], ["f: labels[2] is no class number", "whole numbers", "nan"]),
        ([0, np.inf], ["f: labels[1] is no class number", "whole numbers", "inf"]),
        (np.array([0, 2**64 - 1], np.uint64), ["f: labels[1] is no class number", "18446744073709551615"]),
        (["a", "b"], ["f: labels are no numbers", "integers", "<U1"]),
        ([[0, 1], [1, 0]], ["f: labels have the wrong shape", "(2,)", "(2, 2)", "labels.argmax(axis=1)"]),
        (np.zeros((2, 2, 2), int), ["f: labels have the wrong shape", "(2, 2, 2)"]),
    ],
)
def test_bad_labels_name_the_first_bad_index(values, lines):
    values = np.asarray(values)
    with pytest.raises(DataError) as info:
        check_labels(values, len(values), classes=["a", "b", "c"], where="f")
    for line in lines:
        assert line in str(info.value)


def test_labels_below_minus_one_are_refused_without_classes():
    with pytest.raises(DataError, match="0 or more, or -1 for no label"):
        check_labels(np.array([-2]), 1, classes=None, where="f")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.integers(-3, 12), min_size=1, max_size=30), st.integers(1, 10))
def test_labels_pass_exactly_if_all_are_in_range(values, classes):
    names = [str(index) for index in range(classes)]
    bad = [index for index, value in enumerate(values) if not -1 <= value < classes]
    if bad:
        with pytest.raises(DataError) as info:
            check_labels(np.array(values), len(values), classes=names, where="f")
        assert f"labels[{bad[0]}] is out of range" in str(info.value)
    else:
        assert check_labels(np.array(values), len(values), classes=names, where="f").tolist() == values

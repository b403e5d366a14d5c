"""What the model is fed: layouts against a naive formula, types, and every refusal."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtcheck.case import InputSpec
from trtcheck.data.preprocess import check_fit, preprocess
from trtcheck.data.sources import open_images
from trtcheck.errors import DataError
from trtcheck.model import Signature, Tensor

RNG = np.random.default_rng(0)


def signature(*inputs) -> Signature:
    """Inputs as (shape, dtype) or (name, shape, dtype)."""
    full = [entry if len(entry) == 3 else ("x", *entry) for entry in inputs]
    return Signature(tuple(Tensor(name, np.dtype(dtype), shape) for name, shape, dtype in full), ())


def feed(array, shape, dtype="float32", spec=InputSpec(), name="images", start=0):  # noqa: B008
    return preprocess({name: array}, signature((shape, dtype)), spec, where="eval.npz", start=start)["x"]


def message(*args, **kwargs) -> str:
    with pytest.raises(DataError) as info:
        feed(*args, **kwargs)
    text = str(info.value)
    assert text.startswith("eval.npz: ")
    return text


def integers(*shape, dtype="uint8"):
    return RNG.integers(0, 256, shape).astype(dtype)


# Layouts


@settings(deadline=None)
@given(
    data=st.data(),
    images=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(5, 7),
    width=st.integers(5, 7),
    data_layout=st.sampled_from(["NHW", "NHWC", "NCHW"]),
    model_layout=st.sampled_from(["NHWC", "NCHW"]),
    stated=st.booleans(),
    open_sides=st.booleans(),
    per_channel=st.booleans(),
)
def test_any_layout_into_any_other_equals_the_naive_formula(
    data, images, channels, height, width, data_layout, model_layout, stated, open_sides, per_channel
):
    channels = 1 if data_layout == "NHW" else channels
    nhwc = integers(images, height, width, channels)
    array = {"NHW": nhwc[..., 0], "NHWC": nhwc, "NCHW": nhwc.transpose(0, 3, 1, 2)}[data_layout]
    sides = (None, None) if open_sides else (height, width)
    shape = (None, *sides, channels) if model_layout == "NHWC" else (None, channels, *sides)
    numbers = st.floats(0.125, 2.0, width=32)
    count = channels if per_channel else 1
    mean = tuple(data.draw(st.lists(numbers, min_size=count, max_size=count)))
    std = tuple(data.draw(st.lists(numbers, min_size=count, max_size=count)))
    layout = data_layout if stated and data_layout != "NHW" else None
    found = feed(array, shape, spec=InputSpec(layout=layout, scale=1 / 255, mean=mean, std=std))

    naive = np.empty(nhwc.shape, np.float64)
    for channel in range(channels):
        scaled = nhwc[..., channel] / 255
        naive[..., channel] = (scaled - mean[channel % count]) / std[channel % count]
    expected = naive if model_layout == "NHWC" else naive.transpose(0, 3, 1, 2)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(None, None, None, None), (None, 1, 4, 5), (1, 1, 4, 5), (None, 4, 5, 1)])
def test_greyscale_gains_a_channel(shape):
    array = integers(2, 4, 5)
    expected = array[..., None] if shape[3] == 1 else array[:, None]
    np.testing.assert_array_equal(feed(array, shape), expected)


def test_stated_layout_with_an_open_model_goes_to_nchw():
    array = integers(2, 4, 5, 3)
    for shape in [(None,) * 4, None]:
        found = feed(array, shape, spec=InputSpec(layout="NHWC"))
        np.testing.assert_array_equal(found, array.transpose(0, 3, 1, 2))


def test_unstated_layout_that_fits_is_fed_as_it_is():
    array = integers(2, 4, 5, 3)
    for shape in [(None,) * 4, None, (None, 4, 5, 3)]:
        np.testing.assert_array_equal(feed(array, shape), array)


def test_mean_meets_the_channels_of_data_that_fit_as_they_are():
    array = integers(2, 4, 5, 3)
    mean = (1.0, 2.0, 3.0)
    found = feed(array, (None, None, None, 3), spec=InputSpec(mean=mean))
    np.testing.assert_array_equal(found, array - np.array(mean, np.float32))
    channels_first = feed(array.transpose(0, 3, 1, 2), (None, 3, None, None), spec=InputSpec(mean=mean))
    np.testing.assert_array_equal(channels_first, found.transpose(0, 3, 1, 2))


def test_layout_that_cannot_be_told_is_refused():
    text = message(integers(1, 4, 3, 3), (None, 3, None, None))
    assert "fits the model's input 'x' in two layouts" in text
    assert 'set layout = "NHWC" or "NCHW"' in text


def test_integer_images_are_laid_out_too():
    array = integers(2, 4, 5, 3)
    found = feed(array, (None, 3, 4, 5), "uint8")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("array", [integers(3, 7, dtype="int64"), integers(3), integers(2, 3, 4, 5, 6)])
def test_other_ranks_are_fed_as_they_are(array):
    shape = (None, *array.shape[1:])
    found = feed(array, shape, "int32", name="tokens")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, array)


def test_shape_mismatch_names_array_layout_and_both_shapes():
    text = message(integers(2, 28, 28), (None, 3, 32, 32))
    assert "array 'images' does not fit the model's input 'x'" in text
    assert "expected: x: float32[?, 3, 32, 32] (NCHW)" in text
    assert "found:    images: uint8[N, 28, 28]" in text
    assert "expected: x: float32[?, 32, 32, 3] (NHWC)" in message(integers(2, 28, 28), (None, 32, 32, 3))
    assert "found:    images: uint8[N, 28, 28]" in message(integers(2, 28, 28), (None, 784))
    assert "found:    images: uint8[N]" in message(integers(2), ())


def test_wrongly_stated_layout_is_hinted_at():
    text = message(integers(2, 32, 32, 3), (None, 3, 32, 32), spec=InputSpec(layout="NCHW"))
    assert "found:    images: uint8[N, 32, 32, 3] (NCHW)" in text
    assert 'layout = "NHWC" under [models.<name>.input] would fit' in text
    assert "unknown layout" in message(integers(2, 4, 4, 3), (None, 3, 4, 4), spec=InputSpec(layout="HWC"))


@pytest.mark.parametrize(
    ("shape", "stated", "right"), [((3, 8, 9), "NHWC", "NCHW"), ((8, 9, 3), "NCHW", "NHWC")]
)
def test_a_wrongly_stated_layout_is_not_overruled_where_height_and_width_are_open(shape, stated, right):
    text = message(integers(2, *shape), (None, 3, None, None), spec=InputSpec(layout=stated))
    assert f'layout = "{right}" under [models.<name>.input] would fit' in text


def test_images_of_another_size_are_not_blamed_on_the_layout():
    text = message(integers(2, 8, 9, 3), (None, 3, 32, 32), spec=InputSpec(layout="NHWC"))
    assert "size and channels that the model wants" in text
    assert "layout =" not in text.splitlines()[-1]


# Names


def test_single_input_takes_its_name_then_images_then_the_only_array():
    own, images = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    model = signature(((None, 2), "float32"))
    for arrays, expected in [
        ({"images": images, "x": own}, own),
        ({"images": images, "ids": own}, images),
        ({"anything": own}, own),
    ]:
        found = preprocess(arrays, model, InputSpec(), where="f", start=0)["x"]
        np.testing.assert_array_equal(found, expected)


def test_arrays_that_are_not_the_inputs_are_listed():
    one = np.zeros((1, 2), np.float32)
    single = signature(((None, 2), "float32"))
    double = signature(("a", (None, 2), "float32"), ("b", (None, 2), "float32"))
    for model, arrays, expected in [
        (single, {"p": one, "q": one}, ["expected: x (or images)", "found:    p, q"]),
        (double, {"a": one}, ["expected: a, b", "found:    a"]),
        (double, {"a": one, "b": one, "c": one}, ["expected: a, b", "found:    a, b, c"]),
        (double, {}, ["found:    no array"]),
    ]:
        with pytest.raises(DataError) as info:
            preprocess(arrays, model, InputSpec(), where="f", start=0)
        assert all(line in str(info.value) for line in expected)


def test_several_inputs_normalise_the_float_images_alone():
    model = signature(
        ("img", (None, 3, 4, 4), "float32"), ("ids", (None, 2), "int32"), ("meta", (None, 2), "float32")
    )
    arrays = {"ids": integers(2, 2), "img": integers(2, 4, 4, 3), "meta": integers(2, 2)}
    feeds = preprocess(arrays, model, InputSpec(scale=0.5), where="f", start=0)
    assert list(feeds) == ["img", "ids", "meta"]
    np.testing.assert_array_equal(feeds["img"], arrays["img"].transpose(0, 3, 1, 2) * np.float32(0.5))
    np.testing.assert_array_equal(feeds["ids"], arrays["ids"])
    np.testing.assert_array_equal(feeds["meta"], arrays["meta"])


# The formula's numbers


def test_scale_without_mean_for_other_ranks():
    array = integers(2, 7)
    np.testing.assert_array_equal(feed(array, (None, 7), spec=InputSpec(scale=0.5)), array / 2)


@pytest.mark.parametrize("key", ["mean", "std"])
def test_mean_and_std_have_one_number_or_one_a_channel(key):
    text = message(integers(2, 4, 4, 3), (None, 3, 4, 4), spec=InputSpec(**{key: (1.0, 2.0)}))
    assert f"{key} does not fit the channels of 'images'" in text
    assert "expected: 1 or 3 numbers" in text
    assert "found:    2 numbers" in text
    text = message(integers(2, 7), (None, 7), spec=InputSpec(**{key: (1.0, 2.0)}))
    assert "expected: 1 number\n" in text


@pytest.mark.parametrize(
    "spec",
    [InputSpec(std=(1.0, 0.0)), InputSpec(std=(np.nan,)), InputSpec(mean=(np.inf,)), InputSpec(scale=np.nan)],
)
def test_numbers_that_cannot_be_used(spec):
    assert "cannot be used" in message(integers(2, 4, 4, 2), (None, 2, 4, 4), spec=spec)


@pytest.mark.parametrize("spec", [InputSpec(scale=0.5), InputSpec(mean=(0.0,)), InputSpec(std=(1.0,))])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_formula_for_an_integer_model_is_refused(spec, dtype):
    text = message(integers(2, 4, 4), (None, 1, 4, 4), dtype, spec=spec)
    assert "scale, mean and std need a floating-point input" in text
    assert f"found:    x: {dtype}[?, 1, 4, 4]" in text


# Types


@pytest.mark.parametrize("model", ["float16", "float32", "float64", ml_dtypes.bfloat16])
@pytest.mark.parametrize("data", ["bool", "uint8", "int16", "int64", "float16", "float32", "float64", ">f4"])
def test_numbers_go_into_floats(data, model):
    array = integers(2, 3).astype(data)
    for spec in (InputSpec(), InputSpec(scale=0.5)):
        found = feed(array, (None, 3), model, spec=spec)
        assert found.dtype == np.dtype(model)
        np.testing.assert_array_equal(found, (array * np.float64(spec.scale)).astype(model))


def test_floats_do_not_go_into_integers():
    text = message(np.zeros((2, 3), np.float32), (None, 3), "int32")
    assert "expected: integers, for x: int32[?, 3]" in text
    assert "found:    images: float32[N, 3]" in text


@pytest.mark.parametrize(
    ("values", "dtype", "expected", "found"),
    [
        ([[1], [2**31]], "int32", "-2147483648 to 2147483647", "2147483648"),
        ([[1], [-1]], "uint8", "0 to 255", "-1"),
        ([[1], [2]], "bool", "0 to 1", "2"),
    ],
)
def test_integers_must_fit(values, dtype, expected, found):
    text = message(np.array(values), (None, 1), dtype, start=40)
    assert f"images[41] does not fit {dtype}" in text
    assert f"expected: {expected}" in text
    assert f"found:    {found}" in text
    good = feed(np.array([[1], [0]]), (None, 1), dtype)
    assert good.dtype == np.dtype(dtype)
    assert good.tolist() == [[1], [0]]


def test_bool_goes_into_bool():
    assert feed(np.array([True, False]), (None,), "bool").tolist() == [True, False]


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "Inf"), (-np.inf, "Inf")])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_and_inf_are_named_with_their_index(value, word, dtype):
    array = np.zeros((4, 3, 5, 5), dtype)
    array[1, 2, 0, 0] = value
    array[3] = np.nan
    text = message(array, (None, 3, 5, 5), start=16)
    assert text.startswith(f"eval.npz: images[17] holds {word}")
    assert "found:    1 of its 75 values are not finite" in text


@pytest.mark.parametrize(
    ("value", "spec", "dtype", "limit"),
    [
        (70_000.0, InputSpec(), "float16", "65504"),
        (70_000, InputSpec(), "float16", "65504"),
        (1e300, InputSpec(), "float32", "3.40282e+38"),
        (1e300, InputSpec(scale=0.5), "float32", "3.40282e+38"),
        (1.0, InputSpec(scale=1e38, std=(1e-38,)), "float64", "1.79769e+308"),
        (255, InputSpec(scale=300.0), "float16", "65504"),
    ],
)
def test_values_beyond_the_inputs_range_are_named(value, spec, dtype, limit):
    text = message(np.array([[0], [value]]), (None, 1), dtype, spec=spec, start=5)
    assert f"images[6] leaves the range of {dtype} after preprocessing" in text
    assert f"expected: values within {limit} of zero" in text


def test_strings_go_into_string_inputs_alone():
    for array in (np.array([["grün"], ["b"]]), np.array([["grün".encode()], [b"b"]])):
        found = feed(array, (None, 1), "O")
        assert found.dtype == object
        assert found.tolist() == [["grün"], ["b"]]
        assert all(type(value) is str for value in found.flat)
    assert "expected: numbers" in message(np.array([["a"]]), (None, 1))
    assert "expected: strings" in message(integers(2, 1), (None, 1), "O")
    assert "not UTF-8" in message(np.array([[b"\xff"]]), (None, 1), "O")


@pytest.mark.parametrize("dtype", ["complex64", "M8[s]", [("a", "i4")]])
@pytest.mark.parametrize("model", ["float32", "int32"])
def test_types_that_no_input_takes(dtype, model):
    assert "wrong type" in message(np.zeros((2, 3), dtype), (None, 3), model)


# The early check


def test_check_fit_uses_the_first_image():
    images = integers(3, 8, 8, 3)
    data = open_images((images, np.zeros(3, int)))
    check_fit(data, signature(((None, 3, 8, 8), "float32")), InputSpec())
    check_fit(data, signature(((4, 3, 8, 8), "float32")), InputSpec())
    with pytest.raises(DataError, match=r"data: array 'images' does not fit"):
        check_fit(data, signature(((None, 3, 9, 9), "float32")), InputSpec())


def test_check_fit_refuses_inputs_of_contradicting_batch_size():
    data = open_images(integers(3, 2))
    with pytest.raises(DataError, match="differ in their batch size"):
        check_fit(data, signature(("a", (1, 2), "f4"), ("b", (None, 2), "f4")), InputSpec())

"""Recorded outputs: every format read, every recording that cannot be right refused."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import suite_models
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.comparator import Comparator, RunResults
from recordings_fake_trtexec import output_json, times_json

from trtcheck.case import InputSpec
from trtcheck.errors import EngineError
from trtcheck.model import Tensor
from trtcheck.recordings import RecordedEngine, check, facts, inputs_digest, read_recording

SCORES = (Tensor("scores", np.dtype(np.float32), (None, 4)),)
DIGEST = "sha256:" + "0" * 64


def saved(path: Path, **arrays: Any) -> Path:
    """An .npz with *arrays* at *path*."""
    np.savez(path, **arrays)
    return path


def scores(rows: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def sidecar(recording: Path, text: str) -> Path:
    """A sidecar of *recording*."""
    folder = recording.is_dir()
    return written(recording / "recording.toml" if folder else recording.with_suffix(".recording.toml"), text)


def checked(
    path: Path, images: int, digest: str = DIGEST, outputs: tuple[Tensor, ...] = SCORES
) -> tuple[str, ...]:
    return check(read_recording(path, outputs), images=images, inputs_digest=digest, outputs=outputs)


def refused(call: Callable[[], object], *texts: str) -> str:
    """The message of the EngineError that *call* ends in, which holds *texts*."""
    with pytest.raises(EngineError) as caught:
        call()
    message = str(caught.value)
    for text in texts:
        assert text in message
    return message


def polygraphy_results(folder: Path, feeds: list[dict[str, np.ndarray]]) -> RunResults:
    """What Polygraphy's own comparator makes of ONNX Runtime and the classifier, one iteration a batch."""
    session = onnxruntime.InferenceSession(
        suite_models.classifier().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return Comparator.run([OnnxrtRunner(lambda: session, name="device")], data_loader=feeds)


def images(count: int = 10) -> np.ndarray:
    return suite_models.images(count)[0].astype(np.float32).reshape(count, 1, 8, 8) / 255


# Formats


def test_an_npz_is_read_as_it_is(tmp_path: Path) -> None:
    half = scores().astype(np.float16)
    read = read_recording(saved(tmp_path / "board.npz", scores=half, extra=np.arange(6)), SCORES)
    assert read.format == "npz"
    assert read.outputs["scores"].dtype == np.float16
    np.testing.assert_array_equal(read.outputs["scores"], half)
    assert read.outputs["extra"].dtype == np.int64
    assert (read.images, read.rows, read.batch) == (6, 6, None)


def test_trtexec_s_documented_output_is_read(tmp_path: Path) -> None:
    # As samples/common/sampleReporting.cpp prints it, down to the line breaks.
    text = (
        '[\n  { "name" : "scores"\n  , "dimensions" : "2x4"\n'
        '  , "values" : [ 0.0435101, -1e-07, 1, inf, nan, -inf, -nan, 3.40282e+38 ]\n  }\n'
        ', { "name" : "kind, of"\n  , "dimensions" : "2"\n  , "values" : [ 3, 40000000000 ]\n  }\n]\n'
    )
    kinds = (*SCORES, Tensor("kind, of", np.dtype(np.int64), (None,)))
    read = read_recording(written(tmp_path / "board.json", text), kinds)
    assert read.format == "trtexec"
    expected = np.array([[0.0435101, -1e-7, 1, np.inf], [np.nan, -np.inf, np.nan, 3.40282e38]], np.float32)
    np.testing.assert_array_equal(read.outputs["scores"], expected)
    assert read.outputs["scores"].dtype == np.float32
    np.testing.assert_array_equal(read.outputs["kind, of"], [3, 40_000_000_000])
    assert read.outputs["kind, of"].dtype == np.int64


def test_numbers_without_a_json_name_are_told_from_names_that_look_like_them(tmp_path: Path) -> None:
    text = '[{"name": "a nan, -inf, b", "dimensions": "1x3", "values": [-nan(ind), Infinity, -INF]}]'
    read = read_recording(written(tmp_path / "board.json", text))
    assert list(read.outputs) == ["a nan, -inf, b"]
    np.testing.assert_array_equal(read.outputs["a nan, -inf, b"], [[np.nan, np.inf, -np.inf]])


def test_trtexec_s_whole_numbers_are_floats_unless_the_model_says_otherwise(tmp_path: Path) -> None:
    path = written(tmp_path / "board.json", output_json({"scores": np.eye(4, dtype=np.float32)}))
    assert read_recording(path, SCORES).outputs["scores"].dtype == np.float32
    for wanted in (np.int32, np.uint8, np.bool_):
        tensors = (Tensor("scores", np.dtype(wanted), (None, 4)),)
        assert read_recording(path, tensors).outputs["scores"].dtype == wanted
    beyond = written(tmp_path / "beyond.json", output_json({"scores": np.array([[0.0, 300.0]])}))
    tensors = (Tensor("scores", np.dtype(np.uint8), (None, 2)),)
    assert read_recording(beyond, tensors).outputs["scores"].dtype == np.float32


def test_a_folder_of_trtexec_files_is_joined_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    whole = scores(24)
    whole[4:6] = 1.0  # a batch that trtexec prints as whole numbers
    for number in range(12):
        batch = {"scores": whole[2 * number : 2 * number + 2]}
        written(tmp_path / f"batch-{number}.json", output_json(batch))
    written(tmp_path / "notes.txt", "not a recording")
    read = read_recording(tmp_path, SCORES)
    np.testing.assert_allclose(read.outputs["scores"], whole, rtol=1e-5)
    np.testing.assert_array_equal(read.outputs["scores"][4:6], 1.0)
    assert read.outputs["scores"].dtype == np.float32
    assert [file.name for file in read.files][:3] == ["batch-0.json", "batch-1.json", "batch-2.json"]
    assert read.files[-1].name == "batch-11.json"
    assert read.batch == 2


@pytest.mark.parametrize("form", ["file", "folder"])
def test_polygraphy_s_own_results_are_read_bit_for_bit(tmp_path: Path, form: str) -> None:
    pixels = images(10)
    results = polygraphy_results(tmp_path, [{"images": pixels[k : k + 4]} for k in (0, 4, 8)])
    expected = np.concatenate([one["scores"] for one in results["device"]])
    target = tmp_path / "board.json"
    if form == "file":
        results.save(str(target))
    else:
        target = tmp_path / "board"
        target.mkdir()
        for number, one in enumerate(results.split()):
            one.save(str(target / f"{number:010d}.json"))
    read = read_recording(target, SCORES)
    assert read.format == "polygraphy"
    assert len(expected) == 10
    np.testing.assert_array_equal(read.outputs["scores"], expected)
    assert checked(target, 10)[0].startswith("the recording has no sidecar")


def test_integers_saved_as_floats_become_what_the_model_has(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", answer=np.array([3.0, 1.0]))
    wanted = (Tensor("answer", np.dtype(np.int64), (None,)),)
    assert read_recording(path, wanted).outputs["answer"].dtype == np.int64
    path = saved(tmp_path / "half.npz", answer=np.array([3.5, 1.0]))
    assert read_recording(path, wanted).outputs["answer"].dtype == np.float64


# Sidecar and times


def test_the_sidecar_says_where_it_comes_from(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", logits=scores())
    written(tmp_path / "t.json", times_json([float(k) for k in range(1, 101)]))
    sidecar(
        path,
        f'device = "Orin"\nruntime = "TensorRT 10.3"\nprecision = "fp16"\nimages = 6\ntimes = "t.json"\n'
        f'inputs_digest = "{DIGEST}"\noutputs = {{logits = "scores"}}\n',
    )
    assert checked(path, 6) == ()
    told = facts(read_recording(path, SCORES))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["device"], told["runtime"], told["precision"]) == ("Orin", "TensorRT 10.3", "fp16")
    assert told["outputs"] == [{"name": "scores", "dtype": "float32", "shape": [6, 4]}]
    assert (told["format"], told["images"], told["files"]) == ("npz", 6, 1)
    latency = told["times"]["latency"]
    assert told["times"]["samples"] == 100
    assert told["times"]["transfers"] is True
    # Nearest rank, as trtexec has it: of 1 to 100 ms the 90th, 95th and 99th.
    assert (latency["p90_ms"], latency["p95_ms"], latency["p99_ms"]) == (90.0, 95.0, 99.0)
    assert (latency["median_ms"], latency["mean_ms"]) == (50.5, 50.5)
    assert told["times"]["compute"]["p90_ms"] == pytest.approx(72.0)


@pytest.mark.parametrize("version", [7, 8, 10, 11])
def test_times_of_every_version_of_trtexec_are_read(tmp_path: Path, version: int) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    moved = version < 11  # 11 times no transfers unless asked to
    for name in ("a.json", "b.json"):
        written(tmp_path / name, times_json([2.0, 4.0], transfers=moved, version=version))
    sidecar(path, 'times = ["a.json", "b.json"]')
    times = read_recording(path).times
    assert times is not None
    np.testing.assert_allclose(times.latency_ms, [2, 4, 2, 4])
    np.testing.assert_allclose(times.compute_ms, np.array([2, 4, 2, 4]) * (0.8 if moved else 1.0), rtol=1e-6)
    assert times.transfers is moved


def test_times_with_and_without_transfers_do_not_go_together(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    written(tmp_path / "a.json", times_json([2.0, 4.0]))
    written(tmp_path / "b.json", times_json([2.0, 4.0], transfers=False))
    sidecar(path, 'times = ["a.json", "b.json"]')
    refused(
        lambda: read_recording(path), "b.json: the files of times were not made alike",
        "expected: times with transfers, as a.json", "found:    times without transfers",
    )  # fmt: skip


def test_one_query_with_transfers_does_not_stand_for_a_run_without(tmp_path: Path) -> None:
    # trtexec 11 copies the inputs of its first query whatever it is told; --warmUp=0 leaves that in the file.
    path = saved(tmp_path / "board.npz", scores=scores())
    first = {"computeMs": 2.0, "latencyMs": 2.5, "h2dMs": 0.5, "d2hMs": 0}
    rest = {"computeMs": 2.0, "latencyMs": 2.0, "h2dMs": 0, "d2hMs": 0}
    written(tmp_path / "t.json", json.dumps([first, rest, rest]))
    sidecar(path, 'times = "t.json"')
    times = read_recording(path).times
    assert times is not None
    assert times.transfers is False


def test_times_inside_a_folder_are_no_outputs(tmp_path: Path) -> None:
    written(tmp_path / "0000.json", output_json({"scores": scores()}))
    written(tmp_path / "times.json", times_json([1.0]))
    written(tmp_path / "laps.json", times_json([1.0]))
    refused(lambda: read_recording(tmp_path), "laps.json and 0000.json", 'in the sidecar: times = "…"')
    refused(lambda: read_recording(tmp_path / "laps.json"), "trtexec's times, not its outputs", "times =")
    sidecar(tmp_path, 'times = "laps.json"')
    assert read_recording(tmp_path).rows == 6


def test_a_folder_that_lost_its_sidecar_still_holds_the_times_of_run_sh(tmp_path: Path) -> None:
    written(tmp_path / "0000.json", output_json({"scores": scores()}))
    written(tmp_path / "times.json", times_json([1.0]))
    assert read_recording(tmp_path).rows == 6


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('devise = "Orin"', ("unknown key devise", "did you mean device?")),
        ("images = 0", ("images has a wrong value", "1 or more", "0 (int)")),
        ("images = true", ("images has a wrong value",)),
        ("device = 3", ("device has a wrong value", "a string")),
        ("times = []", ("times has a wrong value",)),
        ('times = ["a", 1]', ("times has a wrong value",)),
        ("cuda_graph = 1", ("cuda_graph has a wrong value", "true or false", "1 (int)")),
        ('spin_wait = "yes"', ("spin_wait has a wrong value",)),
        ("power_w = 0", ("power_w has a wrong value", "watts, a number above 0")),
        ("power_w = true", ("power_w has a wrong value",)),
        ("power_w = nan", ("power_w has a wrong value",)),
        ("power_w = inf", ("power_w has a wrong value",)),
        (f"power_w = 1{'0' * 400}", ("power_w has a wrong value",)),
        ("outputs = {a = 1}", ("outputs has a wrong value",)),
        ('outputs = {a = "x", b = "x"}', ("outputs has a wrong value", "each once")),
        ('outputs = {logits = "scores"}', ("'logits', which the recording does not have", "scores")),
        ("device = ", ("is no valid TOML", "board.recording.toml")),
    ],
)
def test_a_wrong_sidecar_is_refused(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    sidecar(path, text)
    refused(lambda: read_recording(path), *parts)


def test_times_that_are_not_there_are_a_note(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    sidecar(path, f'device = "Orin"\ninputs_digest = "{DIGEST}"\ntimes = "times.json"')
    assert checked(path, 6) == ("times.json is not there: no times are shown",)
    assert facts(read_recording(path))["times"] is None
    written(tmp_path / "a.json", times_json([2.0]))
    sidecar(path, f'device = "Orin"\ninputs_digest = "{DIGEST}"\ntimes = ["a.json", "b.json"]')
    assert checked(path, 6) == ("b.json is not there: only the other files' times are shown",)
    assert facts(read_recording(path))["times"]["samples"] == 1


def test_two_outputs_cannot_be_given_one_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores(), logits=scores())
    sidecar(path, 'outputs = {logits = "scores"}')
    refused(lambda: read_recording(path), "two outputs are given one name")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[]", ("holds no times",)),
        ('{"a": 1}', ("holds no times", "an object")),
        ('[{"computeMs": 1}]', ("holds no times", "computeMs")),
        ('[{"computeMs": 1, "latencyMs": nan}]', ("entry 0 is no time", "nan")),
        ('[{"computeMs": 1, "latencyMs": 1}, {"computeMs": -1, "latencyMs": 1}]', ("entry 1 is no time",)),
        ('[{"computeMs": 0, "latencyMs": 0}]', ("entry 0 is no time",)),
        ('[{"computeMs": "1", "latencyMs": 1}]', ("entry 0 is no time",)),
        ("[", ("is no valid JSON",)),
    ],
)
def test_wrong_times_are_refused(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    sidecar(path, 'times = "t.json"')
    written(tmp_path / "t.json", text)
    refused(lambda: read_recording(path), "t.json", *parts)


# Refusals of files

ONE = '{"name": "a", "dimensions": "1", "values": [1]}'


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("is no valid JSON",)),
        ("[]", ("are no outputs of trtexec", "a list without entries")),
        ("7", ("are no outputs of trtexec", "7")),
        ('[{"name": "a"}]', ("are no outputs of trtexec", "entry 0: name")),
        ('[{"name": "a", "dimensions": "2x2", "values": [1, 2, 3]}]', ("4 values for 2x2", "found:    3")),
        ('[{"name": "a", "dimensions": "", "values": [1]}]', ("'a' has no axis of images", "dimensions ''")),
        ('[{"name": "a", "dimensions": "()", "values": [1]}]', ("'a' has no axis of images",)),
        ('[{"name": "a", "dimensions": "-1x4", "values": [1]}]', ("'a' has no axis of images", "-1x4")),
        ('[{"name": "a", "dimensions": "1", "values": ["1"]}]', ("'a' has values that are no numbers",)),
        ('[{"name": "a", "dimensions": "1", "values": [true]}]', ("no numbers", "value 0: True")),
        (
            '[{"name": "a", "dimensions": "7", "values": [1, 2, 3, 4, 5, 6, true]}]',
            ("no numbers", "found:    value 6: True"),
        ),
        (
            '[{"name": "a", "dimensions": "7", "values": [1.5, 2, 3, 4, 5, "6", 7]}]',
            ("no numbers", "found:    value 5: a string"),
        ),
        (f'[{{"name": "a", "dimensions": "2", "values": [1, 1{"0" * 30}]}}]', ("no numbers", "value 1: 10")),
        ('[{"name": "a", "dimensions": "1", "values": [[1]]}]', ("no numbers",)),
        ('[{"name": "a", "dimensions": "2", "values": [1, [1]]}]', ("no numbers",)),
        ('[{"name": "a", "dimensions": "1", "values": {}}]', ("no numbers",)),
        (f"[{ONE}, {ONE}]", ("output 'a' is named twice",)),
        ('[{"name": "a", "dimensions": "0x4", "values": []}]', ("one row an image", "a: 0")),
        (f'[{ONE}, {{"name": "b", "dimensions": "2", "values": [1, 2]}}]', ("one row an", "a: 1, b: 2")),
        ('[{"name": "a", "dimensions": "-1", "values": [ Final shape is 2 reported by the output allocator.\n'
         "1, 2 ]}]", ("depends on the data", "Polygraphy")),
        ("[" * 100_000, ("cannot be read as JSON",)),
        ('{"a": 1}', ("are no run results of Polygraphy",)),
        ('{"lst": [], "polygraphy_class": "RunResults"}', ("one runner", "no runner")),
        ('{"lst": [["a", []]], "polygraphy_class": "RunResults"}', ("one runner", "'a' with 0 iterations")),
    ],
)  # fmt: skip
def test_a_malformed_json_file_is_refused(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    path = written(tmp_path / "board.json", text)
    refused(lambda: read_recording(path), "board.json", *parts)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    text = output_json({"scores": scores()})
    path = written(tmp_path / "board.json", text[: len(text) // 2])
    refused(lambda: read_recording(path), "is no valid JSON", "wrote to the end")


def test_polygraphy_results_of_two_runners_are_refused(tmp_path: Path) -> None:
    results = RunResults()
    results.add([{"scores": scores()}], runner_name="trt")
    results.add([{"scores": scores()}], runner_name="onnxrt")
    results.save(str(tmp_path / "board.json"))
    refused(lambda: read_recording(tmp_path / "board.json"), "one runner", "'trt' with 1", "'onnxrt' with 1")


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    data = path.read_bytes()
    for damaged in (b"", data[:100], data[:-30], b"PK" + data[50:]):
        path.write_bytes(damaged)
        refused(lambda: read_recording(path), "board.npz", "cannot be read", "numpy.savez")
    with path.open("wb") as file:
        np.save(file, scores())
    refused(lambda: read_recording(path), "cannot be read", "a single array")


def test_what_is_no_numbers_is_refused(tmp_path: Path) -> None:
    refused(
        lambda: read_recording(saved(tmp_path / "a.npz", s=np.array(["x"]))), "'s' holds no numbers", "<U1"
    )
    refused(
        lambda: read_recording(saved(tmp_path / "b.npz", s=np.array([{}]))), "cannot be read", "allow_pickle"
    )
    refused(lambda: read_recording(saved(tmp_path / "c.npz", s=np.float32(3))), "no axis of images")
    refused(lambda: read_recording(saved(tmp_path / "d.npz")), "holds no output")
    refused(lambda: read_recording(saved(tmp_path / "e.npz", trtcheck_index=np.arange(3))), "holds no output")
    index = np.array([0.5, 1])
    refused(lambda: read_recording(saved(tmp_path / "f.npz", s=index, trtcheck_index=index)), "image numbers")
    refused(lambda: read_recording(tmp_path / "gone.npz"), "no such file")


def test_a_folder_without_order_is_refused(tmp_path: Path) -> None:
    refused(lambda: read_recording(tmp_path), "holds no recorded outputs", "an empty folder")
    for name in ("a.npz", "b.npz"):
        saved(tmp_path / name, scores=scores())
    refused(lambda: read_recording(tmp_path), "order of the files is not clear", "a.npz and b.npz")


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("0.npz", "1.npz", "3.npz"), ("a batch is missing after 1.npz", "3.npz comes next")),
        (("01.npz", "1.npz"), ("order of the files is not clear", "01.npz and 1.npz")),
        (("b1.npz", "c2.npz"), ("order of the files is not clear",)),
        (
            ("1_2.npz", "2_1.npz"),
            ("order of the files is not clear", "in one number alone", "1_2.npz and 2_1"),
        ),
        (("0_119.npz", "240_359.npz"), ("order of the files is not clear", "0_119.npz and 240_359.npz")),
        (("1_1.npz", "1_2.npz", "1_4.npz"), ("a batch is missing after 1_2.npz",)),
    ],
)
def test_a_gap_in_a_folder_is_refused(tmp_path: Path, names: tuple[str, ...], parts: tuple[str, ...]) -> None:
    for name in names:
        saved(tmp_path / name, scores=scores())
    refused(lambda: read_recording(tmp_path), *parts)


def test_batches_that_differ_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "0.npz", scores=scores())
    for other in (scores()[:, :3], scores().astype(np.float16)):
        saved(tmp_path / "1.npz", scores=other)
        refused(lambda: read_recording(tmp_path), "batch 1 differs from the first one", "float32[N, 4]")
    saved(tmp_path / "1.npz", logits=scores())
    refused(lambda: read_recording(tmp_path), "batch 1 differs", "logits")
    (tmp_path / "1.npz").unlink()
    written(tmp_path / "1.json", output_json({"scores": scores()}))
    refused(lambda: read_recording(tmp_path), "of different kinds", "1.json: trtexec")


# Refusals of what does not fit the case


def test_another_count_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores(6))
    refused(lambda: checked(path, 7), "one row an image", "7 rows", "found:    6 rows")
    refused(lambda: checked(path, 5), "5 rows", "images = 5, batch =")
    sidecar(path, "images = 5")
    refused(lambda: checked(path, 6), "another number of images", "images = 6", "images = 5")
    refused(lambda: checked(path, 5), "one row an image")  # a batch of unknown size was not padded


def test_a_missing_first_file_is_told(tmp_path: Path) -> None:
    for number in (1, 2):
        saved(tmp_path / f"board-{number:04d}.npz", scores=scores(4, number))
    sidecar(tmp_path, "images = 10\nbatch = 4\n")
    refused(
        lambda: checked(tmp_path, 10), "10 rows, as the evaluation data have images: 3 files of up to 4 rows",
        "found:    8 rows of 2 files, numbered from 1", "is the first batch missing?",
    )  # fmt: skip
    (tmp_path / "board-0002.npz").unlink()
    refused(lambda: checked(tmp_path, 10), "4 rows of 1 file, numbered from 1", "is the first batch missing?")


def test_padding_is_cut_where_the_sidecar_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores(8))
    sidecar(path, "images = 5\nbatch = 4\n")
    notes = checked(path, 5)
    assert "the last 3 of 8 recorded rows are padding and were cut off" in notes
    answers = RecordedEngine(read_recording(path)).infer({"x": np.zeros((5, 1))})["scores"]
    np.testing.assert_array_equal(answers, scores(8)[:5])
    sidecar(path, "images = 4\nbatch = 4\n")
    refused(lambda: checked(path, 4), "one row an image")  # a whole batch more is no padding


def test_a_folder_s_batch_is_that_of_its_first_file(tmp_path: Path) -> None:
    for number in range(2):
        saved(tmp_path / f"{number}.npz", scores=scores(4, number))
    refused(lambda: checked(tmp_path, 5), "8 rows of 2 files")
    sidecar(tmp_path, "images = 5")
    assert "the last 3 of 8" in " ".join(checked(tmp_path, 5))


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    sidecar(path, f'device = "Orin"\ninputs_digest = "{DIGEST}"')
    assert checked(path, 6) == ()
    other = inputs_digest(DIGEST, InputSpec(scale=2.0))
    assert other != inputs_digest(DIGEST, InputSpec())
    refused(lambda: checked(path, 6, other), "made of other inputs", other, DIGEST)
    elsewhere = saved(tmp_path / "elsewhere.npz", boxes=scores(9))  # of another model altogether
    sidecar(elsewhere, f'inputs_digest = "{DIGEST}"')
    refused(lambda: checked(elsewhere, 6, other), "made of other inputs")


def test_another_order_is_refused(tmp_path: Path) -> None:
    order = np.arange(6)
    checked(saved(tmp_path / "board.npz", scores=scores(), trtcheck_index=order), 6)
    order[[2, 3]] = order[[3, 2]]
    path = saved(tmp_path / "board.npz", scores=scores(), trtcheck_index=order)
    refused(lambda: checked(path, 6), "not in the order", "from 0 to 5", "row 2 is of image 3")


def test_missing_and_misshapen_outputs_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", logits=scores())
    refused(
        lambda: checked(path, 6), "'scores' is not recorded", "'logits'", 'outputs = {"logits" = "scores"}'
    )
    odd = 'say "logits"\\\n\x01\x7f ä\U0001f600'
    entry = {"name": odd, "dimensions": "6x4", "values": scores().ravel().tolist()}
    path = written(tmp_path / "odd.json", json.dumps([entry]))
    text = refused(lambda: checked(path, 6), "'scores' is not recorded")
    hint = text.partition("say in the sidecar: ")[2]
    assert tomllib.loads(hint) == {"outputs": {odd: "scores"}}
    path = saved(tmp_path / "b.npz", scores=scores()[:, :3])
    refused(lambda: checked(path, 6), "another shape", "scores: float32[?, 4]", "float32[6, 3]")
    path = saved(tmp_path / "c.npz", scores=scores()[0])
    refused(lambda: checked(path, 4), "'scores' has no axis of images", "float32[4]")
    path = saved(tmp_path / "d.npz", scores=scores()[..., None])
    refused(lambda: checked(path, 6), "another shape")


def test_what_cannot_be_verified_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "board.npz", scores=scores())
    (note,) = checked(path, 6)
    assert "no sidecar: that it was made of these inputs in this order could not be verified" in note
    sidecar(path, 'device = "Orin"')
    (note,) = checked(path, 6)
    assert "no inputs_digest" in note
    assert "export-inputs" in note
    text = written(tmp_path / "text.json", output_json({"scores": scores()}))
    assert "six significant digits" in checked(text, 6)[-1]


# The engine


def test_the_engine_answers_in_order_and_pads_as_its_inputs_are(tmp_path: Path) -> None:
    whole = scores(6)
    engine = RecordedEngine(read_recording(saved(tmp_path / "board.npz", scores=whole)), images=6)
    assert engine.signature.inputs == ()
    assert [str(tensor) for tensor in engine.signature.outputs] == ["scores: float32[?, 4]"]
    assert engine.signature.fixed_batch is None
    np.testing.assert_array_equal(engine.infer({"x": np.zeros((4, 1))})["scores"], whole[:4])
    padded = engine.infer({"x": np.zeros((4, 1))})["scores"]
    np.testing.assert_array_equal(padded, whole[[4, 5, 5, 5]])
    refused(lambda: engine.infer({"x": np.zeros((1, 1))}), "no more answers", "6 images")
    engine.close()
    refused(lambda: engine.infer({"x": np.zeros((1, 1))}), "closed")


# Mutations: nothing but EngineError


def mutated(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """*data* with parts replaced: place (per mille), length, new bytes."""
    for place, length, new in edits:
        start = len(data) * place // 1000
        data = data[:start] + new + data[start + length :]
    return data


EDITS = st.lists(
    st.tuples(
        st.integers(0, 1000), st.integers(0, 40),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"nan", b"-inf", b"[", b"]", b"{", b'"', b",", b"true", b"1e999", b"9" * 30]),
        ),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
MANY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refuse(path: Path) -> None:
    try:
        recording = read_recording(path, SCORES)
        check(recording, images=3, inputs_digest=DIGEST, outputs=SCORES)
        json.dumps(facts(recording), allow_nan=False)
    except EngineError as error:
        assert str(error)  # noqa: PT017 (either outcome is right)


@MANY
@given(edits=EDITS)
@pytest.mark.parametrize("kind", ["npz", "trtexec", "polygraphy", "times", "sidecar"])
def test_a_damaged_file_gives_nothing_but_an_engine_error(
    tmp_path: Path, kind: str, edits: list[tuple[int, int, bytes]]
) -> None:
    path = tmp_path / ("board.npz" if kind in ("npz", "sidecar", "times") else "board.json")
    if kind == "polygraphy":
        results = RunResults()
        results.add([{"scores": scores(3)}], runner_name="device")
        results.save(str(path))
    elif kind == "trtexec":
        written(path, output_json({"scores": scores(3)}))
    else:
        saved(path, scores=scores(3))
    target = path
    if kind in ("times", "sidecar"):
        target = sidecar(path, 'images = 3\ntimes = "t.json"\noutputs = {scores = "scores"}\n')
        times = written(tmp_path / "t.json", times_json([1.0, 2.0]))
        target = times if kind == "times" else target
    target.write_bytes(mutated(target.read_bytes(), edits))
    read_or_refuse(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@MANY
@given(
    entry=st.fixed_dictionaries(
        {},
        optional={
            "name": st.just("scores") | JSON,
            "dimensions": st.sampled_from(["3x4", "12", "1x2", "9x" * 7 + "9"]) | JSON,
            "values": st.lists(st.floats() | st.integers(), min_size=12, max_size=12) | JSON,
            "polygraphy_class": st.sampled_from(["RunResults", "ndarray", "IterationResult", "LazyArray"]),
            "array": JSON, "lst": JSON, "outputs": JSON,
        },
    ),
    bare=st.booleans(),
)  # fmt: skip
def test_any_json_gives_nothing_but_an_engine_error(
    tmp_path: Path, entry: Mapping[str, Any], bare: bool
) -> None:
    path = written(tmp_path / "board.json", json.dumps(entry if bare else [entry]))
    read_or_refuse(path)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    path.write_bytes(b"\xff\xfe[")
    refused(lambda: read_recording(path), "board.json", "cannot be read", "utf-8")
    os.mkfifo(tmp_path / "pipe.json")
    refused(lambda: read_recording(tmp_path / "pipe.json"), "no such file")
    refused(lambda: read_recording(tmp_path / ("x" * 300 + ".npz")), "cannot be read", "File name too long")
    sound = saved(tmp_path / "sound.npz", scores=scores())
    sidecar(sound, 'times = "pipe.json"')
    refused(lambda: read_recording(sound), "pipe.json: cannot be read", "expected: a file")
    os.mkfifo(tmp_path / "other.recording.toml")
    refused(
        lambda: read_recording(saved(tmp_path / "other.npz", scores=scores())),
        "other.recording.toml: cannot be",
    )


def test_a_folder_that_must_not_be_entered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    saved(tmp_path / "0.npz", scores=scores())
    monkeypatch.setattr(Path, "iterdir", denied)  # a superuser is denied nothing
    refused(lambda: read_recording(tmp_path), "cannot be read", "Permission denied")

"""Exported inputs are what trtcheck feeds, and the script's recording is what the plugin tests."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import recordings_fake_trtexec
import suite_models
from polygraphy.json import load_json

from trtcheck.case import Case, InputSpec
from trtcheck.data.batches import batches
from trtcheck.recordings import RecordedEngine, check, inputs_digest, read_recording
from trtcheck.recordings.export import main
from trtcheck.recordings.sidecar import read_sidecar
from trtcheck.resolve import resolve
from trtcheck.suite import read_suite

INPUT = "[models.halves.input]\nscale = 0.00392156862745098\nmean = [0.4]\nstd = [0.3]\n"


def suite(folder: Path, model: onnx.ModelProto, arrays: dict[str, np.ndarray], extra: str = INPUT) -> Path:
    """A suite with one model ``halves`` in *folder*."""
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "eval.npz", **arrays)
    path = folder / "trtcheck.toml"
    path.write_text(
        f'[models.halves]\nonnx = "model.onnx"\ndata = "eval.npz"\nbatch = 7\n'
        f'checks = ["build", "outputs"]\n{extra}'
    )
    return path


def halves(folder: Path, batch: int | str = "N", count: int = 25) -> Path:
    return suite(folder, suite_models.classifier(batch=batch), suite_models.arrays(count))


def session(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def direct(path: Path, size: int) -> np.ndarray:
    """What ONNX Runtime answers on the feeds that trtcheck makes."""
    (case,) = read_suite(path)
    resolved = resolve(case)
    run = session(path.parent)
    return np.concatenate(
        [
            run.run(["scores"], batch.feeds)[0][: batch.count]
            for batch in batches(resolved.images, resolved.signature, case.input, size)
        ]
    )


def fits(path: Path, recording: Path) -> tuple[str, ...]:
    """The notes of a recording that fits the one case of the suite at *path*."""
    (case,) = read_suite(path)
    resolved = resolve(case)
    return check(
        read_recording(recording, resolved.signature.outputs), images=len(resolved.images),
        inputs_digest=inputs_digest(resolved.digest, case.input), outputs=resolved.signature.outputs,
    )  # fmt: skip


def exported(path: Path, *options: str) -> Path:
    """The folder that ``export-inputs`` makes of the suite at *path*."""
    out = path.parent / "board"
    assert main([str(path), "halves", "--out", str(out), *options]) == 0
    return out


def run_script(
    folder: Path, engine: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs ``run.sh`` with the stand-in for trtexec."""
    program = folder / "trtexec"
    stand_in = [sys.executable, recordings_fake_trtexec.__file__]
    program.write_text(f'#!/bin/sh\nexec {shlex.join(stand_in)} "$@"\n')
    program.chmod(0o755)
    return subprocess.run(
        ["sh", "run.sh", str(engine), *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "TRTEXEC": str(program), **environment},
    )  # fmt: skip


@pytest.mark.parametrize(("batch", "rows"), [("N", [7, 7, 7, 4]), (6, [6, 6, 6, 6, 6])])
def test_the_raw_files_give_the_answers_of_the_direct_session_bit_for_bit(
    tmp_path: Path, batch: int | str, rows: list[int]
) -> None:
    path = halves(tmp_path, batch)
    out = exported(path)
    files = sorted((out / "inputs").iterdir())
    assert [file.name for file in files] == [f"{k:04d}.bin" for k in range(len(rows))]
    run = session(tmp_path)
    recording = tmp_path / "recorded"
    recording.mkdir()
    for file, count in zip(files, rows, strict=True):
        feed = np.fromfile(file, "<f4").reshape(count, 1, 8, 8)
        np.savez(recording / file.with_suffix(".npz").name, scores=run.run(["scores"], {"images": feed})[0])
    text = (out / "recording.toml").read_text().replace('times = "times.json"\n', "")
    (recording / "recording.toml").write_text(text.replace("# device", "device"))
    notes = fits(path, recording)
    padding = sum(rows) - 25
    cut = f"the last {padding} of {sum(rows)} recorded rows are padding and were cut off"
    assert notes == ((cut,) if padding else ())
    answers = RecordedEngine(read_recording(recording)).infer({"images": np.zeros((25, 1))})["scores"]
    np.testing.assert_array_equal(answers, direct(path, rows[0]))


def test_the_sidecar_s_comments_are_keys_to_fill_in(tmp_path: Path) -> None:
    out = exported(halves(tmp_path))
    text = (out / "recording.toml").read_text()
    (out / "recording.toml").write_text(re.sub(r"(?m)^# (?=\w+ = )", "", text))
    filled = read_sidecar(out)
    assert (filled.device, filled.cuda_graph, filled.spin_wait) == ("Jetson Orin Nano 8 GB", False, False)
    assert filled.power_w == 9.5
    plain = tmp_path / "npz"
    assert main([str(tmp_path / "trtcheck.toml"), "halves", "--out", str(plain), "--format", "npz"]) == 0
    assert "cuda_graph" not in (plain / "recording.toml").read_text()  # nothing times that recording


def test_npz_and_polygraphy_hold_the_same_feeds(tmp_path: Path) -> None:
    path = halves(tmp_path)
    out = tmp_path / "npz"
    assert main([str(path), "halves", "--out", str(out), "--format", "npz", "--batch", "10"]) == 0
    files = sorted((out / "inputs").iterdir())
    feeds = []
    for file in files:
        with np.load(file) as archive:
            feeds.append(archive["images"])
    assert [len(feed) for feed in feeds] == [10, 10, 5]
    answers = np.concatenate([session(tmp_path).run(["scores"], {"images": feed})[0] for feed in feeds])
    np.testing.assert_array_equal(answers, direct(path, 10))
    out = tmp_path / "polygraphy"
    assert main([str(path), "halves", "--out", str(out), "--format", "polygraphy", "--batch", "10"]) == 0
    loaded = load_json(str(out / "inputs" / "inputs.json"))
    assert len(loaded) == 3
    for one, feed in zip(loaded, feeds, strict=True):
        np.testing.assert_array_equal(one["images"], feed)


def test_polygraphy_s_own_command_records_what_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = halves(tmp_path)
    out = exported(path, "--format", "polygraphy")
    command = next(line for line in capsys.readouterr().out.splitlines() if "polygraphy run" in line)
    # The printed command runs an engine on TensorRT; here the model runs on ONNX Runtime.
    command = command.replace("MODEL.engine --model-type=engine --trt", "../model.onnx --onnxrt")
    (out / "RECORDING").mkdir()
    (out / "RECORDING" / "recording.toml").write_text((out / "recording.toml").read_text())
    polygraphy = Path(sys.executable).with_name("polygraphy")
    arguments = [sys.executable, str(polygraphy), *shlex.split(command)[1:]]
    done = subprocess.run(arguments, cwd=out, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    fits(path, out / "RECORDING")
    answers = read_recording(out / "RECORDING").outputs["scores"]
    np.testing.assert_array_equal(answers, direct(path, 7))


def test_the_script_records_what_fits_with_a_fake_trtexec(tmp_path: Path) -> None:
    path = halves(tmp_path)
    out = exported(path)
    done = run_script(out, tmp_path / "model.onnx", TRTEXEC_OPTIONS="--useCudaGraph --avgRuns=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "recorded in model\n"
    recording = out / "model"
    assert sorted(file.name for file in recording.iterdir()) == [
        "0000.json", "0001.json", "0002.json", "0003.json", "recording.toml", "times-log.txt", "times.json",
    ]  # fmt: skip
    notes = fits(path, recording)
    assert any("does not name the device" in note for note in notes)
    assert not any("could not be verified" in note for note in notes)
    read = read_recording(recording)
    np.testing.assert_allclose(read.outputs["scores"], direct(path, 7), rtol=1e-5, atol=1e-6)
    assert read.times is not None
    assert read.times.summary()["latency"]["median_ms"] == 2.5


def test_the_script_stops_at_the_first_failure_of_a_fake_trtexec(tmp_path: Path) -> None:
    out = exported(halves(tmp_path))
    (out / "inputs" / "0002.bin").write_bytes(b"short")
    done = run_script(out, tmp_path / "model.onnx")
    assert done.returncode == 1
    assert "Unexpected file size" in done.stderr
    assert "trtexec failed on batch 0002" in done.stderr
    assert not (out / "model" / "recording.toml").exists()
    done = run_script(out, tmp_path / "model.onnx")
    assert done.returncode != 0  # a recording is not mixed with an older one
    assert "model" in done.stderr
    done = run_script(out, tmp_path / "model.onnx", "again")
    assert not (out / "again" / "0003.json").exists()
    assert (
        "usage: sh run.sh ENGINE [FOLDER]"
        in subprocess.run(["sh", "run.sh"], cwd=out, capture_output=True, text=True, check=False).stderr
    )


def test_several_inputs_of_different_types_go_to_a_fake_trtexec(tmp_path: Path) -> None:
    model = suite_models.two_inputs()
    # A name with a colon has to be quoted for trtexec, a space for the shell.
    model.graph.input[1].name = model.graph.node[-1].input[1] = "the weight:0"
    pixels = suite_models.images(9)[0].astype(np.float32) / 255
    weights = np.linspace(1, 2, 9, dtype=np.float32)[:, None]
    path = suite(
        tmp_path,
        model,
        {"images": pixels[:, None] if pixels.ndim == 3 else pixels, "the weight:0": weights},
        "",
    )
    out = exported(path, "--batch", "4")
    assert len(list((out / "inputs").iterdir())) == 6
    done = run_script(out, tmp_path / "model.onnx")
    assert done.returncode == 0, done.stderr
    fits(path, out / "model")
    np.testing.assert_allclose(
        read_recording(out / "model").outputs["scores"], direct(path, 4), rtol=1e-5, atol=1e-6
    )


def test_integers_are_written_little_endian_in_the_model_s_type(tmp_path: Path) -> None:
    tokens = np.arange(21, dtype=np.int64).reshape(3, 7)
    path = suite(tmp_path, suite_models.sums(), {"tokens": tokens}, "")
    out = exported(path)
    np.testing.assert_array_equal(np.fromfile(out / "inputs" / "0000.bin", "<i8").reshape(3, 7), tokens)


def test_a_last_batch_is_filled_up_where_it_is_asked_for(tmp_path: Path) -> None:
    path = halves(tmp_path)
    out = exported(path, "--batch", "10", "--pad")
    feed = np.fromfile(out / "inputs" / "0002.bin", "<f4").reshape(10, 64)
    np.testing.assert_array_equal(feed[5:], np.repeat(feed[4:5], 5, axis=0))
    assert "batch = 10" in (out / "recording.toml").read_text()
    assert "--shapes=images:10x1x8x8" in (out / "run.sh").read_text().splitlines()[-5]
    done = run_script(out, tmp_path / "model.onnx")
    assert done.returncode == 0, done.stderr
    assert "the last 5 of 30 recorded rows are padding and were cut off" in fits(path, out / "model")


@pytest.mark.parametrize(
    "profile",
    [
        "{min = 3, opt = 4, max = 4}",
        "{images = {min = [3, 1, 8, 8], opt = [4, 1, 8, 8], max = [4, 1, 8, 8]}}",
    ],
    ids=["batches", "shapes"],
)
def test_batches_lie_within_the_profile_of_the_suite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], profile: str
) -> None:
    path = suite(
        tmp_path, suite_models.classifier(), suite_models.arrays(25), f"profile = {profile}\n{INPUT}"
    )
    out = exported(path)
    # 25 images in batches of 4, of which the last would be of 1: below the smallest that the engine takes.
    files = sorted((out / "inputs").iterdir())
    assert [np.fromfile(file, "<f4").size // 64 for file in files] == [4] * 7
    assert "batch = 4  # the last batch is padded" in (out / "recording.toml").read_text()
    done = run_script(out, tmp_path / "model.onnx")
    assert done.returncode == 0, done.stderr
    assert "the last 3 of 28 recorded rows are padding and were cut off" in fits(path, out / "model")
    for size in ("2", "5"):
        assert main([str(path), "halves", "--out", str(tmp_path / "o"), "--batch", size]) == 2
        printed = capsys.readouterr().err
        assert "--batch is not within the profile" in printed
        assert "3 to 4, as profile says in [models.halves]" in printed
    again = tmp_path / "again"
    assert main([str(path), "halves", "--out", str(again), "--batch", "3"]) == 0  # the last one of 1 again
    assert len(list((again / "inputs").iterdir())) == 9


def test_a_last_batch_that_the_profile_allows_is_not_padded(tmp_path: Path) -> None:
    profile = "profile = {min = 1, opt = 4, max = 4}\n"
    out = exported(suite(tmp_path, suite_models.classifier(), suite_models.arrays(25), profile + INPUT))
    sizes = [np.fromfile(file, "<f4").size // 64 for file in sorted((out / "inputs").iterdir())]
    assert sizes == [4] * 6 + [1]
    assert "batch =" not in (out / "recording.toml").read_text()


def test_a_model_of_fixed_shapes_needs_none_on_the_command_line(tmp_path: Path) -> None:
    out = exported(halves(tmp_path, 6))
    assert "--shapes" not in (out / "run.sh").read_text()
    assert "batch = 6" in (out / "recording.toml").read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (["{suite}", "halfes", "--out", "o"], 2, ["no model 'halfes'", "did you mean halves?"]),
        (["{folder}/gone.toml", "halves", "--out", "o"], 2, ["gone.toml", "cannot be read"]),
        (["{suite}", "halves", "--out", "{folder}"], 2, ["--out is there already"]),
        (["{suite}", "halves", "--out", "{suite}/o"], 2, ["cannot be written"]),
        (
            ["{suite}", "halves", "--out", "o", "--batch", "0"],
            2,
            ["--batch: expected a whole number, 1 or more; found '0'"],
        ),
        (["{suite}", "halves", "--out", "o", "--format", "csv"], 2, ["invalid choice"]),
        (["{suite}", "halves"], 2, ["--out"]),
        (["{suite}", "halves", "--out", "o" * 300], 2, ["--out cannot be used", "File name too long"]),
    ],
)
def test_wrong_arguments_are_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], status: int, parts: list[str],
) -> None:  # fmt: skip
    path = halves(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = [argument.format(suite=path, folder=tmp_path) for argument in arguments]
    assert main(given) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    for part in parts:
        assert part in printed.err
    assert not (tmp_path / "o").exists()


def test_data_and_models_that_cannot_be_used_end_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = halves(tmp_path, 6)
    assert main([str(path), "halves", "--out", str(tmp_path / "o"), "--batch", "5"]) == 2
    assert "--batch is not the model's" in capsys.readouterr().err
    (tmp_path / "eval.npz").write_bytes(b"PK")
    assert main([str(path), "halves", "--out", str(tmp_path / "o")]) == 1
    assert "eval.npz" in capsys.readouterr().err
    named = suite_models.classifier()
    named.graph.input[0].name = named.graph.node[0].input[0] = "a,b"
    path = suite(tmp_path, named, suite_models.arrays(5))
    assert main([str(path), "halves", "--out", str(tmp_path / "p")]) == 1
    assert "trtexec cannot be told the input name 'a,b'" in capsys.readouterr().err
    assert main([str(path), "halves", "--out", str(tmp_path / "q"), "--format", "polygraphy"]) == 0


def test_the_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "pytest-trtcheck export-inputs" in capsys.readouterr().out


def test_preprocessing_is_part_of_the_digest(tmp_path: Path) -> None:
    (case,) = read_suite(halves(tmp_path))
    digest = resolve(case).digest
    other = Case(name="x", onnx=case.onnx, data=case.data, input=InputSpec(scale=0.5))
    assert inputs_digest(digest, case.input) != inputs_digest(digest, other.input)


def test_the_plugin_tests_a_recording(pytester: pytest.Pytester) -> None:
    path = suite(
        pytester.path, suite_models.classifier(), suite_models.arrays(240), INPUT.replace("0.4", "0.0")
    )
    text = path.read_text().replace('checks = ["build", "outputs"]\n', "")
    path.write_text(text)
    out = exported(path)
    done = run_script(out, pytester.path / "model.onnx")
    assert done.returncode == 0, done.stderr
    ran = pytester.runpytest_subprocess("--trt-engine=board/model", "-v")
    ran.assert_outcomes(passed=5)
    report: dict[str, Any] = json.loads((pytester.path / "reports" / "report.json").read_text())
    assert {result["numerics"] for result in report["items"]} == {"recorded"}
    np.savez(pytester.path / "other.npz", scores=np.zeros((239, 4), np.float32))
    ran = pytester.runpytest_subprocess("--trt-engine=other.npz", "-k", "build")
    ran.stdout.fnmatch_lines(["*240 rows*", "*239 rows*"])
    assert ran.ret == 1

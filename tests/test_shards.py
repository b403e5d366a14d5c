"""One evaluation cut into shards: the answers of one pass, whoever evaluates them and whatever dies."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import suite_models
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_sources import Deadly, Images

import trtcheck
from trtcheck.case import EngineSpec, Precision
from trtcheck.errors import BackendError, DataError, EngineError, OptionError
from trtcheck.evaluation import Evaluation
from trtcheck.evaluation_record import to_parts
from trtcheck.library import open_workbench
from trtcheck.shards import files
from trtcheck.shards.children import Children
from trtcheck.shards.crew import of_executor
from trtcheck.shards.plan import needed_device, spans
from trtcheck.shards.sharded import evaluate, joined
from trtcheck.shards.task import Answer, Task

FP16 = EngineSpec("fp16", Precision.FP16)
SUMS = {"sum_error2", "sum_reference2", "sum_candidate2", "sum_product"}


def case_of(folder: Path, data: Any, *, fixed: int | str = "N", batch: int = 7) -> trtcheck.Case:
    """A case whose engine loses a class, so that answers change."""
    paths = [folder / "model.onnx", folder / "blind.onnx"]
    for path, blind in zip(paths, (0.0, 0.2), strict=True):
        if not path.is_file():
            suite_models.save(suite_models.classifier(batch=fixed, blind=blind), path)
    return trtcheck.Case(
        name="tiny", onnx=paths[0], data=data, classes=suite_models.CLASSES, batch=batch,
        input=trtcheck.InputSpec(scale=1 / 255), lowered={Precision.FP16: paths[1]},
    )  # fmt: skip


@pytest.fixture
def case(tmp_path):
    np.savez(tmp_path / "eval.npz", **suite_models.arrays())
    return case_of(tmp_path, tmp_path / "eval.npz")


def evaluated(case: trtcheck.Case, folder: Path, engine: str = "fp16", **how: Any) -> Evaluation:
    return trtcheck.evaluate(
        case, engine, backend="onnxruntime-cpu", cache=folder / "cache", threads=1, **how
    )


def require_same(found: Evaluation, wanted: Evaluation) -> None:
    """Counts, labels and flips are equal to the bit, sums of floats up to the order of summation."""
    parts = [to_parts(evaluation) for evaluation in (found, wanted)]
    records = [dict(record) for record, _ in parts]
    for record in records:
        record["record"] = {**record["record"], "cached": None}
    for ours, theirs in zip(*(record.pop("outputs") for record in records), strict=True):
        assert {name: ours.pop(name) for name in SUMS} == pytest.approx(
            {name: theirs.pop(name) for name in SUMS}, rel=1e-12
        )
        assert ours == theirs
    ours, theirs = (record.pop("scores") for record in records)
    assert ours == pytest.approx(theirs, rel=1e-12)
    assert records[0] == records[1]
    for name, array in parts[1][1].items():
        np.testing.assert_array_equal(parts[0][1][name], array, strict=True)
    for ours, theirs in zip(found.confusion(), wanted.confusion(), strict=True):
        assert ours.matrix.tolist() == theirs.matrix.tolist()


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 40))
def test_shards_are_whole_batches_of_one_pass_and_about_as_long(images, batch, shards):
    found = spans(images, batch, shards)
    assert [index for span in found for index in span] == list(range(images))
    assert all(span.start % batch == 0 for span in found)
    batches = [-(-len(span) // batch) for span in found]
    assert len(found) == min(shards, sum(batches))
    assert max(batches) - min(batches) <= 1


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    with ThreadPoolExecutor(3) as pool:
        yield folder, pool


@settings(max_examples=20, deadline=None)
@given(images=st.integers(4, 90), batch=st.integers(1, 40), shards=st.integers(1, 12), fixed=st.booleans())
def test_however_many_images_batches_and_shards_the_answers_are_those_of_one_pass(
    bench, images, batch, shards, fixed
):
    folder, pool = bench
    own = folder / (f"fixed{batch}" if fixed else "open")
    own.mkdir(exist_ok=True)
    case = case_of(own, suite_models.images(images), fixed=batch if fixed else "N", batch=batch)
    require_same(evaluated(case, folder, executor=pool, shards=shards), evaluated(case, folder))


EXECUTORS = {
    "threads": lambda: ThreadPoolExecutor(3),
    "spawned processes": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
    "children": lambda: Children([{}, {}]),
}
if "fork" in multiprocessing.get_all_start_methods():
    EXECUTORS["forked processes"] = lambda: ProcessPoolExecutor(2, multiprocessing.get_context("fork"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("make", EXECUTORS.values(), ids=list(EXECUTORS))
def test_any_executor_gives_what_one_pass_gives(tmp_path, case, make):
    wanted = evaluated(case, tmp_path)
    assert wanted.flips.total > 0
    with make() as executor:
        require_same(evaluated(case, tmp_path, executor=executor, shards=5), wanted)
        in_memory = replace(case, data=suite_models.images())
        found = evaluated(in_memory, tmp_path, executor=executor)
    np.testing.assert_array_equal(found.labels.candidate, wanted.labels.candidate)


def test_processes_of_this_machine(tmp_path, case):
    require_same(evaluated(case, tmp_path, shards=2), evaluated(case, tmp_path))


def test_a_sequence_or_a_source_of_ones_own_goes_along(tmp_path, case):
    own = replace(case, data=Images())
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        require_same(evaluated(own, tmp_path, executor=pool, shards=3), evaluated(own, tmp_path))
        lost = replace(case, data=Deadly(tmp_path, deaths=0))
        lost.data.forget = lambda: None
        with pytest.raises(BackendError, match="give paths or arrays"):
            evaluated(lost, tmp_path, executor=pool)


def test_a_model_without_classes(tmp_path):
    suite_models.save(suite_models.regressor(), tmp_path / "model.onnx")
    images = suite_models.images(50)[0]
    case = trtcheck.Case(
        "level", tmp_path / "model.onnx", images, batch=8, checks=("build", "outputs"),
        input=trtcheck.InputSpec(scale=1 / 255),
    )  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        found = evaluated(case, tmp_path, executor=pool, shards=4)
    wanted = evaluated(case, tmp_path)
    assert found.labels is None
    assert found.outputs[0].errors == wanted.outputs[0].errors
    assert found.outputs[0].elements == 50


def test_an_overflow_is_named_as_in_one_pass(tmp_path, case):
    suite_models.save(suite_models.overflowing(), case.onnx)
    case = replace(case, lowered={})
    wanted = evaluated(case, tmp_path)
    assert "square" in wanted.overflow
    require_same(evaluated(case, tmp_path, shards=2), wanted)


class Remote(Executor):
    """A fake: a machine with other folders, played by this process; what it was asked and answered is kept.

    Args:
        folder: Its cache folder.
        change: What it makes of the tasks that arrive.
    """

    def __init__(self, folder: Path, change: Any = lambda task: task) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.change = folder, change
        self.answers: list[Answer] = []

    def submit(self, fn: Any, /, task: Task) -> Future[Answer]:  # type: ignore[override]
        job = task.job
        gone = {
            name: replace(bundle, path=Path("/gone", bundle.path.name))
            for name, bundle in (("model", job.model), ("engine_file", job.engine_file))
        }
        # The folder stands for the worker's own.
        arrived = self.change(replace(task, job=replace(job, cache=self.folder, **gone)))
        self.answers.append(fn(arrived))
        future: Future[Answer] = Future()
        future.set_result(self.answers[-1])
        return future


def test_a_machine_without_the_files_is_sent_them_once(tmp_path, case):
    remote = Remote(tmp_path / "remote")
    wanted = evaluated(case, tmp_path)
    for _ in range(2):
        require_same(evaluated(case, tmp_path, executor=remote, shards=4), wanted)
    kinds = [answer["kind"] for answer in remote.answers]
    assert kinds == ["needs", *["done"] * 8]
    assert len(remote.answers[0]["files"]) == 2


def test_external_weights_are_sent_along(tmp_path, case):
    import onnx

    model = onnx.load(case.onnx)
    onnx.save(
        model, case.onnx, save_as_external_data=True, location="weights.bin", size_threshold=0,
    )  # fmt: skip
    remote = Remote(tmp_path / "remote")
    require_same(evaluated(case, tmp_path, executor=remote, shards=2), evaluated(case, tmp_path))
    assert [path.name for path in (tmp_path / "remote").rglob("weights.bin")] == ["weights.bin"]


def test_a_file_that_arrives_damaged_is_refused(tmp_path, case):
    def damaged(task: Task) -> Task:
        sent = {key: {name: content[:-1] for name, content in own.items()} for key, own in task.sent.items()}
        return replace(task, sent=sent)

    with pytest.raises(EngineError, match="arrived damaged"):
        evaluated(case, tmp_path, executor=Remote(tmp_path / "remote", damaged))


def test_a_worker_that_asks_for_ever_is_not_served_for_ever(tmp_path, case):
    forgetful = Remote(tmp_path / "remote", lambda task: replace(task, sent={}))
    with pytest.raises(BackendError, match=r"asks for model\.onnx, .* although it was sent"):
        evaluated(case, tmp_path, executor=forgetful)


def test_a_worker_with_other_data_is_refused_and_named(tmp_path, case, monkeypatch):
    (tmp_path / "copy").mkdir()
    arrays = suite_models.arrays()
    arrays["images"] = arrays["images"].copy()
    arrays["images"][200, 0, 0] ^= 1
    np.savez(tmp_path / "copy" / "eval.npz", **arrays)
    monkeypatch.setenv(files.PATHS, f"{tmp_path / 'eval.npz'}={tmp_path / 'copy' / 'eval.npz'}")
    with ThreadPoolExecutor(1) as pool, pytest.raises(BackendError) as caught:
        evaluated(case, tmp_path, executor=pool, shards=4)
    text = str(caught.value)
    assert "shard 3 of tiny[fp16] (images 182 to 239) cannot be evaluated by worker" in text
    assert f":{os.getpid()}: it has other data" in text
    assert text.count("sha256:") == 2
    shutil.copy(tmp_path / "eval.npz", tmp_path / "copy" / "eval.npz")
    with ThreadPoolExecutor(1) as pool:
        assert evaluated(case, tmp_path, executor=pool).images == 240


def test_a_worker_with_fewer_images_is_refused(tmp_path, case, monkeypatch):
    np.savez(tmp_path / "few.npz", **suite_models.arrays(236))
    monkeypatch.setenv(files.PATHS, f"{case.data}={tmp_path / 'few.npz'}")
    with ThreadPoolExecutor(1) as pool, pytest.raises(BackendError, match="other data") as caught:
        evaluated(case, tmp_path, executor=pool)
    assert "240" in str(caught.value)
    assert "236" in str(caught.value)


@pytest.mark.parametrize("what", ["numpy", "ONNX Runtime", "onnxruntime-cpu", "GPU"])
def test_a_worker_with_a_fake_other_library_or_gpu_is_refused_and_named(tmp_path, case, what):
    """The fake: what is needed is changed on the way, as if another machine had sent it."""

    def other(task: Task) -> Task:
        return replace(task, job=replace(task.job, needed={**task.job.needed, what: "NVIDIA H100"}))

    with pytest.raises(BackendError, match="cannot be evaluated by worker") as caught:
        evaluated(case, tmp_path, executor=Remote(tmp_path / "remote", lambda task: with_files(other(task))))
    assert f"expected: {what} NVIDIA H100" in str(caught.value)
    assert f"found:    {what} " in str(caught.value)


def with_files(task: Task) -> Task:
    """The *task* where its files are."""
    folder = Path(str(task.job.case.onnx)).parent
    engine = next((folder / "cache" / "engines").glob("*/*.onnx"))
    return replace(
        task,
        job=replace(
            task.job,
            model=replace(task.job.model, path=task.job.case.onnx),
            engine_file=replace(task.job.engine_file, path=engine),
        ),
    )


def test_of_a_gpu_its_model_and_the_library_count_and_not_the_driver():
    from trtcheck.backends.base import BackendInfo

    info = BackendInfo("tensorrt", "10.14", "NVIDIA H100 80GB HBM3", "", driver="580.1")
    assert needed_device(info) == {"tensorrt": "10.14", "GPU": "NVIDIA H100 80GB HBM3"}
    assert needed_device(replace(info, name="onnxruntime-cpu")) == {"onnxruntime-cpu": "10.14"}


@pytest.mark.parametrize("make", [EXECUTORS["children"], EXECUTORS["spawned processes"]])
def test_a_worker_that_is_killed_loses_nothing_and_counts_nothing_twice(tmp_path, case, make):
    deadly = replace(case, data=Deadly(tmp_path))
    wanted = evaluated(replace(case, data=Images()), tmp_path)
    require_same(evaluated(deadly, tmp_path, executor=make, shards=4), wanted)
    assert deadly.data.died == 1


def test_a_shard_that_kills_every_worker_is_named(tmp_path, case):
    deadly = replace(case, data=Deadly(tmp_path, deaths=99))
    with pytest.raises(BackendError) as caught:
        evaluated(deadly, tmp_path, shards=1)
    assert "shard 1 of tiny[fp16] (images 56 to 118) was not evaluated: its worker died 3 times" in str(
        caught.value
    )
    assert "SIGKILL" in str(caught.value)
    assert deadly.data.died == 3


def test_a_broken_pool_that_nothing_can_replace_is_an_error_that_says_what_to_give(tmp_path, case):
    deadly = replace(case, data=Deadly(tmp_path))
    with EXECUTORS["spawned processes"]() as pool, pytest.raises(BackendError, match="executor=lambda"):
        evaluated(deadly, tmp_path, executor=pool, shards=4)


def answer(number: int, span: range) -> Answer:
    """What a worker would answer that saw nothing wrong."""
    from trtcheck.evaluation import Labels
    from trtcheck.metrics.flips import Flips
    from trtcheck.metrics.scores import ScoreDrift

    labels = Labels.blank(np.arange(span.start, span.stop) % 4)
    evaluation = Evaluation(
        "tiny", "fp16", (), len(span), 5, labels, (), ScoreDrift(k=5), Flips(images=len(span)),
        start=span.start,
    )  # fmt: skip
    record, arrays = to_parts(evaluation)
    return {"shard": number, "worker": "fake", "kind": "done", "record": record, "arrays": arrays}


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 9), st.randoms())
def test_every_shard_counts_once_in_whatever_order_and_however_often_it_arrives(
    images, batch, shards, chance
):
    cut = spans(images, batch, shards)
    answers = [answer(number, span) for number, span in enumerate(cut)]
    late = [*answers, *chance.choices(answers, k=5)]
    chance.shuffle(late)
    whole = joined(late, len(cut), images)
    assert (whole.images, whole.flips.images) == (images, images)
    assert whole.labels.truth.tolist() == [index % 4 for index in range(images)]


def test_a_shard_that_is_missing_or_of_other_images_is_refused():
    cut = spans(100, 10, 4)
    answers = [answer(number, span) for number, span in enumerate(cut)]
    with pytest.raises(EngineError, match="number 2"):
        joined([a for a in answers if a["shard"] != 2], 4, 100)
    with pytest.raises(EngineError, match="fit together"):
        joined([*answers[:2], answer(2, range(60, 70)), answers[3]], 4, 100)
    with pytest.raises(EngineError, match="110 images from 0"):
        joined(answers, 4, 110)


def test_what_fails_in_a_worker_is_the_error_of_one_pass_with_the_workers_name(tmp_path, case):
    class Fails(Images):
        """Cannot be read where the pool's threads are."""

        def read(self, start, stop):
            if threading.current_thread() is not threading.main_thread():
                raise DataError("image 3 is damaged", where="disk 2")
            return super().read(start, stop)

    with ThreadPoolExecutor(1) as pool, pytest.raises(DataError, match="disk 2: image 3") as caught:
        evaluated(replace(case, data=Fails()), tmp_path, executor=pool, shards=3)
    assert f":{os.getpid()}" in str(caught.value)


def test_progress_counts_the_images_of_finished_shards(tmp_path, case):
    seen: list[tuple[str, int | None, int]] = []

    class Noted:
        def task(self, label, total=None):
            from contextlib import nullcontext

            return nullcontext(lambda count: seen.append((label, total, count)))

    with ThreadPoolExecutor(1) as pool, open_workbench("onnxruntime-cpu", tmp_path, 1, Noted()) as bench:
        evaluate(bench, case, FP16, of_executor(pool, 3, None))
    done = [(total, count) for label, total, count in seen if label.endswith("in shards")]
    assert done == [(240, 77), (240, 84), (240, 79)]


def test_a_task_is_small_and_an_answer_smaller_than_its_images(tmp_path, case):
    import pickle

    sizes: list[tuple[int, int]] = []

    class Weighed(Remote):
        def submit(self, fn, /, task):
            future = super().submit(fn, with_files(task))
            sizes.append((len(pickle.dumps(task)), len(pickle.dumps(future.result()))))
            return future

    weighed = Weighed(tmp_path / "remote", with_files)
    evaluated(case, tmp_path, executor=weighed, shards=4)
    assert len(sizes) == 4
    assert max(task for task, _ in sizes) < 8_000
    assert max(found for _, found in sizes) < 16_000


def test_the_libraries_that_answers_depend_on_are_needed():
    from trtcheck.shards.worker import libraries

    assert set(libraries()) == {"ONNX Runtime", "pytest-trtcheck", "numpy", "Pillow", "onnx"}
    assert libraries()["numpy"] == np.__version__


def test_children_have_variables_of_their_own_and_take_turns():
    with Children([{"CUDA_VISIBLE_DEVICES": "a"}, {"CUDA_VISIBLE_DEVICES": "b"}]) as children:
        both = [children.submit(os.getenv, "CUDA_VISIBLE_DEVICES") for _ in range(2)]
        assert sorted(future.result() for future in both) == ["a", "b"]


def test_a_child_that_dies_breaks_its_own_task_alone():
    with Children([{}]) as children:
        first = children.submit(os.getpid).result()
        with pytest.raises(BrokenExecutor, match=f"process {first} was ended by SIGKILL"):
            children.submit(signal.raise_signal, signal.SIGKILL).result()
        with pytest.raises(BrokenExecutor, match="ended with exit status 3"):
            children.submit(os._exit, 3).result()
        assert children.submit(os.getpid).result() != first
        with pytest.raises(RuntimeError, match="ValueError: invalid literal"):
            children.submit(int, "x").result()
        assert children.submit(int, "7").result() == 7


def test_children_end_at_once_where_nobody_waits_for_them():
    children = Children([{}])
    started = children.submit(os.getpid).result()
    busy = children.submit(signal.pause)
    children.shutdown(cancel_futures=True)
    assert busy.done()
    with pytest.raises(ProcessLookupError):
        os.kill(started, 0)


def test_paths_may_be_elsewhere_on_a_worker(monkeypatch):
    monkeypatch.setenv(files.PATHS, os.pathsep.join(["/data=/mnt/data", "/models=/m"]))
    assert files.elsewhere(Path("/data/a/b.npz")) == Path("/mnt/data/a/b.npz")
    assert files.elsewhere(Path("/models/x.onnx")) == Path("/m/x.onnx")
    assert files.elsewhere(Path("/database/x.npy")) == Path("/database/x.npy")
    monkeypatch.setenv(files.PATHS, "/data")
    with pytest.raises(OptionError, match="TRTCHECK_PATHS cannot be read"):
        files.elsewhere(Path("/data/a"))


def test_a_worker_keeps_what_it_opened_for_the_shards_of_one_evaluation(tmp_path, case, monkeypatch):
    from trtcheck.backends.onnxruntime import OnnxRuntimeCpu

    loads: list[Path] = []
    plain = OnnxRuntimeCpu.load

    def load(self, engine, plan):
        loads.append(engine)
        return plain(self, engine, plan)

    monkeypatch.setattr(OnnxRuntimeCpu, "load", load)
    with ThreadPoolExecutor(1) as pool:
        evaluated(case, tmp_path, executor=pool, shards=6)
    assert len(loads) == 1


def without_run(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("run", "history")}


def test_the_option_gives_the_report_of_a_serial_run(suite):
    suite.run("--trt-engine=fp16,int8", cache="a", report="one")
    result = suite.run("--trt-engine=fp16,int8", "--trt-shards=2", cache="b", report="two", process=True)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["trtcheck: images are cut over 2 processes"])
    one, two = (without_run(suite.report(folder)) for folder in ("one", "two"))
    assert rounded(one) == rounded(two)


def rounded(value: Any) -> Any:
    """The *value* with floats to 12 digits: sums depend on the order of summation."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trt-shards=0"], "--trt-shards is no number of processes"),
        (["--trt-shards=two"], "--trt-shards is no number of processes"),
        (["--trt-shards=2", "-n2"], "--trt-shards=2 and pytest-xdist's -n cannot share"),
        (["--trt-executor=8786"], "--trt-executor names no scheduler"),
        (["--trt-executor=ray://host:1"], "--trt-executor names no scheduler"),
    ],
)
def test_an_option_that_cannot_be_used_is_a_usage_error(suite, options, message):
    result = suite.run("--trt-engine=fp16", *options, plugins=["xdist"], process=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message}*"])


@pytest.mark.parametrize("how", [{"shards": 0}, {"devices": "all"}])
def test_arguments_that_cannot_be_used_are_refused(tmp_path, case, how):
    with pytest.raises(ValueError, match="shards"):
        evaluated(case, tmp_path, **how)


def test_what_belongs_to_the_whole_is_made_of_the_whole(tmp_path, case):
    with ThreadPoolExecutor(1) as pool:
        whole = evaluated(case, tmp_path, executor=pool)
    assert whole.classes == suite_models.CLASSES
    assert [sample.index for sample in whole.samples] == sorted(flip.index for flip in whole.flips.worst)[:48]
    assert whole.record["environment"]["backend"]["name"] == "onnxruntime-cpu"
    assert whole.record["data"]["name"] == str(case.data)

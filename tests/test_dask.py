"""A real Dask scheduler with worker processes on loopback evaluates the shards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import suite_models
from shard_sources import Deadly, Images
from test_shards import case_of, evaluated, require_same, rounded, without_run

from trtcheck.errors import BackendError, OptionError
from trtcheck.shards import dask_client, files
from trtcheck.shards.worker import libraries

distributed = pytest.importorskip("distributed", reason='needs Dask: pip install "pytest-trtcheck[dask]"')

TESTS = Path(__file__).parent
OTHER_NUMPY = """
from importlib import metadata
version = metadata.version
metadata.version = lambda name: "1.0.fake" if name == "numpy" else version(name)
"""
"""A fake: numpy says that it is another version."""


class Scheduler:
    """A scheduler with its workers, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0")

    def start(self, kind: str, *options: str, **variables: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, "--no-dashboard"]
        paths = [variables.pop("PYTHONPATH", ""), str(TESTS), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", **variables,
        }  # fmt: skip
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [*command, "--scheduler-file", str(self.file)],
                    env=environment,
                    cwd=self.folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def worker(self, **variables: str) -> None:
        """Starts a worker that nobody starts again when it dies."""
        self.start("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", **variables)

    @property
    def address(self) -> str:
        """Its address, once it is up."""
        for _ in range(600):
            if self.file.is_file() and self.file.stat().st_size:
                return str(json.loads(self.file.read_text())["address"])
            time.sleep(0.05)
        raise AssertionError((self.folder / "0.log").read_text())

    @contextmanager
    def client(self, workers: int) -> Iterator[distributed.Client]:
        """A client that sees as many *workers*."""
        with distributed.Client(self.address, set_as_default=False, timeout=20) as client:
            client.wait_for_workers(workers, timeout=30)
            yield client

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


@contextmanager
def cluster(folder: Path, workers: Sequence[Mapping[str, str]]) -> Iterator[Scheduler]:
    """A scheduler with *workers*, by what each one's environment has besides."""
    folder.mkdir(exist_ok=True)
    scheduler = Scheduler(folder)
    try:
        for variables in workers:
            scheduler.worker(**variables)
        yield scheduler
    finally:
        scheduler.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two workers, for tests that kill none."""
    with cluster(tmp_path_factory.mktemp("dask"), [{}, {}]) as scheduler:
        yield scheduler


@pytest.fixture
def case(tmp_path):
    np.savez(tmp_path / "eval.npz", **suite_models.arrays())
    return case_of(tmp_path, tmp_path / "eval.npz")


def test_workers_give_what_one_pass_gives(tmp_path, case, two):
    wanted = evaluated(case, tmp_path)
    assert wanted.flips.total > 0
    with two.client(2) as client:
        found = evaluated(case, tmp_path, executor=client.get_executor(pure=False), shards=6)
    require_same(found, wanted)


def test_the_option_gives_the_report_of_a_serial_run_under_xdist_too(suite, two):
    with two.client(2):
        pass
    suite.run("--trt-engine=int8", cache="a", report="serial")
    address = two.address.replace("tcp://", "dask://")
    for name, options, plugins in (
        ("dask", [f"--trt-executor={address}"], []),
        ("both", [f"--trt-executor=dask+file:{two.file}", "--trt-shards=3", "-n2"], ["xdist"]),
    ):
        result = suite.run(
            "--trt-engine=int8", *options, cache=name, report=name, plugins=plugins, process=True
        )
        assert result.ret == 0
        shards = 8 if name == "dask" else 3
        result.stdout.fnmatch_lines(
            [f"trtcheck: images are cut into {shards} shards for 2 Dask workers of {two.address}"]
        )
        assert rounded(without_run(suite.report(name))) == rounded(without_run(suite.report("serial")))


def test_a_worker_that_is_killed_loses_nothing_and_counts_nothing_twice(tmp_path, case):
    deadly = replace(case, data=Deadly(tmp_path))
    wanted = evaluated(replace(case, data=Images()), tmp_path)
    with cluster(tmp_path / "dask", [{}, {}]) as scheduler, scheduler.client(2) as client:
        found = evaluated(deadly, tmp_path, executor=client.get_executor(pure=False), shards=4)
        assert len(client.scheduler_info()["workers"]) == 1
    assert deadly.data.died == 1
    require_same(found, wanted)


def test_a_shard_that_kills_every_worker_is_named(tmp_path, case):
    deadly = replace(case, data=Deadly(tmp_path, deaths=99))
    with cluster(tmp_path / "dask", [{}, {}, {}]) as scheduler, scheduler.client(3) as client:
        with pytest.raises(BackendError, match=r"shard 1 of tiny\[fp16\].* was not evaluated") as caught:
            evaluated(deadly, tmp_path, executor=client.get_executor(pure=False), shards=4)
        assert "KilledWorker" in str(caught.value)
        assert "their logs say why" in str(caught.value)
    assert deadly.data.died == 2


def test_workers_with_other_data_or_libraries_are_refused_and_named(suite, tmp_path, case):
    arrays = suite_models.arrays()
    arrays["images"] = 255 - arrays["images"]
    np.savez(tmp_path / "other.npz", **arrays)
    (tmp_path / "sitecustomize.py").write_text(OTHER_NUMPY)
    other_data = {files.PATHS: f"{case.data}={tmp_path / 'other.npz'}"}
    with cluster(tmp_path / "dask", [other_data]) as scheduler:
        with scheduler.client(1) as client:
            with pytest.raises(BackendError, match="it has other data") as caught:
                evaluated(case, tmp_path, executor=client.get_executor(pure=False))
            assert "cannot be evaluated by worker" in str(caught.value)
            assert str(caught.value).count("sha256:") == 2
        scheduler.worker(PYTHONPATH=str(tmp_path))
        with scheduler.client(2) as client:
            [fake] = [worker for worker, own in client.run(libraries).items() if "fake" in own["numpy"]]
            executor = client.get_executor(pure=False, workers=[fake])
            with pytest.raises(BackendError, match=r"expected: numpy [0-9.]+\n  found:    numpy 1.0.fake"):
                evaluated(case, tmp_path, executor=executor)
        result = suite.run("--trt-engine=fp16", f"--trt-executor=dask+file:{scheduler.file}", process=True)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(
            [f"ERROR: --trt-executor: worker {fake} has other libraries", "*found:    numpy 1.0.fake"]
        )


def test_a_scheduler_that_is_not_there_or_has_no_workers_is_a_usage_error(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_client, "_WAITS", 1)
    result = suite.run("--trt-engine=fp16", "--trt-executor=dask://127.0.0.1:9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --trt-executor: no scheduler answers at tcp://127.0.0.1:9 *", "*try: *dask scheduler*"]
    )
    with cluster(tmp_path / "dask", []) as scheduler:
        result = suite.run("--trt-engine=fp16", f"--trt-executor={scheduler.address}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trt-executor: the scheduler at tcp://* has no workers"])


def test_without_dask_the_option_says_what_to_install(monkeypatch):
    from trtcheck.shards import asked

    monkeypatch.setattr(asked, "is_installed", lambda _name: False)
    with pytest.raises(OptionError, match=r'pip install "pytest-trtcheck\[dask\]"'):
        asked.executor({"executor": "dask://host:8786"}, {}, Path(), Path())

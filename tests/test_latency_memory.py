"""A batch that no memory holds is refused in a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import suite_models

CODE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import suite_models
from trtcheck.case import Case
from trtcheck.errors import CaseError
from trtcheck.latency import contest
from trtcheck.resolve import resolve

case = Case(
    name="tiny", onnx=Path("model.onnx"), data=suite_models.images(60), classes=suite_models.CLASSES
)
opened = resolve(case)
assert contest.feeds(case, opened, 64)["images"].shape == (64, 1, 8, 8)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))
try:
    contest.feeds(case, opened, 10_000_000)
except CaseError as error:
    print(error)
"""


def test_a_batch_that_no_memory_holds_is_refused_in_a_sentence(tmp_path):
    suite_models.save(suite_models.classifier(), tmp_path / "model.onnx")
    code = CODE.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tiny cannot be timed at batch 10000000: there is no memory for so many images" in done.stdout
    assert "smaller batches in [models.tiny.latency]" in done.stdout

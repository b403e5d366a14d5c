"""Makes the pictures of the documentation from reports of real runs, with Chromium.

    pytest examples/fashion_mnist examples/fashion_mnist_miscalibrated --trt-engine=fp32,fp16,int8
    python docs/screenshots.py reports docs/example-report

The first report is one in which an engine fails, the second one has times.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from trtcheck.report.view.links import page_names
from trtcheck.report.view.records import pair

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "browser"))

from chromium import Chromium, installed  # noqa: E402
from serving import served  # noqa: E402

PICTURES = HERE / "pictures"
LARGEST = 150_000
"""Bytes of a picture."""


@dataclass(frozen=True)
class Shot:
    """One picture: of which page it is and what of the page it shows.

    Attributes:
        name: Its file, without ``.png``.
        timed: Whether it is of the report that has times.
        engine: Whether it is of the page of an engine: the first one that fails, else the first one.
        selector: The element that is shown, with a margin around it.
        width: Of the window in CSS pixels.
        height: At most so much is shown, in CSS pixels.
        dark: Whether the reader prefers dark colours.
    """

    name: str
    timed: bool = False
    engine: bool = False
    selector: str = "html"
    width: int = 1280
    height: int = 1000
    dark: bool = False


SHOTS = (
    Shot("report-index"),
    Shot("report-engine", engine=True),
    Shot("report-gallery", engine=True, selector="section[aria-labelledby=flips]"),
    Shot("report-latency", timed=True, engine=True, selector="section[aria-labelledby=latency]", dark=True),
    Shot("report-phone", width=390, height=844),
)


def page_of(report: Path, shot: Shot) -> str:
    """The file of the page that *shot* is of."""
    if not shot.engine:
        return "index.html"
    document = json.loads((report / "report.json").read_text(encoding="utf-8"))
    failed = [engine for engine in document["engines"] if engine["verdict"] == "fail"]
    return page_names(document)[pair((failed or document["engines"])[0])]


def small(png: bytes) -> bytes:
    """The picture *png* with so few colours, and if that does not do so few pixels, that it is small."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colors, scale in ((256, 1.0), (64, 1.0), (64, 0.75), (32, 0.6)):
        size = (round(image.width * scale), round(image.height * scale))
        written = io.BytesIO()
        image.resize(size, Image.Resampling.LANCZOS).quantize(colors).save(written, "PNG", optimize=True)
        if written.tell() <= LARGEST:
            break
    return written.getvalue()


def main() -> None:
    """Writes the pictures and tells what they weigh."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path, help="a report in which an engine fails")
    parser.add_argument("timed", type=Path, help="a report that has times")
    parser.add_argument("--out", type=Path, default=PICTURES, help="where the pictures go")
    chosen = parser.parse_args()
    program = installed()
    if program is None:
        sys.exit("chromium is not installed")
    chosen.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Chromium(program, Path(folder)) as browser:
        for shot in SHOTS:
            report = chosen.timed if shot.timed else chosen.report
            name = page_of(report, shot)
            with (
                served(report) as address,
                browser.visit(f"{address}/{name}", width=shot.width, dark=shot.dark) as page,
            ):
                content = small(page.picture(shot.selector, height=shot.height))
            path = chosen.out / f"{shot.name}.png"
            path.write_bytes(content)
            sys.stdout.write(f"{path}: {len(content)} bytes\n")


if __name__ == "__main__":
    main()

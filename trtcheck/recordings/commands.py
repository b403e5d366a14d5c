"""What runs on the device: the script for trtexec, Polygraphy's command, and the sidecar to fill in."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from trtcheck.errors import DataError
from trtcheck.names import slug
from trtcheck.recordings.sidecar import IN_FOLDER

SCRIPT = "run.sh"
TIMES = "times.json"


@dataclass(frozen=True)
class Run:
    """One batch as trtexec gets it.

    Attributes:
        files: Raw file by input name.
        shapes: Shape by input name, the batch axis included.
    """

    files: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def file_names(inputs: Sequence[str]) -> dict[str, str]:
    """What tells an input's files apart, by its name: nothing where there is one input alone.

    Raises:
        DataError: trtexec cannot be told a name.
    """
    for name in inputs:
        # trtexec splits at commas and takes single quotes for itself.
        if any(sign in name for sign in ",'*\n"):
            raise DataError(
                f"trtexec cannot be told the input name {name!r}", expected="a name without , ' and *",
                hint="rename the input, or export with --format polygraphy",
            )  # fmt: skip
    return {name: f".{slug(name)}" if len(inputs) > 1 else "" for name in inputs}


def script(runs: Sequence[Run], dynamic: Collection[str]) -> str:
    """The shell script that runs trtexec over all batches.

    Args:
        runs: The batches.
        dynamic: Names of the inputs with open dimensions, whose shapes trtexec has to be told.
    """
    lines = [_HEAD]
    for number, run in enumerate(runs):
        arguments = [f"--loadInputs={_listed(run.files)}"]
        shapes = {name: "x".join(map(str, shape)) for name, shape in run.shapes.items() if name in dynamic}
        if shapes:
            arguments.append(f"--shapes={_listed(shapes)}")
        how = "timed" if number == 0 else "once"
        lines.append(f"{how} {number:04d} {' '.join(map(shlex.quote, arguments))}")
    return "\n".join([*lines, _TAIL])


def _listed(values: Mapping[str, str]) -> str:
    # Quoted, since names such as "images:0" hold what separates name and value.
    return ",".join(
        f"'{name}':{value}" if ":" in name else f"{name}:{value}" for name, value in values.items()
    )


_HEAD = f"""\
#!/bin/sh
# Runs an engine over the exported inputs: sh {SCRIPT} ENGINE [FOLDER]
# FOLDER (default: the engine's name) becomes the recording that pytest --trt-engine=FOLDER tests.
# TRTEXEC names the program, TRTEXEC_OPTIONS holds options for all runs (plugins, --useCudaGraph).
set -eu
engine=${{1:?usage: sh {SCRIPT} ENGINE [FOLDER]}}
name=$(basename "$engine")
out=${{2:-${{name%.*}}}}
trtexec=${{TRTEXEC:-trtexec}}
[ -f {IN_FOLDER} ] || {{ echo "run it in the folder that holds it" >&2; exit 2; }}
command -v "$trtexec" > /dev/null || {{ echo "$trtexec: not found; TRTEXEC=PATH names it" >&2; exit 2; }}
mkdir "$out"

run() {{  # the batch's number, then options
    batch=$1
    shift
    if ! "$trtexec" --loadEngine="$engine" ${{TRTEXEC_OPTIONS:-}} --exportOutput="$out/$batch.json" "$@" \\
        > "$out/log.txt" 2>&1; then
        cat "$out/log.txt" >&2
        echo "trtexec failed on batch $batch; before another run: rm -r $out" >&2
        exit 1
    fi
}}

timed() {{  # warmed up and repeated, as trtexec measures by default
    run "$@" --exportTimes="$out/{TIMES}"
    mv "$out/log.txt" "$out/times-log.txt"
}}

once() {{
    run "$@" --warmUp=0 --duration=0 --iterations=1
}}
"""

_TAIL = f"""\
rm -f "$out/log.txt"
cp {IN_FOLDER} "$out/{IN_FOLDER}"
echo "recorded in $out"
"""


def polygraphy(inputs: str) -> str:
    """How to go on with Polygraphy, for people."""
    return (
        "on the device, in that folder (RECORDING is a name of your choice):\n"
        f"  mkdir RECORDING && cp {IN_FOLDER} RECORDING/\n"
        "  polygraphy run MODEL.engine --model-type=engine --trt "
        f"--load-inputs {inputs} --save-outputs RECORDING/outputs.json\n"
    )


_HOW_TIMED = """\
# cuda_graph = false  # trtexec 11: true unless --noCudaGraph; 8 and 10: with --useCudaGraph
# spin_wait = false  # trtexec 11: true unless --noSpinWait; 8 and 10: with --useSpinWait
# power_w = 9.5  # mean power while it was timed
"""


def sidecar(*, images: int, batch: int | None, digest: str, timed: bool) -> str:
    """The text of the recording's sidecar, with what the user fills in as comments."""
    padded = "" if batch is None else f"batch = {batch}  # the last batch is padded to it\n"
    times = f'times = "{TIMES}"\n' if timed else ""
    return (
        "# What is recorded here; fill in the commented keys.\n"
        f"images = {images}\n{padded}"
        f'inputs_digest = "{digest}"\n{times}'
        '# device = "Jetson Orin Nano 8 GB"\n'
        '# runtime = "TensorRT 10.3"\n'
        '# precision = "fp16"\n'
        f"{_HOW_TIMED if timed else ''}"
    )

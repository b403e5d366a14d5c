"""Reading ``trtcheck.toml``: its models, one case each."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtcheck import given
from trtcheck.case import MAKERS, Case, Check, Gates, InputSpec, LatencySpec, LoweringSpec, Precision
from trtcheck.errors import OptionError, SuiteError
from trtcheck.settings import parse_engines
from trtcheck.suite.build import read_build
from trtcheck.suite.gates import read_gates, require_classes
from trtcheck.suite.table import Table, number, whole

if TYPE_CHECKING:
    from trtcheck.case import EngineSpec
    from trtcheck.data import Source

METHODS = ("entropy", "minmax", "percentile")
RESTS = ("fp16", "fp32")
_NAME = re.compile(r"[\w.-]+( [\w.-]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DEFAULTS = Case(name="defaults", onnx=Path(), data="")


def is_suite(path: Path) -> bool:
    """Whether *path* is named like a suite: ``trtcheck.toml`` or ``*.trtcheck.toml``."""
    return path.name == "trtcheck.toml" or path.name.endswith(".trtcheck.toml")


def read_suite(path: Path) -> tuple[Case, ...]:
    """The cases of the suite file *path*, in file order.

    Raises:
        SuiteError: The file is no TOML, a key is unknown or of the wrong type, a file is missing.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, no UTF-8, or an integer of thousands of digits
        raise SuiteError("is no valid TOML", where=path, found=error) from error
    except RecursionError as error:
        raise SuiteError("is nested too deeply to be read", where=path) from error
    except OSError as error:
        raise SuiteError("cannot be read", where=path, found=error) from error
    top = Table(path, "", document)
    models = top.table("models")
    top.finish()
    if models is None or not models.values:
        raise SuiteError("names no model", where=path, expected="a table [models.NAME]", found="none")
    return tuple(_case(models.required_table(name), name) for name in models.values)


def find_case(path: Path, model: str) -> Case:
    """The case called *model* in the suite file *path*.

    Raises:
        SuiteError: The file cannot be used.
        OptionError: It has no such model.
    """
    cases = {case.name: case for case in read_suite(path)}
    if model not in cases:
        close = difflib.get_close_matches(model, cases, n=1)
        raise OptionError(
            f"there is no model '{model}'", where=path, expected=f"one of: {', '.join(cases)}", found=model,
            hint=f"did you mean {close[0]}?" if close else None,
        )  # fmt: skip
    return cases[model]


def default_engines(case: Case, path: Path) -> tuple[EngineSpec, ...]:
    """The suite's own engines for *case*, read from the suite file *path*.

    Raises:
        SuiteError: An entry is unknown.
    """
    key = f"models.{case.name}.engines"
    try:
        return parse_engines(case.engines, base=path.parent, where=key)
    except OptionError as error:
        raise SuiteError(str(error), where=path) from error


def _case(table: Table, name: str) -> Case:
    if not _NAME.fullmatch(name):
        raise SuiteError(
            f"the model name {name!r} cannot be part of test ids and file names", where=table.path,
            expected="letters, digits, '-', '_', '.' and single spaces", found=name,
        )  # fmt: skip
    onnx = table.file("onnx")
    if onnx is None:
        raise table.wrong("onnx", 'the path of the FP32 model: onnx = "model.onnx"', "is missing")
    data = _source(table, "data")
    if data is None:
        raise table.wrong("data", 'evaluation data: data = "eval.npz"', "is missing")
    classes = _classes(table)
    case = Case(
        name=name,
        onnx=onnx,
        data=data,
        classes=classes,
        calibration=_source(table, "calibration"),
        batch=table.count("batch", _DEFAULTS.batch),
        output=table.text("output"),
        top_k=table.count("top_k", _DEFAULTS.top_k),
        input=_input(table.table("input")),
        gates=_gates(table, classes),
        checks=_checks(table),
        engines=_engines(table),
        lowering=_lowering(table),
        lowered=_lowered(table.table("lowered")),
        build=read_build(table),
        latency=_latency(table.table("latency")),
    )
    table.finish()
    return case


def _source(table: Table, name: str) -> Source | None:
    """Data as a path, or as a table of array name to ``.npy`` path."""
    given = table.values.get(name)
    if isinstance(given, dict):
        inner = table.required_table(name)
        paths = {array: inner.file(array) for array in given}
        return {array: path for array, path in paths.items() if path is not None}
    return table.file(name)


def _classes(table: Table) -> tuple[str, ...] | None:
    names = table.texts("classes", ())
    if "classes" not in table.values:
        return None
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(names) < 5000 else []
    if not names or len(set(names)) != len(names):
        found = f"'{repeated[0]}' more than once" if repeated else f"{len(names)} names"
        raise SuiteError(
            f"{table.at('classes')} has a wrong value", where=table.path,
            expected="a list of different class names", found=found,
        )  # fmt: skip
    unreadable = [name for name in names if not name or _CONTROL.search(name)]
    if unreadable:
        raise SuiteError(
            f"{table.at('classes')} has a wrong value", where=table.path,
            expected="class names of a character or more, without control characters",
            found=repr(unreadable[0]),
        )  # fmt: skip
    return names


def _gates(table: Table, classes: tuple[str, ...] | None) -> Gates:
    own = table.table("gates")
    if own is None:
        return _DEFAULTS.gates
    gates = read_gates(own, _DEFAULTS.gates)
    if classes is not None:
        require_classes(gates, classes, own)
    return gates


def _checks(table: Table) -> tuple[Check, ...]:
    known = [check.value for check in Check]
    names = table.texts("checks", tuple(known))
    if not names or any(name not in known for name in names):
        raise table.wrong("checks", f"some of: {', '.join(known)}")
    if "checks" in table.values and Check.LATENCY in names and "latency" not in table.values:
        raise SuiteError(
            f"{table.at('checks')} names latency, and nothing says what is to be timed", where=table.path,
            expected=f"a table [{table.at('latency')}]", hint="for example: batches = [1, 8]",
        )  # fmt: skip
    return tuple(check for check in Check if check.value in names)


def _input(table: Table | None) -> InputSpec:
    if table is None:
        return InputSpec()
    spec = InputSpec(
        layout=table.choice("layout", None, ("NHWC", "NCHW")),
        scale=table.get(
            "scale", 1.0, "a number other than 0", lambda v: float(v) if number(v) and v else None
        ),
        mean=table.get("mean", (), "a number, or one a channel", _numbers),
        std=table.get("std", (), "a number other than 0, or one a channel", _divisors),
        resize=table.get("resize", None, "pixels: one number, or [height, width]", _size),
        crop=table.get("crop", None, "pixels: one number, or [height, width]", _size),
        color=table.choice("color", "RGB", ("RGB", "BGR", "L")),
    )
    table.finish()
    return spec


def _numbers(value: object) -> tuple[float, ...] | None:
    entries = value if isinstance(value, list) else [value]
    if entries and all(number(entry) for entry in entries):
        return tuple(map(float, entries))
    return None


def _divisors(value: object) -> tuple[float, ...] | None:
    numbers = _numbers(value)
    return numbers if numbers and all(numbers) else None


def _size(value: object) -> int | tuple[int, int] | None:
    if isinstance(value, int) and whole(value):
        return value
    if isinstance(value, list) and len(value) == 2 and all(whole(entry) for entry in value):
        return (value[0], value[1])
    return None


def _engines(table: Table) -> tuple[str, ...]:
    """The default engines: the list ``engines``, and the one file that ``engine`` names."""
    prebuilt = table.text("engine")
    return (*table.texts("engines", ()), *(() if prebuilt is None else (prebuilt,)))


def _lowering(table: Table) -> dict[Precision, LoweringSpec]:
    found = {}
    default = LoweringSpec()
    for precision in (Precision.FP16, Precision.BF16, Precision.INT8):
        own = table.table(precision.value)
        if own is None:
            continue
        spec = LoweringSpec(exclude=own.texts("exclude", ()))
        if precision is Precision.FP16:
            spec = replace(spec, maker=own.choice("converter", default.maker, MAKERS))
        if precision is Precision.INT8:
            spec = LoweringSpec(
                exclude=spec.exclude,
                maker=own.choice("quantizer", default.maker, MAKERS),
                method=own.choice("method", default.method, METHODS),
                percentile=own.get(
                    "percentile", default.percentile, "a number above 50 and at most 100",
                    lambda v: float(v) if number(v) and 50 < v <= 100 else None,
                ),
                rest=own.choice("rest", default.rest, RESTS),
            )  # fmt: skip
        own.finish()
        found[precision] = spec
    return found


def _latency(table: Table | None) -> LatencySpec | None:
    if table is None:
        return None
    default = LatencySpec()
    expected, flag = given.FLAG[0].lower(), given.FLAG[1]
    spec = LatencySpec(
        batches=table.get("batches", default.batches, *given.SIZES),
        transfers=table.get("transfers", default.transfers, expected, flag),
        cuda_graph=table.get("cuda_graph", default.cuda_graph, expected, flag),
        spin_wait=table.get("spin_wait", default.spin_wait, expected, flag),
        rounds=table.get("rounds", default.rounds, *given.ROUNDS),
    )
    table.finish()
    return spec


def _lowered(table: Table | None) -> dict[Precision, Path]:
    if table is None:
        return {}
    files = {precision: table.file(precision.value) for precision in Precision}
    table.finish()
    return {precision: path for precision, path in files.items() if path is not None}

"""Reading ``trtcheck.toml``: every key checked, every mistake one sentence."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trtcheck.case import (
    MAKERS,
    BuildSpec,
    Case,
    Check,
    ClassGates,
    Gates,
    InputSpec,
    LoweringSpec,
    Precision,
    ShapeRange,
)
from trtcheck.errors import OptionError, SuiteError
from trtcheck.given import AT_LEAST_ZERO, LARGEST, RATE, SHARE, ascends, at_least_zero, rate, real, share
from trtcheck.settings import at_home, kind_of, parse_engines

if TYPE_CHECKING:
    from trtcheck.case import EngineSpec
    from trtcheck.data import Source

T = TypeVar("T")
Number = TypeVar("Number", float, float | None)
METHODS = ("entropy", "minmax", "percentile")
RESTS = ("fp16", "fp32")
_NAME = re.compile(r"[\w.-]+( [\w.-]+)*")
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
    top = _Table(path, "", document)
    models = top.table("models")
    top.finish()
    if models is None or not models.values:
        raise SuiteError("names no model", where=path, expected="a table [models.NAME]", found="none")
    return tuple(_case(models.required_table(name), name) for name in models.values)


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


class _Table:
    """One table of the file, which remembers what was read, so that the rest can be refused."""

    def __init__(self, path: Path, key: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self.key = key
        self.values = values
        self._known: set[str] = set()

    def at(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name

    def wrong(self, name: str, expected: str, what: str = "has a wrong value") -> SuiteError:
        return SuiteError(
            f"{self.at(name)} {what}", where=self.path, expected=expected, found=self.show(name)
        )

    def show(self, name: str) -> str:
        value = self.values.get(name)
        return f"{value!r} ({type(value).__name__})"

    def get(self, name: str, default: T, expected: str, read: Callable[[Any], T | None]) -> T:
        """The value of *name* as *read* has it (None: wrong), or *default* where it is not given."""
        self._known.add(name)
        if name not in self.values:
            return default
        value = read(self.values[name])
        if value is None:
            raise self.wrong(name, expected)
        return value

    def text(self, name: str, default: str | None = None) -> str | None:
        return self.get(name, default, "a string", lambda v: v if isinstance(v, str) and v else None)

    def choice(self, name: str, default: T, choices: tuple[str, ...]) -> str | T:
        expected = " or ".join(f'"{choice}"' for choice in choices)
        return self.get(name, default, expected, lambda v: v if v in choices else None)

    def share(self, name: str, default: Number) -> Number:
        """A number from 0 to 1."""
        return self.get(name, default, SHARE, share)

    def at_least_zero(self, name: str, default: Number) -> Number:
        return self.get(name, default, AT_LEAST_ZERO, at_least_zero)

    def count(self, name: str, default: int) -> int:
        return self.get(name, default, "a whole number, 1 or more", lambda v: v if _whole(v) else None)

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        return self.get(name, default, "a list of strings", _texts)

    def table(self, name: str) -> _Table | None:
        self._known.add(name)
        return self.required_table(name) if name in self.values else None

    def required_table(self, name: str) -> _Table:
        self._known.add(name)
        if not isinstance(self.values[name], dict):
            raise self.wrong(name, f"a table [{self.at(name)}]")
        return _Table(self.path, self.at(name), self.values[name])

    def file(self, name: str) -> Path | None:
        """The path under *name*, relative to the suite file; it must exist."""
        text = self.text(name)
        return None if text is None else self.existing(name, text)

    def existing(self, name: str, text: str) -> Path:
        try:
            path = self.path.parent / at_home(text, self.at(name))
        except OptionError as error:
            raise SuiteError(str(error), where=self.path) from error
        if kind_of(path) is None:
            raise SuiteError(
                f"{self.at(name)} names a file that is not there", where=self.path, expected=path,
                found="no such file or folder", hint="paths are relative to the suite file",
            )  # fmt: skip
        return path

    def finish(self) -> None:
        """Refuses keys that nobody read."""
        unknown = [name for name in self.values if name not in self._known]
        if unknown:
            close = difflib.get_close_matches(unknown[0], self._known, n=1)
            raise SuiteError(
                f"unknown key {self.at(unknown[0])}", where=self.path,
                expected=f"one of: {', '.join(sorted(self._known))}", found=unknown[0],
                hint=f"did you mean {close[0]}?" if close else None,
            )  # fmt: skip


def _number(value: object) -> bool:
    number = real(value)
    return number is not None and math.isfinite(number)


def _whole(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _texts(value: object) -> tuple[str, ...] | None:
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    return None


def _case(table: _Table, name: str) -> Case:
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
    case = Case(
        name=name,
        onnx=onnx,
        data=data,
        classes=_classes(table),
        calibration=_source(table, "calibration"),
        batch=table.count("batch", _DEFAULTS.batch),
        output=table.text("output"),
        top_k=table.count("top_k", _DEFAULTS.top_k),
        input=_input(table.table("input")),
        gates=_gates(table.table("gates")),
        checks=_checks(table),
        engines=_engines(table),
        lowering=_lowering(table),
        lowered=_lowered(table.table("lowered")),
        build=_build(table),
    )
    table.finish()
    return case


def _source(table: _Table, name: str) -> Source | None:
    """Data as a path, or as a table of array name to ``.npy`` path."""
    given = table.values.get(name)
    if isinstance(given, dict):
        inner = table.required_table(name)
        paths = {array: inner.file(array) for array in given}
        return {array: path for array, path in paths.items() if path is not None}
    return table.file(name)


def _classes(table: _Table) -> tuple[str, ...] | None:
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
    return names


def _checks(table: _Table) -> tuple[Check, ...]:
    known = [check.value for check in Check]
    names = table.texts("checks", tuple(known))
    if not names or any(name not in known for name in names):
        raise table.wrong("checks", f"some of: {', '.join(known)}")
    return tuple(check for check in Check if check.value in names)


def _input(table: _Table | None) -> InputSpec:
    if table is None:
        return InputSpec()
    spec = InputSpec(
        layout=table.choice("layout", None, ("NHWC", "NCHW")),
        scale=table.get(
            "scale", 1.0, "a number other than 0", lambda v: float(v) if _number(v) and v else None
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
    if entries and all(_number(entry) for entry in entries):
        return tuple(map(float, entries))
    return None


def _divisors(value: object) -> tuple[float, ...] | None:
    numbers = _numbers(value)
    return numbers if numbers and all(numbers) else None


def _size(value: object) -> int | tuple[int, int] | None:
    if isinstance(value, int) and _whole(value):
        return value
    if isinstance(value, list) and len(value) == 2 and all(_whole(entry) for entry in value):
        return (value[0], value[1])
    return None


def changed_gates(gates: Gates, changes: Mapping[str, Any], where: str) -> Gates:
    """The *gates* with *changes*, which are checked as the table ``gates`` of a suite file is.

    Args:
        gates: The gates.
        changes: New values by name; ``classes`` (`ClassGates` by name) are added to those that are there.
        where: What messages name.

    Raises:
        SuiteError: A name is no gate, or its value cannot be used.
    """
    plain = dict(changes)
    if isinstance(plain.get("classes"), Mapping):
        plain["classes"] = {
            name: {key: value for key, value in asdict(own).items() if value is not None}
            if isinstance(own, ClassGates)
            else own
            for name, own in plain["classes"].items()
        }
    return _gates(_Table(Path(where), "", plain), gates)


def _gates(table: _Table | None, default: Gates = _DEFAULTS.gates) -> Gates:
    if table is None:
        return default
    classes = table.table("classes")
    own = {} if classes is None else {n: _class_gates(classes.required_table(n)) for n in classes.values}
    gates = Gates(
        recall_drop=table.share("recall_drop", default.recall_drop),
        precision_drop=table.share("precision_drop", default.precision_drop),
        accuracy_drop=table.share("accuracy_drop", default.accuracy_drop),
        top_k_accuracy_drop=table.share("top_k_accuracy_drop", default.top_k_accuracy_drop),
        alpha=table.get("alpha", default.alpha, RATE, rate),
        classes={**default.classes, **own},
        max_abs=table.at_least_zero("max_abs", default.max_abs),
        max_rel=table.at_least_zero("max_rel", default.max_rel),
        relative_l2=table.at_least_zero("relative_l2", default.relative_l2),
        cosine=table.share("cosine", default.cosine),
        kl=table.at_least_zero("kl", default.kl),
        top1_agreement=table.share("top1_agreement", default.top1_agreement),
        engine_mb=table.at_least_zero("engine_mb", default.engine_mb),
        memory_mb=table.at_least_zero("memory_mb", default.memory_mb),
    )
    table.finish()
    return gates


def _class_gates(table: _Table) -> ClassGates:
    gates = ClassGates(table.share("recall_drop", None), table.share("precision_drop", None))
    table.finish()
    return gates


def _engines(table: _Table) -> tuple[str, ...]:
    """The default engines: the list ``engines``, and the one file that ``engine`` names."""
    prebuilt = table.text("engine")
    return (*table.texts("engines", ()), *(() if prebuilt is None else (prebuilt,)))


def _lowering(table: _Table) -> dict[Precision, LoweringSpec]:
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
                    lambda v: float(v) if _number(v) and 50 < v <= 100 else None,
                ),
                rest=own.choice("rest", default.rest, RESTS),
            )  # fmt: skip
        own.finish()
        found[precision] = spec
    return found


def _build(table: _Table) -> BuildSpec:
    """The profile, and the table ``tensorrt``."""
    default = BuildSpec()
    batch, shapes = _profile(
        table.get("profile", {}, _PROFILE, lambda v: v if isinstance(v, dict) else None), table
    )
    own = table.table("tensorrt")
    if own is None:
        return BuildSpec(batch=batch, shapes=shapes)

    def flag(name: str) -> bool:
        return own.get(name, False, "true or false", lambda v: v if isinstance(v, bool) else None)

    spec = BuildSpec(
        batch=batch,
        shapes=shapes,
        workspace_mb=own.get(
            "workspace_mb", default.workspace_mb, "a number above 0, in MiB",
            lambda v: float(v) if _number(v) and 0 < v <= LARGEST else None,
        ),
        optimization_level=own.get(
            "optimization_level", default.optimization_level, "a whole number from 0 to 5",
            lambda v: v if _whole(v, least=0) and v <= 5 else None,
        ),
        tf32=flag("tf32"),
        version_compatible=flag("version_compatible"),
        hardware_compatible=flag("hardware_compatible"),
        plugins=tuple(own.existing("plugins", text) for text in own.texts("plugins", ())),
        cuda_graph=flag("cuda_graph"),
    )  # fmt: skip
    own.finish()
    return spec


_PROFILE = (
    "batch sizes {min = 1, opt = 8, max = 64}, or full shapes by input: "
    "{image = {min = [1, 3, 224, 224], opt = [8, 3, 224, 224], max = [64, 3, 224, 224]}}"
)


def _profile(
    given: Mapping[str, Any], table: _Table
) -> tuple[tuple[int, int, int] | None, dict[str, ShapeRange]]:
    """The range of batch sizes, or the shapes by input, that ``profile`` holds."""
    ends = ("min", "opt", "max")
    if not given:
        return None, {}
    if any(_whole(value) for value in given.values()):
        whole = set(given) == set(ends) and all(map(_whole, given.values()))
        if not whole or not given["min"] <= given["opt"] <= given["max"]:
            raise table.wrong("profile", f"{_PROFILE}; min <= opt <= max")
        return (given["min"], given["opt"], given["max"]), {}
    shapes = {}
    for name, own in given.items():
        read = (
            [_shape(own.get(end)) for end in ends] if isinstance(own, dict) and set(own) == set(ends) else []
        )
        found = [shape for shape in read if shape is not None]
        if len(found) < len(ends) or not ascends(*found):
            raise SuiteError(
                f"{table.at('profile')}.{name} has a wrong value", where=table.path,
                expected=f"{_PROFILE}; min <= opt <= max in every dimension", found=own,
            )  # fmt: skip
        shapes[name] = ShapeRange(*found)
    return None, shapes


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value) if isinstance(value, list) and value and all(map(_whole, value)) else None


def _lowered(table: _Table | None) -> dict[Precision, Path]:
    if table is None:
        return {}
    files = {precision: table.file(precision.value) for precision in Precision}
    table.finish()
    return {precision: path for precision, path in files.items() if path is not None}

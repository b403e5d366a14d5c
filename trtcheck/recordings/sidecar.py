"""The TOML file beside a recording that says where it comes from."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trtcheck import given
from trtcheck.errors import EngineError
from trtcheck.recordings.files import read_text
from trtcheck.recordings.recording import Sidecar

T = TypeVar("T")

IN_FOLDER = "recording.toml"
"""Name of the sidecar inside a folder."""
BESIDE_FILE = ".recording.toml"
"""What follows the stem of a file in the name of its sidecar."""

_MOST_WATTS = 1e6


def read_sidecar(recording: Path) -> Sidecar:
    """What is said about *recording*: ``recording.toml`` in a folder, ``x.recording.toml`` beside ``x.npz``.

    Raises:
        EngineError: The sidecar cannot be read, or a key is unknown or of the wrong type.
    """
    folder = recording.is_dir()
    path = recording / IN_FOLDER if folder else recording.with_name(recording.stem + BESIDE_FILE)
    if not path.exists():
        return Sidecar()
    text = read_text(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise EngineError("is no valid TOML", where=path, found=error) from error
    unknown = [key for key in document if key not in _KEYS]
    if unknown:
        close = difflib.get_close_matches(unknown[0], _KEYS, n=1)
        raise EngineError(
            f"unknown key {unknown[0]}", where=path, expected=f"some of: {', '.join(_KEYS)}",
            found=unknown[0], hint=f"did you mean {close[0]}?" if close else None,
        )  # fmt: skip
    return Sidecar(path=path, **{key: _value(document, key, path) for key in document})


def basic_string(text: str) -> str:
    """The *text* as TOML writes it, quotes included, whatever is in it."""
    # JSON's strings are TOML's, but for DEL and for the pairs that stand for characters beyond 16 bits.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(document: Mapping[str, Any], key: str, path: Path) -> Any:
    expected, read = _KEYS[key]
    value = read(document[key], path.parent)
    if value is None:
        shown = repr(document[key])
        raise EngineError(
            f"{key} has a wrong value", where=path, expected=expected,
            found=f"{shown[:200]} ({type(document[key]).__name__})",
        )  # fmt: skip
    return value


def _text(value: object, _folder: Path) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object, _folder: Path) -> int | None:
    return given.count(value)


def _flag(value: object, _folder: Path) -> bool | None:
    return value if isinstance(value, bool) else None


def _watts(value: object, _folder: Path) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is made a float: TOML knows integers beyond those.
    return float(value) if 0 < value < _MOST_WATTS else None


def _files(value: object, folder: Path) -> tuple[Path, ...] | None:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        return None
    texts = [entry for entry in entries if isinstance(entry, str) and entry]
    return tuple(folder / text for text in texts) if len(texts) == len(entries) else None


def _names(value: object, _folder: Path) -> dict[str, str] | None:
    if not isinstance(value, dict) or not all(isinstance(name, str) and name for name in value.values()):
        return None
    return value if len(set(value.values())) == len(value) else None


_KEYS: Mapping[str, tuple[str, Callable[[Any, Path], object | None]]] = {
    "device": ("a string", _text),
    "runtime": ("a string", _text),
    "precision": ("a string", _text),
    "images": ("a whole number, 1 or more", _count),
    "batch": ("a whole number, 1 or more", _count),
    "inputs_digest": ('a string "sha256:…", as pytest-trtcheck export-inputs writes it', _text),
    "times": ("the path of a file of trtexec --exportTimes, or a list of them", _files),
    "cuda_graph": ("true or false", _flag),
    "spin_wait": ("true or false", _flag),
    "power_w": ("the mean power in watts, a number above 0", _watts),
    "outputs": ("a table: the engine's name of an output = the model's, each once", _names),
}

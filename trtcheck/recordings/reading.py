"""Reading recordings: one file or a folder of batches, put together in the order of the images."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trtcheck.case import RECORDING_SUFFIXES
from trtcheck.errors import EngineError
from trtcheck.recordings import saved_runs, trtexec
from trtcheck.recordings.commands import TIMES
from trtcheck.recordings.files import read_text
from trtcheck.recordings.order import in_order
from trtcheck.recordings.recording import Format, Recording, Sidecar
from trtcheck.recordings.sidecar import read_sidecar

if TYPE_CHECKING:
    from trtcheck.model import Tensor

INDEX = "trtcheck_index"
"""Name of the array of an .npz that says which image each row is."""

Outputs = Mapping[str, np.ndarray]

# What zipfile and numpy raise for archives that are truncated, damaged, encrypted or too large to hold.
_UNREADABLE = (
    OSError, ValueError, EOFError, KeyError, IndexError, MemoryError, OverflowError, RuntimeError,
    SyntaxError, TypeError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


def read_recording(path: Path, outputs: Sequence[Tensor] = ()) -> Recording:
    """The recording at *path*.

    Args:
        path: An ``.npz``, Polygraphy's or trtexec's ``.json``, or a folder of such files, one a batch.
        outputs: The reference's outputs: where one holds integers or truth values, so does the recording's,
            as far as its values allow it (trtexec writes numbers without their type).

    Raises:
        EngineError: A file cannot be read, or the files do not fit together.
    """
    try:
        return _recording(path, outputs)
    except OSError as error:  # a name that is too long, a folder that must not be entered
        raise EngineError("cannot be read", where=path, found=error) from error


def _recording(path: Path, outputs: Sequence[Tensor]) -> Recording:
    sidecar = read_sidecar(path)
    files = _batch_files(path, sidecar) if path.is_dir() else (path,)
    read = [_read(file) for file in files]
    formats = {file: kind for file, (kind, _) in zip(files, read, strict=True)}
    kind = formats[files[0]]
    other = next((file for file in files if formats[file] is not kind), None)
    if other is not None:
        raise EngineError(
            "the folder's files are of different kinds", where=path, expected=f"{kind} files alone",
            found=f"{other.name}: {formats[other]}",
        )  # fmt: skip
    batches = [(file, batch) for file, (_, every) in zip(files, read, strict=True) for batch in every]
    for file, batch in batches:
        _require_rows(batch, file)
    arrays = _joined(batches, kind)
    index = arrays.pop(INDEX, None)
    if index is not None and (index.ndim != 1 or index.dtype.kind not in "iu"):
        raise EngineError(
            f"{INDEX} is no list of image numbers", where=path, expected="integers (rows,)",
            found=f"{index.dtype} {index.shape}",
        )  # fmt: skip
    if not arrays:
        raise EngineError("holds no output", where=path, expected="arrays by output name", found="none")
    wanted = {tensor.name: tensor for tensor in outputs}
    times = [file for file in sidecar.times if file.exists()]
    return Recording(
        path=path, format=kind, files=files, sidecar=sidecar, index=index,
        outputs={
            name: _typed(array, wanted.get(name), kind) for name, array in _renamed(arrays, sidecar).items()
        },
        times=trtexec.times(times) if times else None,
        batch=sidecar.batch or (_rows(batches[0][1]) if len(batches) > 1 else None),
        missing_times=tuple(file for file in sidecar.times if file not in times),
    )  # fmt: skip


def _read(path: Path) -> tuple[Format, list[dict[str, np.ndarray]]]:
    """Format and batches of one file."""
    if not path.is_file():
        raise EngineError("no such file", where=path, expected="a recording")
    if path.suffix.lower() == ".npz":
        return Format.NPZ, [_read_npz(path)]
    text = read_text(path)
    if text.lstrip()[:1] == "{":
        return Format.POLYGRAPHY, saved_runs.outputs(path)
    return Format.TRTEXEC, [trtexec.outputs(text, path)]


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, since numpy leaves a file open that it finds damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")  # noqa: TRY004 (told to the user below)
            with archive:
                return {name: np.asarray(archive[name]) for name in archive.files}
    except _UNREADABLE as error:
        raise EngineError(
            "cannot be read", where=path, expected="an archive of numpy.savez: output name to array",
            found=f"{type(error).__name__}: {error}"[:500],
        ) from error  # fmt: skip


def _batch_files(folder: Path, sidecar: Sidecar) -> tuple[Path, ...]:
    """The files of a folder that hold outputs, in the order of the numbers in their names.

    Raises:
        EngineError: There are none, their order is not clear, or a number is missing.
    """
    # `run.sh` writes its times under that name; a folder that lost its sidecar holds them still.
    times = {path.resolve() for path in (*sidecar.times, folder / TIMES)}
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in RECORDING_SUFFIXES and path.is_file() and not path.name.startswith(".")
        and path.resolve() not in times
    ]  # fmt: skip
    if not found:
        raise EngineError(
            "holds no recorded outputs", where=folder, expected=f"{' or '.join(RECORDING_SUFFIXES)} files",
            found=", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "an empty folder",
        )  # fmt: skip
    return in_order(found, folder)


def _rows(batch: Outputs) -> int:
    return len(next(iter(batch.values())))


def _require_rows(batch: Outputs, where: Path) -> None:
    """Refuses a batch whose arrays are not numbers with one row an image each."""
    if not batch:
        raise EngineError("holds no output", where=where, expected="arrays by output name", found="none")
    for name, array in batch.items():
        if array.dtype.kind not in "fiub":
            raise EngineError(
                f"output '{name}' holds no numbers", where=where, expected="floats, integers or truth values",
                found=f"type {array.dtype}", hint="store bfloat16 as float32",
            )  # fmt: skip
        if not array.ndim:
            raise EngineError(
                f"output '{name}' has no axis of images",
                where=where,
                expected="(N, ...)",
                found="a single number",
            )
    counts = {name: len(array) for name, array in batch.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise EngineError(
            "the outputs do not have one row an image", where=where,
            expected="one length of the first axis, 1 or more",
            found=", ".join(f"{name}: {count}" for name, count in counts.items()),
        )  # fmt: skip


def _joined(batches: Sequence[tuple[Path, Outputs]], kind: Format) -> dict[str, np.ndarray]:
    """The batches one after the other.

    Raises:
        EngineError: They differ in names, shapes behind the first axis, or types.
    """
    first_file, first = batches[0]
    described = _described(first, kind)
    for number, (file, batch) in enumerate(batches):
        found = _described(batch, kind)
        if found != described:
            raise EngineError(
                f"batch {number} differs from the first one", where=file,
                expected=f"{described}, as {first_file.name}", found=found,
            )  # fmt: skip
    if len(batches) == 1:
        return dict(first)
    return {name: np.concatenate([batch[name] for _, batch in batches]) for name in first}


def _described(batch: Outputs, kind: Format) -> str:
    return "; ".join(
        f"{name}: {_type(batch[name], kind)}[{', '.join(['N', *map(str, batch[name].shape[1:])])}]"
        for name in sorted(batch)
    )


def _type(array: np.ndarray, kind: Format) -> str:
    """The type as far as the file says it: trtexec prints 1.0 as 1, so that floats may look whole."""
    return "number" if kind is Format.TRTEXEC else str(array.dtype)


def _renamed(arrays: Outputs, sidecar: Sidecar) -> dict[str, np.ndarray]:
    unknown = [name for name in sidecar.outputs if name not in arrays]
    if unknown:
        raise EngineError(
            f"outputs names '{unknown[0]}', which the recording does not have", where=sidecar.path,
            expected=f"some of: {', '.join(arrays)}", found=unknown[0],
        )  # fmt: skip
    found = {sidecar.outputs.get(name, name): array for name, array in arrays.items()}
    if len(found) < len(arrays):
        raise EngineError(
            "two outputs are given one name", where=sidecar.path, expected="a name of its own for each",
            found=", ".join(f"{name} = {sidecar.outputs.get(name, name)}" for name in arrays),
        )  # fmt: skip
    return found


def _typed(array: np.ndarray, wanted: Tensor | None, kind: Format) -> np.ndarray:
    """The *array* in the integer type of the reference where its values allow it."""
    if wanted is not None and wanted.dtype.kind in "iub" and _holds(wanted.dtype, array):
        return array.astype(wanted.dtype, copy=False)
    return array.astype(np.float32, copy=False) if kind is Format.TRTEXEC else array


def _holds(dtype: np.dtype, array: np.ndarray) -> bool:
    """Whether *dtype* has every value of *array*, which is whole numbers then."""
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.trunc(array))).all():
        return False
    low, high = int(array.min()), int(array.max())
    if dtype.kind == "b":
        return low >= 0 and high <= 1
    limits = np.iinfo(dtype)
    return low >= limits.min and high <= limits.max

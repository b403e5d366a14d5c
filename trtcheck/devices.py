"""The GPUs of a run, ``--trt-devices``: which there are, which were asked for, and who gets which.

A process is given its GPU by ``CUDA_VISIBLE_DEVICES``, before anything in it starts CUDA; whatever it starts
inherits that, and sees the GPU as number 0. They are counted without CUDA: a process that has started it
keeps the GPUs that it saw then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

from trtcheck.errors import BackendError, OptionError

if TYPE_CHECKING:
    from trtcheck.settings import Settings

VARIABLE = "CUDA_VISIBLE_DEVICES"
OPTION, INI = "--trt-devices", "ini key trt_devices"


@dataclass(frozen=True)
class Device:
    """A GPU, or an instance of one that is divided (MIG).

    Attributes:
        uuid: What names it in ``CUDA_VISIBLE_DEVICES``.
        name: Its model; of an instance with its profile.
    """

    uuid: str
    name: str


@dataclass(frozen=True)
class Asked:
    """What ``--trt-devices`` or its ini key says.

    Attributes:
        numbers: The numbers among the GPUs that are visible to pytest; None for all of them.
        where: Option or key that messages name.
    """

    numbers: tuple[int, ...] | None
    where: str

    def __str__(self) -> str:
        return "all" if self.numbers is None else ",".join(map(str, self.numbers))


def read_devices(option: str | None, ini: str | None) -> Asked | None:
    """What was asked for; None where nothing was.

    Args:
        option: ``--trt-devices``, or nothing; it comes first.
        ini: The ini key, or nothing.

    Raises:
        OptionError: It is neither ``all`` nor a list of different numbers.
    """
    text, where = (option, OPTION) if option else (ini, INI)
    if not text:
        return None
    entries = [entry.strip() for entry in text.split(",")]
    if entries == ["all"]:
        return Asked(None, where)
    if not all(entry.isascii() and entry.isdigit() and len(entry) < 7 for entry in entries):
        raise OptionError(
            f"{where} names no GPUs", expected="all, or numbers among the GPUs that pytest sees, such as 0,2",
            found=text, hint=f"nvidia-smi -L lists them; pytest {OPTION}=all takes every one",
        )  # fmt: skip
    numbers = tuple(map(int, entries))
    for number in numbers:
        if numbers.count(number) > 1:
            raise OptionError(
                f"{where} names GPU {number} twice", expected="every GPU once", found=text,
                hint=f"several workers share a GPU where there are more of them: pytest -n {len(numbers)} "
                f"{OPTION}={','.join(map(str, dict.fromkeys(numbers)))}",
            )  # fmt: skip
    return Asked(numbers, where)


def find(asked: Asked | None, environment: Mapping[str, str]) -> tuple[Device, ...]:
    """The GPUs that were asked for; none where nothing was.

    ``all`` in an ini file, which machines with and without GPUs read, is none where there is none.

    Args:
        asked: What was asked for.
        environment: The process's environment, in which ``CUDA_VISIBLE_DEVICES`` counts.

    Raises:
        OptionError: There is none, or not that one, or they are of different models.
    """
    if asked is None:
        return ()
    from trtcheck.devices_visible import visible

    try:
        found = visible(environment)
    except BackendError as error:
        if asked.numbers is None and asked.where == INI:
            return ()
        told = str(error).splitlines()[0]
        raise OptionError(
            f"{asked.where}={asked}: there is no GPU to use", expected="NVIDIA GPUs", found=told,
            hint="pytest-trtcheck doctor tells what is missing; leave the option out to run without a GPU",
        ) from error  # fmt: skip
    return select(asked, found)


def select(asked: Asked, found: Sequence[Device]) -> tuple[Device, ...]:
    """Those of the GPUs *found* that were *asked* for.

    Raises:
        OptionError: A number is too large, or they are of different models: engines, times and baselines are
            of one model.
    """
    for number in asked.numbers or ():
        if number >= len(found):
            raise OptionError(
                f"{asked.where}={asked}: there is no GPU {number}",
                expected=f"numbers from 0 to {len(found) - 1}: {VARIABLE} is respected, and counted within",
                found=_listed(found),
            )  # fmt: skip
    numbers = tuple(range(len(found))) if asked.numbers is None else asked.numbers
    models: dict[str, list[int]] = {}
    for number in numbers:
        models.setdefault(found[number].name, []).append(number)
    if len(models) > 1:
        lists = [f"{OPTION}={','.join(map(str, same))} ({name})" for name, same in models.items()]
        raise OptionError(
            f"{asked.where}={asked} names GPUs of different models",
            expected="GPUs of one model: engines, times and baselines are of one", found=_listed(found),
            hint=f"pytest {' or '.join(lists)}",
        )  # fmt: skip
    return tuple(found[number] for number in numbers)


def _listed(found: Iterable[Device]) -> str:
    return "; ".join(f"{number}: {device.name}" for number, device in enumerate(found))


def chosen(settings: Settings) -> tuple[str, ...]:
    """What ``CUDA_VISIBLE_DEVICES`` may be set to for the processes that this one starts, one GPU each.

    Of a serial run those of ``--trt-devices``, of a worker its own; nothing without that option.
    """
    return tuple(device.uuid for device in settings.gpus)


def place(environments: Iterable[MutableMapping[str, str]], devices: Sequence[Device]) -> None:
    """Gives a GPU to each of the processes that get these *environments*, and begins anew after the last.

    One that names a GPU already keeps it.
    """
    for environment, device in zip(environments, cycle(devices), strict=False):
        environment.setdefault(VARIABLE, device.uuid)


@contextmanager
def visible_to_this(devices: Sequence[Device], environment: MutableMapping[str, str]) -> Iterator[None]:
    """Lets this process see the first of *devices* alone, if there are any; afterwards what it saw before."""
    if not devices:
        yield
        return
    before = environment.get(VARIABLE)
    environment[VARIABLE] = devices[0].uuid
    try:
        yield
    finally:
        environment.pop(VARIABLE)
        if before is not None:
            environment[VARIABLE] = before


def to_worker(devices: Sequence[Device], environment: Mapping[str, str]) -> list[dict[str, str]]:
    """What a worker with this *environment* is told of its GPU, for `of_worker`."""
    own = environment.get(VARIABLE)
    return [{"uuid": device.uuid, "name": device.name} for device in devices if device.uuid == own]


def of_worker(told: Any) -> tuple[Device, ...]:
    """The GPU of this worker; none where it was told of none."""
    return tuple(Device(entry["uuid"], entry["name"]) for entry in told or ())


def header(devices: Sequence[Device], workers: int) -> str:
    """One line on how *devices*, at least one, are used.

    Args:
        devices: The GPUs.
        workers: How many workers there are; 0 for a serial run.
    """
    count, name = len(devices), devices[0].name
    gpus = f"{count} GPU{'s' if count > 1 else ''}"
    if workers == 0:
        if count == 1:
            return f"trtcheck: 1 GPU: {name}"
        return f"trtcheck: 1 of {gpus}: {name}; the others idle, -n {count} would use them"
    if workers < count:
        return f"trtcheck: {workers} of {gpus}, one a worker: {name}; -n {count} would use all"
    if workers == count:
        return f"trtcheck: {gpus}, one a worker: {name}"
    most = -(-workers // count)
    share = f"{most}" if workers % count == 0 else f"up to {most}"
    return (
        f"trtcheck: {gpus} for {workers} workers: {name}; {share} share one, and wait while one of them times"
    )

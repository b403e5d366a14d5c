"""Workers of a Dask scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from trtcheck.errors import OptionError
from trtcheck.shards import plan
from trtcheck.shards.asked import FILE, INSTALL
from trtcheck.shards.worker import libraries

_WAITS = 5
"""Seconds in which scheduler and workers must answer."""


@dataclass(frozen=True)
class Cluster:
    """A scheduler with its workers.

    Attributes:
        address: Where the scheduler is.
        executor: What sends work to the workers.
        workers: How many worker processes there are.
        slots: How many tasks they run at once.
        beside: The most that run at once on one of their machines.
        close: Says good-bye to the scheduler.
    """

    address: str
    executor: Executor
    workers: int
    slots: int
    beside: int
    close: Callable[[], None]


def connect(where: str) -> Cluster:
    """The workers of the scheduler at *where*, held against this process.

    Args:
        where: Its address or file, see `trtcheck.shards.asked.executor`.

    Raises:
        OptionError: Dask is not installed, the scheduler does not answer, it has no workers, or one has other
            libraries than this process.
    """
    try:
        import distributed
    except ImportError as error:
        raise OptionError(
            f"--trt-executor={where} needs Dask, which is not installed", found=error, hint=INSTALL
        ) from error
    file = where.removeprefix(FILE)
    by_file = file != where
    address = file if by_file else where.replace("dask://", "tcp://")
    options: dict[str, Any] = {"scheduler_file": file} if by_file else {"address": address}
    try:
        make: Any = distributed.Client
        client: Any = make(**options, timeout=_WAITS, set_as_default=False)
    except (OSError, TimeoutError, ValueError, ImportError) as error:  # the last: of another time's Dask
        raise OptionError(
            f"--trt-executor: no scheduler answers at {address} within {_WAITS} s", found=error,
            hint="start one: dask scheduler --port 8786; or check host and port",
        ) from error  # fmt: skip
    try:
        return _met(client, client.scheduler.address)
    except BaseException:
        client.close()
        raise


def _met(client: Any, address: str) -> Cluster:
    try:
        client.wait_for_workers(1, timeout=_WAITS)
    except TimeoutError as error:
        raise OptionError(
            f"--trt-executor: the scheduler at {address} has no workers",
            hint=f"start one a GPU, or one a core: dask worker {address} --nthreads 1",
        ) from error
    _require_alike(client)
    known: Mapping[str, Mapping[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    beside: Counter[str] = Counter()
    for worker in known.values():
        beside[worker["host"]] += worker["nthreads"]
    # Not pure: the same shard asked for again is to be evaluated again.
    executor = client.get_executor(pure=False)
    return Cluster(address, executor, len(known), beside.total(), max(beside.values()), client.close)


def _require_alike(client: Any) -> None:
    """Refuses workers with other libraries than this process.

    Raises:
        OptionError: There is one; it is named.
    """
    needed = plan.needed_libraries()
    told: Mapping[str, Any] = client.run(libraries, on_error="return")
    for worker, found in told.items():
        if not isinstance(found, Mapping):
            raise OptionError(
                f"--trt-executor: trtcheck does not work on worker {worker}",
                found=" ".join(f"{type(found).__name__}: {found}".split()),
                hint=f"install on every worker what is installed here: {INSTALL}",
            )
        different = plan.differences(needed, found)
        if different:
            raise OptionError(
                f"--trt-executor: worker {worker} has other libraries",
                expected=", ".join(f"{name} {wanted}" for name, (wanted, _) in different.items()),
                found=", ".join(f"{name} {other}" for name, (_, other) in different.items()),
                hint="install on every worker what is installed here",
            )

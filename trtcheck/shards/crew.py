"""Who evaluates shards: children of this machine, a Dask cluster, or anybody's executor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from trtcheck.devices import VARIABLE
from trtcheck.shards.children import Children
from trtcheck.shards.gather import Pool

ONE = 16
"""Shards for an executor of which nothing is known."""
EACH = 4
"""Shards for each of the workers that are known: whoever is done early takes another one."""


@dataclass(frozen=True)
class Crew:
    """Who evaluates shards.

    Attributes:
        pool: The executor.
        shards: How many shards an evaluation is cut into.
        threads: Threads for each; 0 takes a share of the cores of the worker's machine.
        beside: Shards that a worker's machine evaluates at once, for that share.
        words: What it is, for the header.
        leave: Ends what only this process's use of the executor needs.
    """

    pool: Pool
    shards: int
    threads: int
    beside: int
    words: str
    leave: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Ends what was started here; an executor that was given goes on."""
        self.pool.close()
        self.leave()


def of_children(count: int, gpus: Sequence[str], cores: int) -> Crew:
    """Child processes of this machine.

    Args:
        count: How many.
        gpus: What ``CUDA_VISIBLE_DEVICES`` may be in them, which take turns; nothing leaves it as it is.
        cores: The cores that they share.
    """
    places = [{VARIABLE: gpus[k % len(gpus)]} if gpus else {} for k in range(count)]
    used = len({*gpus[:count]})
    over = f", each on one of {used} GPU{'s' if used > 1 else ''}" if used else ""
    words = f"images are cut over {count} processes{over}"
    pool = Pool(partial(Children, places))
    return Crew(pool, EACH * count, max(1, cores // count), count, words)


def of_scheduler(where: str, shards: int | None) -> Crew:
    """The workers of a Dask scheduler.

    Args:
        where: Its address or file, see `trtcheck.shards.asked.executor`.
        shards: How many shards; None for `EACH` of what the workers take at once.

    Raises:
        OptionError: See `trtcheck.shards.dask_client.connect`.
    """
    from trtcheck.shards.dask_client import connect

    cluster = connect(where)
    count = shards or EACH * cluster.slots
    words = f"images are cut into {count} shards for {cluster.workers} Dask workers of {cluster.address}"
    return Crew(Pool(cluster.executor), count, 0, cluster.beside, words, cluster.close)


def of_executor(executor: Executor | Callable[[], Executor], shards: int | None, threads: int | None) -> Crew:
    """Anybody's executor.

    Args:
        executor: The executor, or what makes one.
        shards: How many shards; None for `ONE`.
        threads: Threads for each; None for one, since most pools have a worker a core.
    """
    count = shards or ONE
    return Crew(Pool(executor), count, threads or 1, 1, f"images are cut into {count} shards")

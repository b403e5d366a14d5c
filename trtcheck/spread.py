"""How pytest-xdist spreads items over its workers: an engine of a model stays with one of them.

All checks of an engine ask for one evaluation. Sent to several workers, one would make it and the others
would wait.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from itertools import islice
from typing import TYPE_CHECKING, final

try:
    from xdist.scheduler import LoadScopeScheduling
except ImportError:  # without pytest-xdist nobody asks for a scheduler
    LoadScopeScheduling = object

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

_ITEM = re.compile(r"(.+\.toml::.+\[[^\[\]]+\])::[^:]+")
"""``trtcheck.toml::resnet50[int8]::recall``: the items of a suite file."""


def unit_of(nodeid: str, engines: Collection[str]) -> str:
    """What is sent to a worker as a whole: a model's engine, a test file's tests of an engine, or one test.

    Args:
        nodeid: The item.
        engines: Names of engines, by which tests are parametrized: ``test_x.py::test_recall[int8]``.

    Returns:
        The unit's name; that of an engine ends in the engine's in brackets.
    """
    item = _ITEM.fullmatch(nodeid)
    if item is not None:
        return item[1]
    file, _, test = nodeid.partition("::")
    _, _, parameters = test.removesuffix("]").partition("[")
    named = [engine for engine in engines if f"-{engine}-" in f"-{parameters}-"]
    return f"{file}[{max(named, key=len)}]" if named else nodeid


def model_of(unit: str) -> str | None:
    """What the engines of one model have in common; None where the *unit* is but a test."""
    test = "::" in unit and ".toml::" not in unit
    return unit.rpartition("[")[0] if unit.endswith("]") and not test else None


@final
class EngineScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out engines: the largest first, by their number of items, and of every model one to begin with.

    The first engine of a model computes the reference's answers, which the others find in the cache.

    Args:
        config: pytest's configuration.
        log: xdist's log.
        engines: See `unit_of`.
    """

    def __init__(self, config: pytest.Config, log: Producer | None, engines: Collection[str]) -> None:
        super().__init__(config, log)
        self._engines = engines
        self._begun: set[str | None] = {None}

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid, self._engines)

    def _assign_work_unit(self, node: WorkerController) -> None:
        new = (unit for unit in self.workqueue if model_of(unit) not in self._begun)
        unit = next(new, next(iter(self.workqueue)))
        self._begun.add(model_of(unit))
        self.workqueue.move_to_end(unit, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if node not in self.registered_collections:
            return  # it came in the place of another, and is asked again once it has collected
        engine_next = any(model_of(unit) is not None for unit in islice(self.workqueue, 1))
        if engine_next and self._pending_of(self.assigned_work[node]) > 1:
            return  # as late as xdist allows: whoever is free first takes the engine
        super()._reschedule(node)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Notes that an item ran, and forgets a unit that is done: all that is kept is counted at every item.

        Args:
            node: The worker.
            item_index: The item's number in its collection.
            duration: How long it took; not used.
        """
        unit = self._split_scope(self.registered_collections[node][item_index])
        super().mark_test_complete(node, item_index, duration)
        if all(self.assigned_work[node][unit].values()):
            del self.assigned_work[node][unit]

    def remove_node(self, node: WorkerController) -> str | None:
        """Takes a worker away that ended; others do what it left, but for the item that ended it.

        An item that ends its process would otherwise do so with one worker after the other.

        Args:
            node: The worker.

        Returns:
            The item that it was at, if there was one.
        """
        units: Iterable[dict[str, bool]] = self.assigned_work[node].values()
        at = next(((unit, item) for unit in units for item, done in unit.items() if not done), None)
        if at is not None:
            unit, item = at
            unit[item] = True
        super().remove_node(node)
        return None if at is None else at[1]

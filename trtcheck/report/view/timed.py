"""The check ``latency`` on an engine's page: times, what they were held against, the state of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trtcheck import names
from trtcheck.report import speeds
from trtcheck.report.charts import forest, percentiles, rounds
from trtcheck.report.charts.chart import Chart
from trtcheck.report.view import formats, machine, time_tables
from trtcheck.report.view.facts import Fact, fact, known
from trtcheck.report.view.machine import Health
from trtcheck.report.view.records import Record
from trtcheck.report.view.room import Room
from trtcheck.report.view.tables import Table


@dataclass(frozen=True)
class Latency:
    """What the checks of latency found.

    Attributes:
        changes: Pictures of what was held against approved times or a rival.
        judged: The tables that verdicts come from.
        health: The state of the machine at every batch size.
        percentiles: A picture a batch size.
        tables: The other figures.
        rounds: A picture a batch size.
        left_out: Batch sizes without pictures of their own, in a sentence, or "".
        facts: How the engine was timed.
    """

    changes: tuple[Chart, ...]
    judged: tuple[Table, ...]
    health: tuple[Health, ...]
    percentiles: tuple[Chart, ...]
    tables: tuple[Table, ...]
    rounds: tuple[Chart, ...]
    left_out: str
    facts: tuple[Fact, ...]


def of_items(items: Iterable[Record], room: Room) -> Latency | None:
    """The figures of the latency checks among *items*, by batch size; None where nothing was timed."""
    found = sorted(speeds.timed(list(items)), key=lambda item: item["batch"])
    if not found:
        return None
    judged = (time_tables.judged(found), time_tables.limits(found))
    tables = (time_tables.figures(found), time_tables.beside(found), time_tables.approved(found))
    drawn, rest = found[: room.batches], found[room.batches :]
    sizes = ", ".join(str(item["batch"]) for item in rest)
    return Latency(
        changes=forest.of_items(found, "latency-changes", judged[0].anchor),
        judged=tuple(table for table in judged if table.rows),
        health=tuple(map(machine.of_item, found)),
        percentiles=tuple(
            percentiles.of_item(item, f"latency-percentiles-b{item['batch']}") for item in drawn
        ),
        tables=tuple(table for table in tables if table.rows),
        rounds=tuple(
            rounds.of_item(item, f"latency-rounds-b{item['batch']}") for item in drawn if room.rounds
        ),
        left_out=f"There are no pictures of batch {sizes}: the tables have their figures." if rest else "",
        facts=_facts(found),
    )


def _facts(items: Sequence[Record]) -> tuple[Fact, ...]:
    """How the engine was timed; what differs between batch sizes is told of each."""

    def each(tell: Callable[[Record], str | None]) -> str | None:
        told = {item["batch"]: tell(item) for item in items}
        if len(set(told.values())) == 1:
            return next(iter(told.values()))
        return "; ".join(f"batch {batch}: {text or 'unknown'}" for batch, text in told.items())

    return known(
        (
            fact("clock", each(lambda item: _CLOCKS[item["timing"]["clock"]])),
            fact("transfers", each(lambda item: "timed" if item["timing"]["transfers"] else "not timed")),
            fact("CUDA graph", each(lambda item: _yes(item["timing"]["cuda_graph"]))),
            fact("spin-wait", each(lambda item: _yes(item["timing"]["spin_wait"]))),
            fact("warm-up", each(_warm_up)),
            fact("rounds", each(_looks)),
            fact("environment", each(_environment)),
            fact("environment digest", each(lambda item: item["environment_digest"]), code=True),
        )
    )


_CLOCKS = {"device": "the GPU's (CUDA events)", "host": "the host's"}


def _yes(value: bool | None) -> str | None:
    return None if value is None else "on" if value else "off"


def _warm_up(item: Record) -> str:
    found = item["warm_up"]
    settled = "" if found["plateau"] else ", not settled"
    queries = f"{formats.grouped(found['queries'])} queries, " if found["queries"] else ""
    return f"{queries}{names.significant(found['seconds'], 2)} s{settled}"


def _looks(item: Record) -> str:
    rounds, samples = item["latency"]["rounds"], item["latency"]["samples"]
    looks = len(item["looks"])
    spent = f", judged {looks} times on the way" if looks > 1 else ""
    queries = formats.number_of(samples, "query", "queries")
    return f"{formats.number_of(rounds, 'round', 'rounds')} of {queries} in all{spent}"


def _environment(item: Record) -> str:
    """What times depend on besides the engine and how it was timed, which stands beside it."""
    parts = {name: value for name, value in item["environment"].items() if name not in item["timing"]}
    return machine.shown(parts)

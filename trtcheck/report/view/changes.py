"""What is not as it was when results were approved, for the first page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtcheck.report.view.formats import number_of, shown_engine
from trtcheck.report.view.records import Pair, Record, pair

SHOWN_CHANGES = 12
SHOWN_ENGINES = 6


@dataclass(frozen=True)
class Changed:
    """One thing that changed, and the engines of which it is told.

    Attributes:
        what: Its name.
        approved: What it was.
        now: What it is.
        engines: Engines with their model, and their pages.
        more: How many further engines.
    """

    what: str
    approved: str
    now: str
    engines: tuple[tuple[str, str], ...]
    more: int


@dataclass(frozen=True)
class SinceApproval:
    """How the run stands to what was approved, in a sentence, and what changed."""

    sentence: str
    changes: tuple[Changed, ...]
    more: int


def since_approval(document: Record, pages: Mapping[Pair, str]) -> SinceApproval | None:
    """What changed since the baselines of *document*'s engines were approved; None where nothing ran."""
    engines = [engine for engine in document["engines"] if engine["baseline"] is not None]
    if not engines:
        return None
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for engine in engines:
        for change in engine["baseline"].get("changes") or ():
            groups.setdefault((change["what"], change["approved"], change["now"]), []).append(engine)
    changes = tuple(_changed(*key, group, pages) for key, group in groups.items())
    return SinceApproval(
        sentence=_sentence(engines, changes),
        changes=changes[:SHOWN_CHANGES],
        more=max(0, len(changes) - SHOWN_CHANGES),
    )


def _changed(
    what: str, approved: str, now: str, group: Sequence[Record], pages: Mapping[Pair, str]
) -> Changed:
    shown = group[:SHOWN_ENGINES]
    return Changed(
        what=what,
        approved=approved,
        now=now,
        engines=tuple(
            (f"{engine['model']} {shown_engine(engine['engine'])}", pages[pair(engine)]) for engine in shown
        ),
        more=len(group) - len(shown),
    )


def _sentence(engines: Sequence[Record], changes: Sequence[Changed]) -> str:
    """How many engines were compared, and what changed, by name."""
    tally = Counter(engine["baseline"]["status"] for engine in engines)
    parts = []
    for statuses, told in _TOLD:
        count = sum(tally[status] for status in statuses)
        if count:
            parts.append(f"{number_of(count, 'engine', 'engines')} {told}")
    changed = list(dict.fromkeys(change.what for change in changes))
    if changed:
        listed = ", ".join(changed[:SHOWN_CHANGES]) + (" and more" if len(changed) > SHOWN_CHANGES else "")
        parts.append(f"changed since the approval: {listed}")
    elif tally["compared"] == len(engines) and all("changes" in engine["baseline"] for engine in engines):
        parts.append("nothing that is known of model, data, precision and versions changed")
    return "; ".join(parts)


_TOLD = (
    (("compared",), "compared with the approved baseline"),
    (("written", "unchanged"), "approved by this run"),
    (("refused",), "not comparable with the approved baseline"),
    (("not written", "failed"), "not approved"),
    (("missing",), "without an approved baseline"),
)

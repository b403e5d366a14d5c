"""The state of the machine while engines were timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trtcheck.report.view.facts import Fact, fact, known
from trtcheck.report.view.records import Record


@dataclass(frozen=True)
class Health:
    """The state of the machine while one batch size was timed; *reasons* speak against the figures."""

    batch: str
    reasons: tuple[str, ...]
    hints: tuple[str, ...]
    facts: tuple[Fact, ...]


def of_item(item: Record) -> Health:
    """The state of the machine that a latency item tells; hints that it warns with are not told again."""
    found = item["health"]
    warned = "\n".join(item["warnings"])
    figures = (
        fact(f"{part} {name}".replace("_", " "), shown(value))
        for part, values in found["figures"].items()
        for name, value in values.items()
    )
    return Health(
        batch=f"batch {item['batch']}",
        reasons=tuple(found["reasons"]),
        hints=tuple(hint for hint in found["hints"] if hint not in warned),
        facts=known((*figures, fact("not known", "; ".join(found["unknown"])))),
    )


def shown(value: object) -> str:
    """A figure of the machine's state, whatever is inside; what is not known is left out."""
    if isinstance(value, Mapping):
        told = ((str(name).replace("_", " "), shown(inner)) for name, inner in value.items())
        return ", ".join(f"{name} {text}" for name, text in told if text)
    if isinstance(value, list):
        separator = "; " if value and isinstance(value[0], Mapping) else ", "
        return separator.join(map(shown, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(value, ".4g")
    return "" if value is None else str(value)

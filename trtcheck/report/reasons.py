"""The reason of a verdict, shortened for places that hold a few lines only."""

from __future__ import annotations


def findings(message: str) -> list[str]:
    """The findings of an item's *message*, which stand between ``"; "``; inside brackets that is a comma."""
    found, depth, start = [], 0, 0
    for place, sign in enumerate(message):
        depth += (sign == "(") - (sign == ")" and depth > 0)
        if depth == 0 and message.startswith("; ", place):
            found.append(message[start:place])
            start = place + 2
    return [*found, message[start:]]


def worst_first(message: str, overflow: str | None) -> list[str]:
    """The findings of an item's *message*, with the node that overflows before what it does.

    Args:
        message: Findings, worst first, with ``"; "`` between them.
        overflow: The sentence on the nodes that overflow, which ends the messages of what it explains.
    """
    if not overflow or not message.endswith(f"; {overflow}"):
        return findings(message)
    return [overflow, *findings(message.removesuffix(f"; {overflow}"))]


def first_of(findings: list[str], most: int) -> list[str]:
    """At most that many of *findings*, and how many more there are; all where that would spare no line."""
    if len(findings) <= most + 1:
        return findings
    return [*findings[:most], _more(len(findings) - most)]


def fitting(findings: list[str], characters: int) -> list[str]:
    """The first of *findings* and those after it that fit into so many *characters*, and how many more."""
    kept, room = 1, characters - len(findings[0])
    for finding in findings[1:]:
        room -= len(finding) + 2
        if room < 0:
            return [*findings[:kept], _more(len(findings) - kept)]
        kept += 1
    return findings


def _more(number: int) -> str:
    return f"and {number} more in the report"

"""Texts of users in GitHub-flavoured Markdown: they neither format, nor link, nor mention anybody.

Escaped is what CommonMark (https://spec.commonmark.org/0.31.2/#backslash-escapes) and GitHub's extensions
take for markup. GitHub and GitLab look for mentions and references (``@name``, ``#1``, ``!1``, ``:cat:``) in
the finished page, where no escape is left to see: there an invisible word joiner keeps the parts asunder, and
in code they do not look.
"""

from __future__ import annotations

import re
import unicodedata

_JOINER = "&#8288;"
_ISOLATE, _POP = "&#8296;", "&#8297;"
_ENTITIES = {
    ord(sign): f"&#{ord(sign)};" for sign in "&<>|`\\[]@#!$"
}  # as an entity none of them is markup, nor the end of a table's cell
_ESCAPES = _ENTITIES | {ord(sign): f"\\{sign}" for sign in "*_~"}
_REFERENCE = re.compile(
    r"(?<=[@#!~%$&^])(?=[\w\"])|(?<=:)(?=//|[\w+-]+:)|(?<=\bwww)(?=\.)|(?<=\bGH)(?=-\d)", re.IGNORECASE
)
_LIST = re.compile(r"^\s*(\d*)(?=[-+=]|(?<=\d)[.)])")
"""What would begin a list, or a line under a heading, where a text begins a line."""
_MARK = "\ue000"
"""Stands for the word joiner while other signs are escaped; texts of users cannot hold it then."""
_KEPT = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_TO_THE_LEFT = frozenset(("R", "AL", "AN"))


def text(value: str, longest: int | None = None) -> str:
    """*value* as text of one line.

    Args:
        value: Any text; line breaks become spaces.
        longest: Characters of *value* that are told; None for all.
    """
    marked = _REFERENCE.sub(_MARK, cut(visible(value), longest))
    escaped = _LIST.sub(r"\1\\", marked.translate(_ESCAPES))
    return _isolated(value, escaped.replace(_MARK, _JOINER).strip())


def code(value: str, longest: int | None = None) -> str:
    """*value* as code of one line; an HTML element, since backticks cannot hold every text in a table."""
    return _isolated(value, f"<code>{cut(visible(value), longest).translate(_ESCAPES)}</code>")


def cut(value: str, longest: int | None) -> str:
    """*value*, or as much of its beginning as *longest* characters can tell."""
    if longest is None or len(value) <= longest:
        return value
    return f"{value[: longest - 1].rstrip()}…"


def visible(value: str) -> str:
    """*value* in one line; what steers the display (controls, changes of direction) is spelled out."""
    return "".join(map(_visible, " ".join(value.splitlines())))


def _visible(sign: str) -> str:
    category = unicodedata.category(sign)
    if sign in _KEPT or category not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
        return sign
    return " " if sign == "\t" else f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"


def _isolated(value: str, escaped: str) -> str:
    """*escaped*, kept from turning round what stands beside it where *value* is read from the right."""
    turns = any(unicodedata.bidirectional(sign) in _TO_THE_LEFT for sign in value)
    return f"{_ISOLATE}{escaped}{_POP}" if turns else escaped

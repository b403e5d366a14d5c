"""Where links lead: the file names of the pages and the ids of places on them."""

from __future__ import annotations

import hashlib
import itertools
import re

from trtcheck.report.view.records import Pair, Record, pair


def page_names(document: Record) -> dict[Pair, str]:
    """File name of every engine's page by model and engine: unique, only ``a-z``, ``0-9`` and ``-``."""
    names: dict[Pair, str] = {}
    taken: set[str] = set()
    for engine in document["engines"]:
        stem = page_stem(engine["model"], engine["engine"])
        name = next(name for n in itertools.count(1) if (name := numbered(stem, n)) not in taken)
        taken.add(name)
        names[pair(engine)] = f"{name}.html"
    return names


def page_stem(model: str, engine: str) -> str:
    """Name of an engine's page without its ending, as long as no other engine has the same.

    Names that differ have different ones, unless a name is made to look like another's digest.
    """
    # Single hyphens inside the parts and a double one between them keep a-b + c from a + b-c.
    return "--".join(map(slug, (model, engine)))


def class_page(model: str) -> str:
    """File name of the page that lists all classes of a model of many; no engine's has three hyphens."""
    return f"{slug(model)}---classes.html"


def slug(name: str) -> str:
    """*name* as part of a file name: ``a-z``, ``0-9`` and ``-``, with a digest where that loses any of it."""
    clean = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-")
    if clean == name and name:
        return clean
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{clean}-{digest}" if clean else digest


def numbered(name: str, number: int) -> str:
    """*name* for the first of several, ``name-2`` for the second."""
    return name if number == 1 else f"{name}-{number}"


def check_anchor(check: str, number: int = 1) -> str:
    """Id of the finding of the first or a later item of one *check* on its engine's page."""
    return numbered(f"check-{check.replace('_', '-')}", number)

"""Pictures of the report that are files: PNG in its folder ``pictures/``, named by what they show."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trtcheck.report.view.links import slug

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "pictures"
MARK = "pytest-trtcheck"
"""Stands in every picture as the software that made it; one without it is somebody else's."""


def name(model: str, *parts: str) -> str:
    """Path of a picture below the report: only ``a-z``, ``0-9`` and ``-``, unique for different *parts*.

    Args:
        model: Name of the model.
        *parts: What else tells it apart: the engine, what is shown, the index of an image.
    """
    return f"{FOLDER}/{'--'.join(map(slug, (model, *parts)))}.png"


def png(image: Image) -> bytes:
    """The *image* as a PNG file with our mark."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", MARK)
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True, pnginfo=info)
    return written.getvalue()


def is_own(content: bytes) -> bool:
    """Whether *content* is a picture that trtcheck wrote."""
    return content.startswith(b"\x89PNG\r\n\x1a\n") and f"Software\0{MARK}".encode() in content[:256]


def referenced(document: Mapping[str, Any]) -> set[str]:
    """The pictures that the pages of *document* show, as paths below the report."""
    found: set[str] = set()
    for engine in document["engines"]:
        found |= set((engine.get("confusion_pictures") or {}).values())
        worst = (engine.get("flips") or {}).get("worst") or ()
        found |= {row["picture"] for row in worst if row.get("picture")}
    return found

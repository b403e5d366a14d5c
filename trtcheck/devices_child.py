"""A child process that asks NVIDIA's driver for its GPUs: see `trtcheck.devices_visible`."""

from __future__ import annotations

from typing import Any

from trtcheck.child import Tell, serve
from trtcheck.devices_visible import of_driver


def _answer(_request: dict[str, Any], _tell: Tell) -> dict[str, Any]:
    return {"gpus": of_driver()}


if __name__ == "__main__":
    serve(_answer)

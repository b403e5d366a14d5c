"""``python -m trtcheck``: the command ``pytest-trtcheck`` where scripts are not on the path."""

from __future__ import annotations

from trtcheck.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

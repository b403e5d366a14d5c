"""Root conftest: pytest's own plugin tester, and nothing that a bare ``.[cpu]`` install lacks."""

from __future__ import annotations

pytest_plugins = ["pytester"]

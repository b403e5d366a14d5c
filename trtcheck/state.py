"""Where the plugin keeps the state of a pytest process, which is made when something first needs it.

A project that merely has the plugin installed never needs it, and so pays for no more than the options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trtcheck.runtime import Runtime

RUNTIME: pytest.StashKey[Runtime] = pytest.StashKey()


def runtime_of(config: pytest.Config) -> Runtime:
    """The state of this process, made of its options when it is first asked for.

    Raises:
        pytest.UsageError: An option cannot be used; told when pytest starts, see `trtcheck.plugin`.
    """
    if RUNTIME not in config.stash:
        from trtcheck.runtime import Runtime

        config.stash[RUNTIME] = Runtime.of_config(config)
    return config.stash[RUNTIME]


def known_runtime(config: pytest.Config) -> Runtime | None:
    """The state of this process; None where nothing has needed it yet."""
    return config.stash.get(RUNTIME, None)

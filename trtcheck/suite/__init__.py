"""Reading ``trtcheck.toml``: every key checked, every mistake one sentence."""

from trtcheck.suite.cases import default_engines, find_case, is_suite, read_suite
from trtcheck.suite.gates import changed_gates, require_timed

__all__ = ["changed_gates", "default_engines", "find_case", "is_suite", "read_suite", "require_timed"]

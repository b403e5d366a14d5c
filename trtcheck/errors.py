"""Errors for people: what happened, where, what was expected and found, and the next command."""

from __future__ import annotations

from pathlib import Path


class TrtcheckError(Exception):
    """Base of every error that trtcheck raises on purpose; shown to users without a traceback.

    Args:
        what: One sentence saying what went wrong.
        where: The file, key or item concerned.
        expected: What would have been right.
        found: What was there instead.
        hint: The next thing to do, if possible a command to type.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        lines = [f"{where}: {what}" if where is not None else what]
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if found is not None:
            lines.append(f"  found:    {found}")
        if hint is not None:
            lines.append(f"  try:      {hint}")
        # The whole text is the only argument, so that the error survives pickling between processes.
        self._text = "\n".join(lines)
        super().__init__(self._text)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self)._from_text, (self._text,)

    @classmethod
    def _from_text(cls, text: str) -> TrtcheckError:
        return cls(text)


class OptionError(TrtcheckError):
    """A command-line option or ini key that cannot be used; becomes pytest's usage error."""


class SuiteError(TrtcheckError):
    """A trtcheck.toml that cannot be used; becomes a collection error."""


class CaseError(TrtcheckError):
    """A case whose parts do not fit together (classes against model, gates against classes)."""


class ModelError(TrtcheckError):
    """An ONNX file that is missing, damaged or of a kind that cannot be evaluated."""


class DataError(TrtcheckError):
    """Evaluation or calibration data that cannot be used."""


class LoweringError(TrtcheckError):
    """A precision that cannot be made from this model."""


class BackendError(TrtcheckError):
    """A backend that is missing, cannot work here or refused to run an engine."""


class EngineError(TrtcheckError):
    """An engine that could not be built, read or loaded."""


class BaselineError(TrtcheckError):
    """A stored baseline that cannot be read or must not be compared with this run."""


class ReportError(TrtcheckError):
    """A report folder that cannot be written."""

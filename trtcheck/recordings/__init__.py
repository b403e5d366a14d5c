"""Recorded outputs: answers of a device on which pytest cannot run, judged as an engine's."""

from trtcheck.recordings.checking import check
from trtcheck.recordings.engine import RecordedEngine
from trtcheck.recordings.reading import read_recording
from trtcheck.recordings.recording import Recording, Sidecar, Times, facts, inputs_digest

__all__ = [
    "RecordedEngine",
    "Recording",
    "Sidecar",
    "Times",
    "check",
    "facts",
    "inputs_digest",
    "read_recording",
]

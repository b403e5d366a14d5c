"""The command line: what it takes, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trtcheck import cli
from trtcheck.doctor import command
from trtcheck.errors import OptionError

ROOT = Path(__file__).parents[1]


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trtcheck", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.startswith("pytest-trtcheck 0.")


def test_without_a_command_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    assert "COMMAND" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    printed = capsys.readouterr().out
    assert "doctor" in printed
    assert "export-inputs" in printed


def test_the_help_of_the_doctor_names_options_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["doctor", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for option in ("--json FILE", "--no-self-test", "--backend NAME", "--cache DIR", "Exit status: 0"):
        assert option in printed


def test_an_unknown_backend_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["doctor", "--backend", "tensorflow"])
    assert "onnxruntime-cuda" in capsys.readouterr().err


def test_an_error_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_options: object) -> int:
        raise OptionError("no room", hint="make some")

    monkeypatch.setattr(command, "run", refuse)
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == "pytest-trtcheck: no room\n  try:      make some\n"


def test_a_json_file_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "doctor.json"
    assert cli.main(["doctor", "--no-self-test", "--json", str(target)]) == 2
    assert "the JSON file cannot be written" in capsys.readouterr().err


def test_json_goes_beside_the_text_or_alone_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "doctor.json"
    assert cli.main(["doctor", "--no-self-test", "--json", str(target)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("```text\n")
    assert "self-test" not in printed.out
    assert printed.err == ""
    assert cli.main(["doctor", "--no-self-test", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(target.read_text(encoding="utf-8"))


def test_export_inputs_takes_its_own_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export-inputs", "--help"]) == 0
    assert "pytest-trtcheck export-inputs" in capsys.readouterr().out
    assert cli.main(["export-inputs", "--nonsense"]) == 2


def test_nothing_heavy_is_loaded_to_print_the_version() -> None:
    code = (
        "import sys\nfrom trtcheck import cli\n"
        "try:\n    cli.main(['--version'])\nexcept SystemExit:\n    pass\n"
        "assert not {'numpy', 'onnx', 'onnxruntime', 'polygraphy', 'tensorrt_rtx', 'cuda'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)

"""The command line: what it takes, and how it fails."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
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
    for command_name in ("doctor", "export-inputs", "predict", "report"):
        assert f"\n    {command_name} " in printed or f"\n    {command_name}\n" in printed
    with pytest.raises(SystemExit, match="2"):
        cli.main(["predictt"])
    assert "predictt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("predict", ("SUITE MODEL IMAGE", "--engine LIST", "--backend NAME", "--cache DIR", "--json")),
        ("report", ("DIR [DIR ...]", "--out DIR", "whatever its verdict")),
    ],
)
def test_the_help_of_what_shows_and_makes_reports_names_their_arguments(
    capsys: pytest.CaptureFixture[str], name: str, words: tuple[str, ...]
) -> None:
    assert cli.main([name, "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in words:
        assert word in printed


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


def test_an_interruption_is_told_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", interrupted)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "\npytest-trtcheck: interrupted\n"


DOCTOR = f"{shlex.quote(sys.executable)} -P -m trtcheck doctor --no-self-test"


@pytest.mark.parametrize(
    ("command_line", "words"),
    [
        (f"({DOCTOR}; echo $? >&2) | true", "Broken pipe"),
        (f"{DOCTOR} > /dev/full; echo $? >&2", "No space left on device"),
        (f"{DOCTOR} >&-; echo $? >&2", "there is nowhere to write to"),
    ],
    ids=["closed pipe", "full", "closed"],
)
def test_an_output_that_takes_nothing_is_told_without_a_traceback(command_line: str, words: str) -> None:
    done = subprocess.run(["sh", "-c", command_line], capture_output=True, text=True, check=False, cwd=ROOT)
    *lines, status = done.stderr.splitlines()
    assert status == "2"
    assert words in lines[1] or words in lines[0]
    assert len(lines) == 2
    assert lines[0].startswith("pytest-trtcheck: ")


def test_a_working_folder_that_is_gone_is_told_in_the_table(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = Path(sys.executable).with_name("pytest-trtcheck")
    line = f"cd {shlex.quote(str(gone))} && rmdir ../gone && {shlex.quote(str(script))} doctor --no-self-test"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert "there is no working directory any more" in " ".join(done.stdout.split())
    assert (done.returncode, done.stderr) == (1, "")


def test_an_interrupted_self_test_leaves_no_folder(tmp_path: Path) -> None:
    """A fake backend that never comes to an end, as an interruption would find it."""
    site = tmp_path / "site"
    (site / "onnxruntime").mkdir(parents=True)
    code = "import pathlib, time\npathlib.Path({!r}).touch()\ntime.sleep(60)\n"
    # The doctor asks ONNX Runtime for its providers first; it is the self-test that has a folder of its own.
    (site / "onnxruntime" / "__init__.py").write_text(
        "import tempfile\nif 'doctor' in tempfile.gettempdir():\n    "
        + code.format(str(tmp_path / "started")).replace("\n", "\n    ").rstrip()
        + "\ndef get_available_providers():\n    return []\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"PYTHONPATH": str(site), "TMPDIR": str(temporary)}
    command_line = [sys.executable, "-P", "-m", "trtcheck", "doctor", "--backend", "onnxruntime-cpu"]
    with subprocess.Popen(
        command_line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while not (tmp_path / "started").exists() and process.poll() is None:
            time.sleep(0.05)
        assert [entry.name.startswith("trtcheck-doctor-") for entry in temporary.iterdir() if entry.is_dir()]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode, told) == (130, "\npytest-trtcheck: interrupted\n")
    assert list(temporary.iterdir()) == []


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

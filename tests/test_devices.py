"""``--trt-devices``: which GPUs there are, which were asked for, and who gets which; the GPUs are fakes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import fake_nvml
import pytest
from suites import Suite

from trtcheck.devices import Asked, Device, chosen, header, place, read_devices, select
from trtcheck.devices_visible import Board, shown, visible
from trtcheck.errors import OptionError
from trtcheck.settings import read_settings

HERE = Path(__file__).parent
A, B, C = (Device(f"GPU-{name}", "NVIDIA H100 80GB HBM3") for name in ("0aa1", "0ab2", "1cc3"))
L4 = Device("GPU-2dd4", "NVIDIA L4")
SMALL, LARGE = Device("MIG-5e", "NVIDIA A100 MIG 1g.5gb"), Device("MIG-6f", "NVIDIA A100 MIG 3g.20gb")
WHOLE = Device("GPU-7a", "NVIDIA A100")
ALL = Asked(None, "--trt-devices")


def text_of(*devices: Device) -> str:
    return ";".join(f"{device.uuid}={device.name}" for device in devices)


@pytest.mark.parametrize(
    ("option", "ini", "asked"),
    [
        ("all", "0", Asked(None, "--trt-devices")),
        (" 0, 2 ", "", Asked((0, 2), "--trt-devices")),
        (None, "3,1", Asked((3, 1), "ini key trt_devices")),
        (None, "", None),
    ],
)
def test_what_is_asked_for_on_the_command_line_comes_before_the_ini(
    option: str | None, ini: str, asked: Asked | None
) -> None:
    assert read_devices(option, ini) == asked


@pytest.mark.parametrize("text", ["al", "0,", "-1", "0-3", "cuda:0", "all,0", "٣", "0.5"])
def test_text_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"--trt-devices names no GPUs\n.*all, or numbers") as refused:
        read_devices(text, "")
    assert f"found:    {text}" in str(refused.value)


def test_a_gpu_that_is_named_twice_is_refused_with_what_shares_it() -> None:
    with pytest.raises(OptionError, match=r"(?s)names GPU 1 twice.*pytest -n 3 --trt-devices=1,0"):
        read_devices("1,0,1", "")


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, (A, B, C)),
        ("2,0", (C, A)),
        (" 1 , GPU-1", (B, C)),  # the beginning of a UUID is enough
        ("GPU-0a", ()),  # unless it is that of two
        ("1,7,0", (B,)),  # as CUDA does: as far as the entries are valid
        ("0,-1,1", (A,)),
        ("0,1,0,2", (A, B)),
        ("", ()),
        ("none", ()),
    ],
)
def test_what_cuda_visible_devices_shows(variable: str | None, found: tuple[Device, ...]) -> None:
    assert shown([Board(A), Board(B), Board(C)], variable) == found


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, (A, SMALL, LARGE)),
        ("1", (SMALL, LARGE)),
        ("MIG-6f", (LARGE,)),
        ("MIG-6f,0", (LARGE, A)),
        ("MIG-6", ()),
    ],
)
def test_a_divided_gpu_counts_as_its_instances(variable: str | None, found: tuple[Device, ...]) -> None:
    assert shown([Board(A), Board(WHOLE, (SMALL, LARGE))], variable) == found
    assert shown([Board(WHOLE, ())], variable if variable != "1" else "0") == ()  # which is yet to be divided


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes NVML a fake one that lists some GPUs."""
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "FAKE_GPUS"):
        monkeypatch.delenv(name, raising=False)

    def there_are(*devices: Device | str) -> None:
        text = ";".join(device if isinstance(device, str) else text_of(device) for device in devices)
        monkeypatch.setenv("FAKE_GPUS", text)

    return there_are


def test_fake_gpus_are_counted_by_nvml(gpus: Callable[..., None]) -> None:
    gpus(A, B, C)
    assert visible({}) == (A, B, C)
    assert visible({"CUDA_VISIBLE_DEVICES": "2,1"}) == (C, B)


def test_the_instances_of_fake_gpus_are_counted_by_nvml(gpus: Callable[..., None]) -> None:
    gpus(f"{text_of(WHOLE)}+{text_of(SMALL)}+{text_of(LARGE)}", WHOLE)
    assert visible({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == (SMALL, LARGE, WHOLE)


DRIVER = f"""
import sys
sys.path.append({str(HERE)!r})
from fake_cuda import FakeDriver
driver = FakeDriver()
driver.gpus = 2
sys.modules[__name__] = driver
"""


def test_a_fake_driver_is_asked_in_a_child_process_where_nvml_counts_in_another_order(
    gpus: Callable[..., None], tmp_path: Path
) -> None:
    gpus(L4, A)  # CUDA has the faster one first
    package = tmp_path / "cuda" / "bindings"
    package.mkdir(parents=True)
    (tmp_path / "cuda" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "driver.py").write_text(DRIVER)
    found = visible({"PYTHONPATH": str(tmp_path)})
    assert [device.name for device in found] == ["Fake GPU 0", "Fake GPU 1"]
    assert visible({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == (L4, A)


def test_a_number_that_is_too_large_is_refused_with_what_there_is() -> None:
    with pytest.raises(OptionError) as refused:
        select(Asked((0, 2), "--trt-devices"), (A, B))
    text = str(refused.value)
    assert text.startswith("--trt-devices=0,2: there is no GPU 2\n")
    assert "numbers from 0 to 1" in text
    assert f"0: {A.name}; 1: {A.name}" in text


def test_gpus_of_different_models_are_refused_with_the_lists_that_work() -> None:
    with pytest.raises(OptionError) as refused:
        select(ALL, (A, L4, B))
    text = str(refused.value)
    assert text.startswith("--trt-devices=all names GPUs of different models\n")
    assert f"pytest --trt-devices=0,2 ({A.name}) or --trt-devices=1 ({L4.name})" in text
    assert select(Asked((2, 0), "--trt-devices"), (A, L4, B)) == (B, A)


def test_instances_of_different_sizes_are_different_models() -> None:
    with pytest.raises(OptionError, match="different models"):
        select(ALL, (SMALL, LARGE))


@pytest.mark.parametrize(
    ("devices", "workers", "line"),
    [
        ((A, B, C), 3, "3 GPUs, one a worker: {}"),
        ((A, B, C), 0, "1 of 3 GPUs: {}; the others idle, -n 3 would use them"),
        ((A,), 0, "1 GPU: {}"),
        ((A, B, C), 2, "2 of 3 GPUs, one a worker: {}; -n 3 would use all"),
        ((A, B), 4, "2 GPUs for 4 workers: {}; 2 share one, and wait while one of them times"),
        ((A, B), 3, "2 GPUs for 3 workers: {}; up to 2 share one, and wait while one of them times"),
        ((A,), 2, "1 GPU for 2 workers: {}; 2 share one, and wait while one of them times"),
    ],
)
def test_the_header_says_who_uses_what(devices: tuple[Device, ...], workers: int, line: str) -> None:
    assert header(devices, workers) == "trtcheck: " + line.format(A.name)


def test_gpus_are_given_in_turn_and_a_worker_that_names_its_own_keeps_it() -> None:
    environments: list[dict[str, str]] = [{}, {"CUDA_VISIBLE_DEVICES": "7"}, {}, {}]
    place(environments, (A, B, C))
    assert [own["CUDA_VISIBLE_DEVICES"] for own in environments] == [A.uuid, "7", C.uuid, A.uuid]


def test_without_the_option_no_gpu_is_chosen(tmp_path: Path) -> None:
    assert chosen(read_settings({}, dict.fromkeys(("engine", "backend", "baselines", "report", "cache"), ""),
                                invoked_in=tmp_path, root=tmp_path)) == ()  # fmt: skip


TELLING = """
    import os
    from pathlib import Path

    import pytest

    BEFORE = os.environ.get("CUDA_VISIBLE_DEVICES")
    HERE = Path(__file__).parent


    def pytest_runtest_setup(item):
        who = os.environ.get("PYTEST_XDIST_WORKER", "-")
        with (HERE / "seen.log").open("a") as log:
            print(who, BEFORE, os.environ.get("CUDA_VISIBLE_DEVICES"), item.name, file=log)


    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(config):
        (HERE / "after.log").write_text(str(os.environ.get("CUDA_VISIBLE_DEVICES")))
"""


@pytest.fixture
def many(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A suite on a machine with three fake GPUs of one model, that logs what its processes see."""
    suite.path.joinpath("pynvml.py").write_text((HERE / "fake_nvml.py").read_text(encoding="utf-8"))
    suite.pytester.makeconftest(TELLING)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("FAKE_GPUS", text_of(A, B, C))
    return suite


def seen(suite: Suite) -> list[list[str]]:
    return [line.split() for line in (suite.path / "seen.log").read_text().splitlines()]


def test_fake_gpus_are_given_to_workers_before_any_code_of_the_tests_runs(many: Suite) -> None:
    many.toml(name="twin", file="twin.trtcheck.toml")
    result = many.run("--trt-engine=fp32,fp16", "-n3", "--trt-devices=all", plugins=["xdist"], process=True)
    result.stdout.fnmatch_lines([f"trtcheck: 3 GPUs, one a worker: {A.name}"])
    own = {"gw0": A.uuid, "gw1": B.uuid, "gw2": C.uuid}
    assert {who for who, *_ in seen(many)} == set(own)
    for who, before, now, _name in seen(many):
        assert (before, now) == (own[who], own[who])
    assert (many.path / "after.log").read_text() == "None"  # the controller's, which ends last


def test_fake_gpus_are_numbered_within_what_is_visible(many: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1")
    many.run("--trt-engine=fp16", "-k", "build", "--trt-devices=1", process=True)
    assert [now for _who, _before, now, _name in seen(many)] == [B.uuid]
    assert (many.path / "after.log").read_text() == "2,1"


def test_a_serial_run_takes_the_first_fake_gpu_and_tells_of_the_others(many: Suite) -> None:
    result = many.run("--trt-engine=fp16", "-k", "build", "--trt-devices=2,0", process=True)
    result.stdout.fnmatch_lines([f"trtcheck: 1 of 2 GPUs: {A.name}; the others idle, -n 2 would use them"])
    assert [now for _who, _before, now, _name in seen(many)] == [C.uuid]
    assert (many.path / "after.log").read_text() == "None"


def test_more_workers_than_fake_gpus_share_them(many: Suite) -> None:
    many.toml(name="twin", file="twin.trtcheck.toml")
    result = many.run("--trt-engine=fp16,fp32", "-n3", "--trt-devices=0,1", plugins=["xdist"], process=True)
    result.stdout.fnmatch_lines(["trtcheck: 2 GPUs for 3 workers: *; up to 2 share one, and wait while *"])
    assert {(who, now) for who, _before, now, _name in seen(many)} == {
        ("gw0", A.uuid), ("gw1", B.uuid), ("gw2", A.uuid)
    }  # fmt: skip


def test_a_worker_that_dies_leaves_its_fake_gpu_to_the_one_in_its_place(many: Suite) -> None:
    many.pytester.makepyfile(
        test_ends="""
        import os
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_it(number, trt_precision):
            if number == 0:
                os._exit(3)
        """
    )
    many.run("--trt-engine=fp16", "-n1", "--trt-devices=1,2", "test_ends.py", plugins=["xdist"],
             process=True).assert_outcomes(passed=3, failed=1)  # fmt: skip
    assert [(who, now) for who, _before, now, _name in seen(many)] == [
        ("gw0", B.uuid),
        *[("gw1", B.uuid)] * 3,
    ]


def test_fake_gpus_that_nobody_asked_for_are_left_alone(many: Suite) -> None:
    result = many.run("--trt-engine=fp16", "-k", "build", "-n2", plugins=["xdist"], process=True)
    result.stdout.no_fnmatch_line("*GPU*")
    assert {now for _who, _before, now, _name in seen(many)} == {"None"}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("3", "ERROR: --trt-devices=3: there is no GPU 3"),
        ("gpu0", "ERROR: --trt-devices names no GPUs"),
        ("0,0", "ERROR: --trt-devices names GPU 0 twice"),
    ],
)
def test_what_cannot_be_had_is_a_usage_error_told_once(many: Suite, option: str, told: str) -> None:
    result = many.run("--trt-engine=fp16", "-n2", f"--trt-devices={option}", plugins=["xdist"], process=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines.count(told) == 1


@pytest.fixture
def bare(many: Suite, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The same without a driver: not even a real one."""
    monkeypatch.delenv("FAKE_GPUS")
    package = many.path / "cuda" / "bindings"
    package.mkdir(parents=True)
    (many.path / "cuda" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "driver.py").write_text("def cuInit(_flags):\n    raise RuntimeError('no libcuda')\n")
    return many


def test_without_a_driver_the_option_is_a_usage_error_that_says_so(bare: Suite) -> None:
    result = bare.run("--trt-engine=fp16", "--trt-devices=all", process=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --trt-devices=all: there is no GPU to use", "*there is no NVIDIA driver on this machine*"]
    )


def test_all_in_an_ini_file_is_none_on_a_machine_without_gpus_and_numbers_are_an_error(bare: Suite) -> None:
    bare.pytester.makeini("[pytest]\ntrt_devices = all")
    bare.run("--trt-engine=fp16", "-k", "build", process=True).assert_outcomes(passed=1)
    bare.pytester.makeini("[pytest]\ntrt_devices = 0,1")
    result = bare.run("--trt-engine=fp16", "-k", "build", process=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: ini key trt_devices=0,1: there is no GPU to use"])


def test_a_run_in_this_process_leaves_the_environment_as_it_was(
    suite: Suite, gpus: Callable[..., None]
) -> None:
    gpus(A, B)
    suite.pytester.makepyfile(
        f"import os\ndef test_own():\n    assert os.environ['CUDA_VISIBLE_DEVICES'] == {B.uuid!r}\n"
    )
    suite.run("--trt-devices=1", backend=None).assert_outcomes(passed=1, skipped=1)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ

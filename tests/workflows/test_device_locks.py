"""CUDA devices, which no machine of these tests needs: counted, dealt to programs one each, and layouts that use them."""

import multiprocessing
import time
from pathlib import Path

import pytest

from core.config import ParallelConfig
from recipes.reader import load_recipe
from workflows import devices
from workflows.devices import devices_for, visible_devices
from workflows.layout import described, laid_out


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with four devices and a torch for them."""
    for number in range(4):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(devices, "_DEVICE_FILE", str(tmp_path / "nvidia"))
    monkeypatch.setattr(devices, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(devices, "_LOCKS", tmp_path / "locks")
    monkeypatch.setattr(devices, "_WAIT_SECONDS", 0.02)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "chosen, seen",
    [
        (None, ["0", "1", "2", "3"]),
        ("", []),
        ("2", ["2"]),
        ("3,1", ["3", "1"]),
        ("1,-1,2", ["1"]),
        ("1,9,2", ["1"]),
        ("GPU-0a1b,2", ["GPU-0a1b", "2"]),
        ("NoDevFiles", []),
    ],
)
def test_devices_are_those_that_cuda_shows(
    four: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, seen: list[str]
):
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_devices() == seen


def test_without_device_files_or_a_torch_for_them_there_are_none(four: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "_torch_has_cuda", lambda: False)
    assert visible_devices() == []
    monkeypatch.setattr(devices, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(devices, "_DEVICE_FILE", str(four / "none"))
    assert visible_devices() == []


def test_two_programs_have_no_device_in_common(four: Path, capsys: pytest.CaptureFixture[str]):
    with devices_for(2, "auto") as first:
        assert first == ["0", "1"]
        with devices_for(2, "cuda") as second:
            assert second == ["2", "3"]
        with devices_for(3, "auto", share=True) as shared:
            assert shared == ["0", "1", "2"]
        with devices_for(3, "cpu") as none, devices_for(5, "auto") as too_many:
            assert none == too_many == []
    with devices_for(4, "auto") as again:
        assert again == ["0", "1", "2", "3"]
    assert "waiting" not in capsys.readouterr().out


def _hold(locks: Path, held: Path, seconds: float) -> None:
    devices._LOCKS = locks
    with devices_for(3, "auto") as found:
        held.write_text(",".join(found))
        time.sleep(seconds)


@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_another_process_is_waited_for(four: Path, capsys: pytest.CaptureFixture[str], how: str):
    held = four / "held"
    process = multiprocessing.get_context("fork").Process(
        target=_hold, args=(four / "locks", held, 0.3 if how == "ends" else 600)
    )
    process.start()
    while not held.exists():
        time.sleep(0.01)
    if how == "is killed":
        process.kill()
    with devices_for(2, "auto") as found:
        assert found == ["0", "1"]
    process.join()
    if how == "ends":
        assert "waiting for 2 of the CUDA devices 0, 1, 2, 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked, count, expected",
    [
        ((1, 1, 2), 0, (1, 1, 2)),  # pipeline, data, tensor
        ((1, 1, 2), 1, (1, 1, 1)),
        ((1, 1, 2), 2, (1, 1, 2)),
        ((1, 1, 2), 8, (1, 4, 2)),
        ((1, 1, 2), 7, (1, 2, 2)),  # a batch of 8 over 3 is no whole number
        ((1, 1, 1), 3, (1, 2, 1)),
        ((1, 8, 2), 4, (1, 2, 2)),
        ((2, 1, 2), 3, (1, 1, 2)),
    ],
)
def test_the_layout_uses_the_devices(asked: tuple, count: int, expected: tuple):
    model = load_recipe("sample").models["gpt2-medium"]

    def config(pipeline: int, data: int, tensor: int) -> ParallelConfig:
        return ParallelConfig(tensor_parallel=tensor, data_parallel=data, pipeline_parallel=pipeline)

    found = laid_out(config(*asked), count, model.layout_errors)
    assert found == config(*expected)
    for device in ("cpu", "cuda"):
        insisting = ParallelConfig(tensor_parallel=2, device=device)
        assert laid_out(insisting, count, model.layout_errors) == insisting


def test_what_is_said_of_it():
    text = described(ParallelConfig(data_parallel=4, tensor_parallel=2), ParallelConfig(tensor_parallel=2), 8)
    assert text.startswith("on 8 of 8 CUDA devices, 4 data × 2 tensor (the recipe: 1 data × 2 tensor;")

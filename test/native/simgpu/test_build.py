"""The build driver of native/."""

from pathlib import Path

import pytest

from hacklib.native import build, cli, output_dir
from hacklib.ui import HackError, Ui


def test_an_up_to_date_build_writes_nothing(simgpu: Path) -> None:
    """A second build leaves the libraries as they are."""
    before = {name: (simgpu / name).stat().st_mtime_ns for name in ("libcuda.so.1", "libnvidia-ml.so.1", "simctl")}
    assert build(preset="release", ui=Ui(), targets=["simgpu"]) == simgpu.parent
    assert before == {name: (simgpu / name).stat().st_mtime_ns for name in before}


def test_a_failure_comes_with_the_tool_s_words() -> None:
    """Whoever asks for what cannot be built reads why."""
    with pytest.raises(HackError, match="no_such_target"):
        build(preset="release", ui=Ui(), targets=["no_such_target"])


def test_standard_output_is_the_directory_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts can take the output of `hack/native path` as it is."""
    assert cli.main(["path", "--preset", "tsan"]) == 0
    assert capsys.readouterr().out == f"{output_dir('tsan')}\n"

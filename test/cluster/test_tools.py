"""What tools say, where they keep things, and which compilers they find."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.support import HACK, tool_environment

from hacklib import toolchain
from hacklib.ui import HackError, Ui, run_logged, run_main


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The present."""
        return self.now


def test_a_log_gets_a_line_now_and_then() -> None:
    """In CI a task is a few lines, however often it has news."""
    out, clock = io.StringIO(), Clock()
    with Ui(stream=out, clock=clock).task("work") as task:
        for step in range(40):
            clock.now += 1
            task.update(f"step {step}")
    assert out.getvalue().splitlines() == ["work: started", "work: step 14", "work: step 29", "work: done (40.0 s)"]


def test_a_terminal_gets_one_line() -> None:
    """On a terminal a task is redrawn in place and ends with one newline."""
    out, clock = Terminal(), Clock()
    with Ui(stream=out, clock=clock).task("work") as task:
        clock.now += 1
        task.update("half")
    assert out.getvalue() == "\r\033[Kwork: ...\r\033[Kwork: half\r\033[Kwork: done (1.0 s)\n"


def test_a_task_that_raises_has_failed() -> None:
    """The word `done` is for tasks that are."""
    out = io.StringIO()
    with pytest.raises(ValueError, match="no"), Ui(stream=out, clock=Clock()).task("work"):
        raise ValueError("no")
    assert out.getvalue().endswith("work: failed (0.0 s)\n")


def test_a_failing_command_is_quoted_with_its_last_words(tmp_path: Path) -> None:
    """Whoever sees the error need not open the log, but is told where it is."""
    lines: list[str] = []
    with pytest.raises(HackError, match=r"(?s)status 3.*log.*last words"):
        run_logged(["sh", "-c", "echo last words; exit 3"], log=tmp_path / "log", on_line=lines.append)
    assert lines == ["last words"]
    assert "last words" in (tmp_path / "log").read_text()


def test_errors_for_people_have_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """A HackError is its message and status 1, Ctrl-C is status 130."""

    def refuse() -> int:
        raise HackError("no room")

    def interrupt() -> int:
        raise KeyboardInterrupt

    assert run_main(refuse) == 1
    assert capsys.readouterr().err == "error: no room\n"
    assert run_main(interrupt) == 130


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26, 8)), ("cmake version 3.25.1\n", (3, 25, 1)), ("nothing", None)],
)
def test_versions_are_read_from_what_programs_print(text: str, version: tuple[int, ...] | None) -> None:
    """The first dotted number is the version."""
    assert toolchain.parse_version(text) == version


def test_zig_is_found_without_any_path() -> None:
    """The wheel's zig is there wherever the tests run."""
    assert toolchain.find("zig").path.is_file()
    assert toolchain.zig_cc(target="x86_64-linux-gnu.2.17")[1:] == ["cc", "-target", "x86_64-linux-gnu.2.17"]


def test_the_cache_can_be_elsewhere(tmp_path: Path) -> None:
    """HAMI_DRA_CACHE decides; everything that tools make lies below it."""
    code = "from hacklib import paths as p; print(*(f() for f in (p.binaries_dir, p.clusters_dir, p.images_dir)))"
    environment = tool_environment() | {"HAMI_DRA_CACHE": str(tmp_path)}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == [str(tmp_path / name) for name in ("binaries", "clusters", "images")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cluster", "up", "--name", "A/B"], "cluster name 'A/B'"),
        (["cluster", "up", "--feature-gates", "A=maybe"], "expected Name=true or Name=false"),
        (["cluster", "up", "--kubernetes", "1.20"], "Kubernetes 1.20 is not among"),
        (["cluster", "up", "--nodes", "0"], "between 1 and"),
        (["cluster", "up", "--image", "/does/not/exist.tar"], "does not exist"),
        (["cluster", "up", "--node-mount", "9:/tmp:/run/x"], "there are nodes 1 to"),
        (["cluster", "up", "--node-mount", "1:/tmp:/not/there"], "make that directory"),
        (["cluster", "exec", "--name", "nobody", "--", "true"], "cluster nobody does not run"),
        (["cluster", "kill", "--name", "nobody", "etcd"], "cluster nobody does not run"),
        (["cluster", "down", "--", "true"], "takes no command"),
        (["binaries", "build", "--kubernetes", "2.0"], "Kubernetes 2.0 is not among"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    """No traceback, status 1, and the word that was wrong."""
    done = subprocess.run(
        [sys.executable, HACK / words[0], *words[1:]],
        env=tool_environment() | {"HAMI_DRA_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr

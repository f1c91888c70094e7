"""The deployment library: what it asks of kubectl, and how long it waits."""

import sys
from collections.abc import Iterator, Sequence

import pytest

from hacklib.deployment import Card, Kubectl, Refused, wait_until
from hacklib.ui import HackError


def _python(script: str) -> Sequence[str]:
    """A program in the place of kubectl."""
    return (sys.executable, "-c", script)


ECHO = _python("import sys; print(*sys.argv[1:])")


def test_kubectl_says_which_namespace_and_who_asks() -> None:
    """Namespace and identity stand before the command, and deriving one kubectl leaves the other as it was."""
    admin = Kubectl(*ECHO)
    other = admin.within("ml").acting("--as=somebody")
    assert admin.run("get", "pods") == "--namespace default get pods\n"
    assert other.run("get", "pods") == "--as=somebody --namespace ml get pods\n"


def test_what_kubectl_refuses_is_said_in_its_own_words() -> None:
    """The error has the command and standard error."""
    broken = Kubectl(*_python("import sys; sys.exit('pods is forbidden')"))
    with pytest.raises(Refused, match="kubectl get pods: pods is forbidden"):
        broken.run("get", "pods")


def test_a_silent_api_server_is_a_refusal() -> None:
    """A command without an answer ends with its time."""
    deaf = Kubectl(*_python("import signal; signal.pause()"))
    with pytest.raises(Refused, match="no answer in 0 s"):
        deaf.run("get", "pods", timeout_s=0.2)


def test_waiting_ends_with_the_first_true_answer() -> None:
    """An error of the probe and a false answer both mean: not yet."""
    answers: Iterator[HackError | str] = iter([Refused("not there"), "", "there"])

    def probe() -> str:
        answer = next(answers)
        if isinstance(answer, HackError):
            raise answer
        return answer

    assert wait_until(probe, what="it", deadline_s=5) == "there"


def test_waiting_too_long_says_for_what_and_what_was_seen() -> None:
    """The error names the thing, the last answer, and the details that the caller can give."""
    with pytest.raises(HackError, match=r"(?s)the moon: not within 0 s; last seen: \[\].*clouds"):
        wait_until(list, what="the moon", deadline_s=0, detail=lambda: "clouds")


def test_a_card_is_called_as_its_device() -> None:
    """The observer's cards and the slices' devices have the same names."""
    card = Card(
        pci="0000:17:00.0",
        uuid="GPU-1",
        model="A100",
        memory_bytes=1,
        used_bytes=0,
        peak_bytes=0,
        busy_ns=0,
        time_slice_ns=0,
        in_mig_mode=False,
        partitions=(),
        processes=(),
    )
    assert card.device == "gpu-0000-17-00-0"

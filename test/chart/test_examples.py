"""Examples as text: complete, confined, and of the released version.  What they promise is shown on a real cluster."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from hacklib.deployment.helm import app_version
from hacklib.paths import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "deploy" / "examples").glob("*.yaml"))


def _pods(path: Path) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item["kind"] == "Pod"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_to_expect(path: Path) -> None:
    """Each one opens with what it shows and what to expect from it."""
    comment = path.read_text(encoding="utf-8").partition("\napiVersion")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert "# Expect" in comment


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_passes_the_restricted_pod_security_standard(path: Path) -> None:
    """A pod with a GPU needs no privilege at all."""
    for pod in _pods(path):
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_what_it_says_with_the_released_image(path: Path) -> None:
    """The image has the chart's version, and the script in the pod is Python."""
    for pod in _pods(path):
        for container in pod["spec"]["containers"]:
            assert container["image"] == f"hami-dra-workload:{app_version()}"
            compile(container["args"][0], str(path), "exec")

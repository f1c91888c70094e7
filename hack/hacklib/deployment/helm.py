"""helm, for the one chart of this repository."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hacklib.binaries.builder import build_unit
from hacklib.binaries.recipe import base_unit
from hacklib.paths import REPOSITORY
from hacklib.ui import HackError, Ui

__all__ = ["CHART", "NAMESPACE", "Helm", "app_version", "provide_helm"]

CHART = REPOSITORY / "deploy" / "helm" / "hami-dra"
NAMESPACE = "hami-system"
RELEASE = "hami-dra"


def provide_helm(*, ui: Ui) -> Path:
    """The helm program, built first if need be."""
    return build_unit(base_unit(), ui=ui) / "helm"


def app_version() -> str:
    """The version of the images that the chart installs."""
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"])


class Helm:
    """Runs helm; `command` is the program, with whatever must stand before it to reach a cluster."""

    def __init__(self, *command: str | Path) -> None:
        self._command = [str(word) for word in command]

    def lint(self, *, values: Mapping[str, Any]) -> str:
        """What `helm lint --strict` says.  Raises HackError if it complains."""
        return self._run("lint", "--strict", CHART, values=values)

    def template(self, *, values: Mapping[str, Any], release: str = RELEASE) -> list[dict[str, Any]]:
        """The objects that the chart would install.  Raises HackError if the values are refused."""
        rendered = self._run("template", release, CHART, "--namespace", NAMESPACE, values=values)
        return [document for document in yaml.safe_load_all(rendered) if document]

    def install(self, *, values: Mapping[str, Any], timeout_s: int = 120) -> str:
        """Install or upgrade the chart and wait until its pods are ready."""
        wait = ("--wait", "--timeout", f"{timeout_s}s")
        return self._run(
            "upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE, "--create-namespace", *wait, values=values
        )

    def values(self) -> dict[str, Any]:
        """The values with which the release was installed."""
        shown = self._run("get", "values", RELEASE, "--namespace", NAMESPACE, "--output", "json", values={})
        found: dict[str, Any] = json.loads(shown)
        return found

    def uninstall(self) -> str:
        """Remove the release and wait until its pods are gone."""
        return self._run("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", values={})

    def _run(self, *arguments: str | Path, values: Mapping[str, Any]) -> str:
        words: Sequence[str] = [*self._command, *map(str, arguments), *(["--values", "-"] if values else [])]
        ran = subprocess.run(words, input=json.dumps(values), capture_output=True, text=True, check=False)
        if ran.returncode:
            raise HackError(f"helm {arguments[0]} failed: {ran.stderr.strip() or ran.stdout.strip()}")
        return ran.stdout

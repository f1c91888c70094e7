"""kubectl, with JSON for answers and HackError for refusals."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hacklib.deployment.waiting import Never, wait_until
from hacklib.ui import HackError

__all__ = ["KubeObject", "Kubectl", "Refused"]

KubeObject = dict[str, Any]
_ENDED = ("Failed", "Succeeded")


class Refused(HackError):
    """The command ended with an error; the message is what it said."""


class Kubectl:
    """Runs kubectl in one namespace; `command` is the program, with whatever must stand before it to reach the cluster."""

    def __init__(self, *command: str | Path, namespace: str = "default") -> None:
        self._command = [str(word) for word in command]
        self.namespace = namespace

    def within(self, namespace: str) -> "Kubectl":
        """The same cluster, another namespace."""
        return Kubectl(*self._command, namespace=namespace)

    def acting(self, *options: str) -> "Kubectl":
        """The same with more options for each call: `--as=...` for somebody else's rights."""
        return Kubectl(*self._command, *options, namespace=self.namespace)

    def run(self, *arguments: str | Path, stdin: str = "", timeout_s: float = 60.0) -> str:
        """Standard output of `kubectl <arguments>`.  Raises Refused if it fails."""
        words = [*self._command, "--namespace", self.namespace, *map(str, arguments)]
        try:
            ran = subprocess.run(
                words, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s, errors="replace"
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(f"kubectl {' '.join(map(str, arguments))}: no answer in {timeout_s:.0f} s") from error
        if ran.returncode:
            raise Refused(f"kubectl {' '.join(map(str, arguments[:4]))}: {ran.stderr.strip() or ran.stdout.strip()}")
        return ran.stdout

    def apply(self, *manifests: Path | Mapping[str, Any]) -> None:
        """Apply files and objects."""
        text = "\n---\n".join(
            manifest.read_text(encoding="utf-8") if isinstance(manifest, Path) else yaml.safe_dump(dict(manifest))
            for manifest in manifests
        )
        self.run("apply", "-f", "-", stdin=text)

    def get(self, kind: str, name: str) -> KubeObject:
        """One object.  Raises Refused if there is none."""
        found: KubeObject = json.loads(self.run("get", kind, name, "-o", "json"))
        return found

    def items(self, kind: str, *options: str) -> Sequence[KubeObject]:
        """All objects of a kind, narrowed by options such as `--selector=a=b` or `--all-namespaces`."""
        found: Sequence[KubeObject] = json.loads(self.run("get", kind, "-o", "json", *options))["items"]
        return found

    def exec(self, pod: str, *command: str, container: str | None = None, timeout_s: float = 60.0) -> str:
        """What a command in a running container prints.  Raises Refused if it fails."""
        which = ("--container", container) if container else ()
        return self.run("exec", pod, *which, "--", *command, timeout_s=timeout_s)

    def python(self, pod: str, script: str, *, container: str | None = None) -> str:
        """What a Python script prints, run by a new process in a container."""
        return self.exec(pod, "python3", "-c", script, container=container)

    def logs(self, pod: str, *options: str) -> list[str]:
        """Lines that a pod printed."""
        return self.run("logs", pod, *options).splitlines()

    def delete(self, kind: str, name: str, *, now: bool = False) -> None:
        """Delete an object and wait until it is gone; `now` allows a pod no time to end by itself."""
        self.run("delete", kind, name, "--ignore-not-found", *(["--grace-period=1"] if now else []))

    def wait_running(self, pod: str, *, deadline_s: float = 60.0) -> KubeObject:
        """The pod, once all its containers run.  Raises HackError, with its events, if they do not."""

        def running() -> KubeObject | None:
            found = self.get("pod", pod)
            if found["status"].get("phase") in _ENDED:
                raise Never("the pod has ended")
            states = [status["state"] for status in found["status"].get("containerStatuses", [])]
            return found if states and all("running" in state for state in states) else None

        return wait_until(running, what=f"pod {pod} running", deadline_s=deadline_s, detail=lambda: self.story(pod))

    def wait_line(self, pod: str, text: str, *options: str, deadline_s: float = 60.0) -> list[str]:
        """The lines of a pod, once one of them starts with `text`."""
        lines: list[str] = []

        def said() -> bool:
            ended = self._ended(pod)
            lines[:] = self.logs(pod, *options)
            if any(line.startswith(text) for line in lines):
                return True
            if ended:
                raise Never("the pod has ended")
            return False

        wait_until(
            said,
            what=f"pod {pod} printing {text!r}",
            deadline_s=deadline_s,
            detail=lambda: "\n".join([*lines, self.story(pod)]),
        )
        return lines

    def _ended(self, pod: str) -> bool:
        return self.get("pod", pod)["status"].get("phase") in _ENDED

    def events(self, *, about: Callable[[KubeObject], bool] = lambda _event: True) -> list[KubeObject]:
        """Events of the namespace, oldest first, of which `about` is true."""
        return [event for event in self.items("events", "--sort-by=.metadata.creationTimestamp") if about(event)]

    def story(self, pod: str) -> str:
        """What happened to a pod, for error messages: its phase and the last events of its namespace."""
        try:
            phase = self.get("pod", pod)["status"].get("phase")
            return "\n".join([f"pod {pod} is {phase}", *self.last_events()])
        except Refused as error:
            return f"pod {pod}: {error}"

    def last_events(self, number: int = 12) -> list[str]:
        """The last events of the namespace, a line for each."""
        events = [(event["involvedObject"], event["reason"], event["message"]) for event in self.events()[-number:]]
        return [f"  {about['kind']}/{about['name']} {reason}: {message}" for about, reason, message in events]

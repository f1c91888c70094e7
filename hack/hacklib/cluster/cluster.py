"""A running cluster, as scripts and tests use it.

`Cluster.up` makes one, `Cluster.open` finds one by its name, `down` ends it.  All other methods act on a living
cluster and raise HackError with what a user can do.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

from hacklib import binaries, image
from hacklib.cluster import launch, namespaces, processes
from hacklib.cluster.components import CONTAINERD_SOCKET
from hacklib.cluster.processes import Verb
from hacklib.cluster.spec import ClusterSpec, NodeMount, cluster_name, folder_of
from hacklib.ui import HackError, Ui

__all__ = ["Cluster"]


class Cluster:
    """One cluster; made by `up` or `open`.  As a context manager it is taken down at the end of the block."""

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec

    @classmethod
    def up(
        cls,
        *,
        name: str = "default",
        nodes: int = 1,
        kubernetes: str = "1.36",
        feature_gates: Mapping[str, bool] | None = None,
        images: Sequence[Path] = (),
        node_mounts: Sequence[NodeMount] = (),
        ui: Ui | None = None,
    ) -> Self:
        """Start a cluster and wait until its nodes are Ready; its programs are built first if they are not there yet.

        Leaves nothing when it is interrupted or fails.  Remains of a dead cluster of that name are removed first.
        """
        ui = ui or Ui()
        minor = binaries.parse_minor(kubernetes)
        launch.check(name=cluster_name(name), nodes=nodes, images=images, node_mounts=node_mounts)
        programs = binaries.provide(minor, ui=ui)
        pause = image.build("pause", ui=ui)
        spec = ClusterSpec(
            name=cluster_name(name),
            folder=folder_of(cluster_name(name)),
            programs=programs,
            kubernetes=binaries.KUBERNETES_VERSIONS[minor],
            nodes=nodes,
            feature_gates=dict(feature_gates or {}),
            pause_image=pause.reference,
            images=(pause.archive, *(path.resolve() for path in images)),
            node_mounts=tuple(node_mounts),
        )
        launch.start(spec, ui=ui)
        return cls(spec)

    @classmethod
    def open(cls, name: str = "default") -> Self:
        """The running cluster of that name.  Raises HackError if it does not run."""
        folder = folder_of(cluster_name(name))
        if not launch.is_alive(folder):
            running = ", ".join(cls.names()) or "none"
            raise HackError(f"cluster {name} does not run (running: {running}): start it with `hack/cluster up`")
        return cls(ClusterSpec.load(folder))

    @staticmethod
    def names() -> list[str]:
        """The names of the running clusters."""
        parent = folder_of(cluster_name("x")).parent
        return sorted(path.name for path in parent.glob("[a-z0-9]*") if launch.is_alive(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig.  Its address is in reach of `exec` and within `network` only."""
        return self.spec.kubeconfig

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands: what kubectl, helm and crictl look for, and these first in PATH."""
        return os.environ | self._variables()

    def words(self, *, node: int | None = None) -> list[str]:
        """The words that, before a command, make it run inside the cluster or inside one of its nodes."""
        words = namespaces.enter(self._first_process())
        if node is not None:
            pid = int((self.spec.node(node).folder / "pid").read_text(encoding="utf-8"))
            words += namespaces.enter(pid, hostname=True)
        return [*words, "env", *(f"{name}={value}" for name, value in self._variables().items())]

    def exec(
        self,
        *command: str | Path,
        node: int | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout_s: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the cluster (its network, the host's files) or inside a node, and capture its output.

        Raises HackError with the command's standard error if it fails, unless `check` is false.
        """
        argv = [*self.words(node=node), *map(str, command)]
        what = " ".join(map(str, command))
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise HackError(f"`{what}` did not end within {timeout_s:.0f} s") from error
        if check and done.returncode:
            raise HackError(f"`{what}` failed with status {done.returncode}: {done.stderr.strip()}")
        return done

    def kubectl(
        self, *arguments: str | Path, stdin: str | None = None, check: bool = True, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator."""
        return self.exec("kubectl", *arguments, stdin=stdin, check=check, timeout_s=timeout_s)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Give the calling thread the cluster's network, so that clients in this process reach the API server."""
        with namespaces.join_network(self._first_process()):
            yield

    def load_image(self, archive: Path) -> None:
        """Load an OCI archive into all nodes, and wait until kubelets can use it."""
        for index in range(1, self.spec.nodes + 1):
            launch.load_image(archive, run=partial(self.exec, node=index))

    def components(self) -> dict[str, str]:
        """The state of each component: running, paused or exited; those of nodes are called `node-1/kubelet`."""
        states = processes.ask(self.spec.folder, "list")
        for index in range(1, self.spec.nodes + 1):
            node = self.spec.node(index)
            if states.get(node.name) == "running":
                listed = processes.ask(node.folder, "list")
                states |= {f"{node.name}/{name}": state for name, state in listed.items()}
        return states

    def act(self, verb: Verb, component: str) -> None:
        """Start, stop, kill, restart, pause or resume a component, and wait until that is done.

        API server, containerd and kubelet have started when they answer, a node when its components run.
        `node-1` itself is a component too: to restart it is to reboot the node, with another boot id and an empty /run.
        """
        owner, _, name = component.rpartition("/")
        index = owner.removeprefix("node-")
        if owner and not index.isdigit():
            raise HackError(f"component {component!r}: expected a name such as kube-apiserver or node-1/kubelet")
        processes.ask(self.spec.node(int(index)).folder if owner else self.spec.folder, verb, name)

    def kill(self, component: str) -> None:
        """Kill -9 a component; it stays dead until it is started."""
        self.act("kill", component)

    def stop(self, component: str) -> None:
        """Ask a component to end, and wait for it."""
        self.act("stop", component)

    def start(self, component: str) -> None:
        """Start a component that was stopped, was killed or died."""
        self.act("start", component)

    def restart(self, component: str) -> None:
        """Stop and start a component."""
        self.act("restart", component)

    def pause(self, component: str) -> None:
        """Freeze a component (SIGSTOP)."""
        self.act("pause", component)

    def resume(self, component: str) -> None:
        """Let a frozen component go on."""
        self.act("resume", component)

    def restart_kubelet(self, node: int) -> None:
        """Restart the kubelet of a node; its pods go on."""
        self.restart(f"{self.spec.node(node).name}/kubelet")

    def logs(self) -> dict[str, Path]:
        """The log file of each component by its name."""
        return {path.stem: path for path in sorted(self.spec.logs.glob("*.log"))}

    def down(self) -> None:
        """End the cluster; nothing of it is left."""
        launch.stop(self.spec.folder)

    def _variables(self) -> dict[str, str]:
        return {
            "PATH": f"{self.spec.programs}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "KUBECONFIG": str(self.kubeconfig),
            # kubectl and helm remember what a server offers by its address, which is the same in all clusters.
            "KUBECACHEDIR": str(self.spec.folder / "kubectl"),
            "CONTAINER_RUNTIME_ENDPOINT": f"unix://{CONTAINERD_SOCKET}",
        }

    def _first_process(self) -> int:
        process = namespaces.ProcessId.load(self.spec.first_process_file)
        if process is None or not process.alive:
            raise HackError(f"cluster {self.spec.name} has ended")
        return process.pid

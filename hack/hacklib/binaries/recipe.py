"""What is built: versions, Go packages, and the programs that come of them.

Two kinds of unit, each built once: *base*, which no Kubernetes version changes, and one of the Kubernetes programs of
each version.  Base is compiled within the module of the newest version, so that the two share every common package.
The folder `modules` holds the go.mod and go.sum of each version and `src` the main packages; a unit's key is a hash
of all that goes into it.
"""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

from hacklib.ui import HackError

__all__ = ["KUBERNETES_VERSIONS", "MinorVersion", "Target", "Unit", "base_unit", "kubernetes_unit", "parse_minor"]

MinorVersion = NewType("MinorVersion", str)
"""A Kubernetes version without its patch, `1.36`."""

KUBERNETES_VERSIONS: dict[MinorVersion, str] = {
    MinorVersion("1.36"): "1.36.3",
    MinorVersion("1.35"): "1.35.4",
    MinorVersion("1.34"): "1.34.4",
}
_BASE_MODULE = MinorVersion("1.36")
_CONTAINERD, _CNI, _CRICTL, _HELM, _KWOK = "2.2.9", "1.9.1", "1.36.0", "4.2.4", "0.8.0"
_HERE = Path(__file__).resolve().parent
_CNI_PACKAGES = "github.com/containernetworking/plugins/plugins"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One run of `go build`: packages with the same flags, into one folder below `bin`."""

    packages: tuple[str, ...]
    folder: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    tags: str = ""
    needs_libseccomp: bool = False


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A folder of programs that is built as a whole."""

    name: str
    module: Path
    sources: Path
    targets: tuple[Target, ...]
    links: tuple[tuple[str, tuple[str, ...]], ...]
    """A program and the names under which it does other things (it looks at its own name)."""

    @property
    def key(self) -> str:
        """Name and hash of everything that goes into the unit, the machine's architecture included."""
        digest = hashlib.sha256(repr((self.targets, self.links, platform.machine())).encode())
        for path in [*sorted(self.module.iterdir()), *sorted(self.sources.rglob("*.go"))]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return f"{self.name}-{digest.hexdigest()[:12]}"


def parse_minor(text: str) -> MinorVersion:
    """A supported version from what a user typed: `1.36`, `v1.36` or the whole `1.36.3`."""
    bare = text.removeprefix("v")
    for minor, full in KUBERNETES_VERSIONS.items():
        if bare in {minor, full}:
            return minor
    raise HackError(f"Kubernetes {text} is not among the versions that can be built: {', '.join(KUBERNETES_VERSIONS)}")


def base_unit() -> Unit:
    """containerd, its shim, runc, CNI plugins, etcd, crictl, helm and kwok."""
    programs = Target(
        packages=(
            "./base",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "sigs.k8s.io/cri-tools/cmd/crictl",
        ),
        variables=(
            ("github.com/containerd/containerd/v2/version.Version", f"v{_CONTAINERD}"),
            ("helm.sh/helm/v4/internal/version.version", f"v{_HELM}"),
            ("sigs.k8s.io/kwok/pkg/consts.Version", f"v{_KWOK}"),
            ("sigs.k8s.io/cri-tools/pkg/version.Version", f"v{_CRICTL}"),
            *_kubernetes_variables(KUBERNETES_VERSIONS[_BASE_MODULE]),
        ),
    )
    network = Target(
        packages=tuple(
            f"{_CNI_PACKAGES}/{name}" for name in ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")
        ),
        folder="cni",
        variables=((f"{_CNI_PACKAGES.removesuffix('/plugins')}/pkg/utils/buildversion.BuildVersion", f"v{_CNI}"),),
    )
    runc = Target(
        packages=("github.com/opencontainers/runc",),
        tags="seccomp,urfave_cli_no_docs,netgo,osusergo",
        needs_libseccomp=True,
    )
    return Unit(
        name="base",
        module=_HERE / "modules" / _BASE_MODULE,
        sources=_HERE / "src" / "base",
        targets=(programs, network, runc),
        links=(("base", ("etcd", "containerd", "ctr", "helm", "kwok")),),
    )


def kubernetes_unit(minor: MinorVersion) -> Unit:
    """The programs of Kubernetes itself, kubectl among them."""
    version = KUBERNETES_VERSIONS[minor]
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
    return Unit(
        name=f"kubernetes-{version}",
        module=_HERE / "modules" / minor,
        sources=_HERE / "src" / "kube",
        targets=(Target(packages=("./kube",), variables=_kubernetes_variables(version)),),
        links=(("kube", names),),
    )


def _kubernetes_variables(version: str) -> tuple[tuple[str, str], ...]:
    major, minor, _patch = version.split(".")
    values = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple((f"{package}.{name}", value) for package in packages for name, value in values.items())

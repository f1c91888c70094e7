"""Writes OCI image archives: one layer, no engine, the same bytes for the same input.

The layer is a plain tar (importing it costs no decompression); owners are root and times are zero throughout.  The
format is that of the OCI Image Layout Specification 1.0, as a tar, with the name under which containerd lists the
image as an annotation.
"""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hacklib.image.tree import Tree
from hacklib.ui import HackError

__all__ = ["ARCHITECTURE", "Config", "identity", "qualified", "write"]

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
_TYPE = "application/vnd.oci.image"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a container of the image runs unless it is told otherwise."""

    entrypoint: Sequence[str]
    environment: Mapping[str, str]
    user: str = ""


def qualified(reference: str) -> str:
    """The whole name that containerd gives to a short one: `docker.io/library/...`."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first):
        return reference
    return f"docker.io/{reference}" if slash else f"docker.io/library/{reference}"


def identity(archive: Path) -> tuple[str, str]:
    """The whole name of the image in an archive, and the id that a runtime gives to it.

    Raises HackError if the file is not an archive of one named OCI image.
    """
    try:
        with tarfile.open(archive) as tar:
            (described,) = _json(tar, "index.json")["manifests"]
            manifest = _json(tar, f"blobs/{described['digest'].replace(':', '/')}")
        return described["annotations"]["io.containerd.image.name"], manifest["config"]["digest"]
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise HackError(f"{archive} is not an archive of one named OCI image: {error}") from error


def write(archive: Path, *, reference: str, tree: Tree, config: Config) -> None:
    """Write the archive, whole or not at all."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".layer-") as folder:
        layer = Path(folder, "layer.tar")
        with layer.open("wb") as file:
            tree.write_tar(file)
        digest = _sha256_file(layer)
        documents = _documents(reference, config=config, layer_digest=digest, layer_size=layer.stat().st_size)
        fresh = Path(folder, "archive.tar")
        with tarfile.open(fresh, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in documents.items():
                _add(tar, name, io.BytesIO(data), size=len(data))
            with layer.open("rb") as file:
                _add(tar, f"blobs/sha256/{digest}", file, size=layer.stat().st_size)
        fresh.replace(archive)


def _documents(reference: str, *, config: Config, layer_digest: str, layer_size: int) -> dict[str, bytes]:
    documents = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(document: object, kind: str) -> dict[str, Any]:
        data = json.dumps(document, sort_keys=True).encode()
        digest = hashlib.sha256(data).hexdigest()
        documents[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"{_TYPE}.{kind}.v1+json", "digest": f"sha256:{digest}", "size": len(data)}

    run = {
        "Entrypoint": list(config.entrypoint),
        "Env": [f"{name}={value}" for name, value in sorted(config.environment.items())],
        "User": config.user,
        "WorkingDir": "/",
    }
    root = {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]}
    described = blob({"architecture": ARCHITECTURE, "os": "linux", "config": run, "rootfs": root}, "config")
    layer = {"mediaType": f"{_TYPE}.layer.v1.tar", "digest": f"sha256:{layer_digest}", "size": layer_size}
    media = f"{_TYPE}.manifest.v1+json"
    manifest = blob({"schemaVersion": 2, "mediaType": media, "config": described, "layers": [layer]}, "manifest")
    manifest["platform"] = {"architecture": ARCHITECTURE, "os": "linux"}
    manifest["annotations"] = {
        "io.containerd.image.name": qualified(reference),
        "org.opencontainers.image.ref.name": reference.rsplit(":", 1)[-1],
    }
    documents["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [manifest]}, sort_keys=True).encode()
    return documents


def _json(tar: tarfile.TarFile, name: str) -> Any:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return json.load(file)


def _add(tar: tarfile.TarFile, name: str, data: IO[bytes], *, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, data)


def _sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

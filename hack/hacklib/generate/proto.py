"""From api/proto to hami_dra/_gen: the messages of the kubelet's and of gRPC's protocols, and their types.

Only messages: the services are bound by name where they are served, so no gRPC stubs are generated.  Files are compiled as
`hami_dra/_gen/<name>.proto`, because the process-wide pool of descriptors is keyed by file name and half of the
world calls its file `api.proto`.
"""

import tempfile
from pathlib import Path

from hacklib.ui import HackError

__all__ = ["generate"]

_PACKAGE = Path("hami_dra/_gen")


def generate(root: Path) -> dict[Path, str]:
    """Every generated file, by its path below `root`.

    Raises:
        HackError: grpcio-tools is not installed, or a .proto file does not compile.
    """
    try:
        from grpc_tools import protoc  # noqa: PLC0415 - only this generator needs it
    except ImportError as error:
        raise HackError("grpcio-tools is not installed; run hack/bootstrap") from error
    source = root / "api" / "proto"
    names = sorted(path.name for path in source.glob("*.proto"))
    with tempfile.TemporaryDirectory(prefix="hami-proto-") as directory:
        arguments = [f"-I{_PACKAGE}={source}", f"--python_out={directory}", f"--pyi_out={directory}"]
        if protoc.main(["protoc", *arguments, *(f"{_PACKAGE}/{name}" for name in names)]) != 0:
            raise HackError(f"protoc refused a file of {source}; what it said stands above")
        return {
            _PACKAGE / path.name: path.read_text()
            for path in sorted((Path(directory) / _PACKAGE).iterdir())
            if path.suffix in {".py", ".pyi"}
        }

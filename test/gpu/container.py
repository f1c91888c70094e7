"""Containers for the suite: a private mount namespace in which shares lie below /run/hami, and a worker in it."""

import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hami_dra._gen import abi

__all__ = ["Share", "WorkerError", "Workers"]


class WorkerError(Exception):
    """A call of the driver failed in the worker; `code` is its CUresult."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(answer["call"])
        self.code: int = answer["error"]


class Share:
    """The directory of one share of the device `uuid`."""

    def __init__(self, directory: Path, *, uuid: str, memory_bytes: int, cores_percent: int = 0) -> None:
        self.directory = directory
        self._uuid = uuid
        self._sequence = 0
        directory.mkdir(parents=True)
        (directory / "usage").touch()
        os.truncate(directory / "usage", abi.USAGE_FILE_SIZE)
        (directory / "usage").chmod(0o666)
        (directory / "limits").write_bytes(self._page(memory_bytes, cores_percent))

    @property
    def used_bytes(self) -> int:
        """The shared counter."""
        page = (self.directory / "usage").read_bytes()
        return int.from_bytes(page[abi.USAGE_USED_BYTES_OFFSET :][:8], "little")

    def change(self, *, memory_bytes: int, cores_percent: int = 0) -> None:
        """Change the limits in place, under the seqlock."""
        with (self.directory / "limits").open("r+b", buffering=0) as file:
            for step in (1, 2):
                self._sequence += 1
                if step == 1:
                    os.pwrite(file.fileno(), struct.pack("<I", self._sequence), abi.LIMITS_SEQUENCE_OFFSET)
                    os.pwrite(file.fileno(), self._page(memory_bytes, cores_percent), 0)
                else:
                    os.pwrite(file.fileno(), struct.pack("<I", self._sequence), abi.LIMITS_SEQUENCE_OFFSET)

    def _page(self, memory_bytes: int, cores_percent: int) -> bytes:
        page = bytearray(abi.LIMITS_SIZE)
        for offset, value in (
            (abi.LIMITS_MAGIC_OFFSET, abi.LIMITS_MAGIC.encode()),
            (abi.LIMITS_DEVICE_UUID_OFFSET, self._uuid.encode()),
            (abi.LIMITS_SHARE_OFFSET, self.directory.name.encode()),
            (abi.LIMITS_ABI_VERSION_OFFSET, struct.pack("<I", abi.ABI_VERSION)),
            (abi.LIMITS_PRIORITY_OFFSET, struct.pack("<I", abi.PRIORITY_NORMAL)),
            (abi.LIMITS_CORES_PERCENT_OFFSET, struct.pack("<I", cores_percent)),
            (abi.LIMITS_MEMORY_LIMIT_BYTES_OFFSET, struct.pack("<Q", memory_bytes)),
        ):
            page[offset : offset + len(value)] = value
        struct.pack_into("<I", page, abi.LIMITS_CHECKSUM_OFFSET, zlib.crc32(page))
        struct.pack_into("<I", page, abi.LIMITS_SEQUENCE_OFFSET, self._sequence)
        return bytes(page)


class Worker:
    """A running worker.py."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def ask(self, name: str, *arguments: object) -> Any:
        """Do one thing; raises WorkerError when the driver refuses."""
        self.tell(name, *arguments)
        return self.answer()

    def tell(self, name: str, *arguments: object) -> None:
        """Begin to do one thing; `answer` waits for its end."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """The answer to what was told before."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with status {self.process.wait()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise WorkerError(answer)
        return answer

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


class Workers:
    """Starts programs in containers.  `bundle` holds the guard and these files, `scratch` the shares."""

    def __init__(self, bundle: Path, scratch: Path) -> None:
        self._bundle = bundle
        self._scratch = scratch
        self._numbers = itertools.count(1)

    def share(self, *, uuid: str, memory_bytes: int, cores_percent: int = 0) -> Share:
        """A new share."""
        directory = self._scratch / f"share-{next(self._numbers)}"
        return Share(directory, uuid=uuid, memory_bytes=memory_bytes, cores_percent=cores_percent)

    def command(self, share: Share | None, *words: str | Path) -> list[str]:
        """The command line that runs `words` in a container of the share; without a share also without the guard."""
        if share is None:
            return list(map(str, words))
        unprivileged = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        return [
            *("unshare", *unprivileged, "--mount", "--propagation", "private", "sh", str(self._bundle / "enter.sh")),
            *(str(share.directory), "--", "env", f"LD_PRELOAD={self._bundle / 'libhami_guard.so'}"),
            *map(str, words),
        ]

    @contextmanager
    def worker(self, share: Share | None) -> Iterator[Worker]:
        """A worker with a context, killed at the end of the block."""
        process = subprocess.Popen(
            self.command(share, sys.executable, "-m", "gpu.worker"),
            cwd=self._bundle,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        with process:
            try:
                worker = Worker(process)
                worker.ask("start")
                yield worker
            finally:
                process.kill()

    def clean(self) -> None:
        """Remove the shares."""
        shutil.rmtree(self._scratch, ignore_errors=True)

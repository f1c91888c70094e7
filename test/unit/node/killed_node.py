"""A node plugin's state machine that is killed by SIGKILL; run in a process of its own.

killed_node.py DIRECTORY EFFECT      dies at that effect of preparing the claim `train`
killed_node.py DIRECTORY             prepares and unprepares `train` for ever, until somebody kills it
"""

import os
import signal
import sys
from pathlib import Path

from node_rig import Rig

from hami_dra.testing.gpus import allocated_claim


def main(directory: Path, effect: str) -> None:
    """See the module."""
    rig = Rig(directory)
    train = rig.claims.add(allocated_claim())

    def die(name: str) -> None:
        if name == effect:
            os.kill(os.getpid(), signal.SIGKILL)

    rig.on_effect = die
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        rig.prepare(train)
        if not effect:
            rig.unprepare(train)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")

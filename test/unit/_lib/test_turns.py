"""Short turns are asked for as the kernel wants to be asked."""

import sys

from hami_dra._lib.turns import ask_for_short_turns


def test_the_kernel_takes_the_wish() -> None:
    """No privilege is needed, and a machine whose system calls are not known is left alone."""
    assert ask_for_short_turns()
    assert not ask_for_short_turns(machine="riscv64")
    assert sys.platform == "linux"

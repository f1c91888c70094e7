"""Moves data to a card and back through stock cuda-bindings, fills the card up, and prints what it saw."""

import json

import numpy as np
from native.simgpu.clients.common import call, driver, use_device


def main() -> None:
    """Print the figures; any wrong byte or unexpected error ends the program with a status."""
    use_device(0)
    sent = np.random.default_rng(7).integers(0, 2**31, 1_000_003, dtype=np.int32)
    got = np.zeros_like(sent)
    free, total = call(driver.cuMemGetInfo())
    first = call(driver.cuMemAlloc(sent.nbytes))
    second = call(driver.cuMemAlloc(sent.nbytes))
    after = call(driver.cuMemGetInfo())[0]
    call(driver.cuMemcpyHtoD(first, sent.ctypes.data, sent.nbytes))
    call(driver.cuMemcpyDtoD(second, first, sent.nbytes))
    call(driver.cuMemcpyDtoH(got.ctypes.data, second, sent.nbytes))
    assert (sent == got).all()
    too_much = driver.cuMemAlloc(after + 1)[0]
    rest = call(driver.cuMemAlloc(after))
    none_left = driver.cuMemAlloc(1)[0]
    for address in (first, second, rest):
        call(driver.cuMemFree(address))
    print(
        json.dumps(
            {
                "total": total,
                "allocated": free - after,
                "wanted": 2 * sent.nbytes,
                "too_much": int(too_much),
                "none_left": int(none_left),
                "left": total - call(driver.cuMemGetInfo())[0],
            }
        )
    )


main()

"""Prints, for each line of its input, what stock nvidia-ml-py says of the utilisation of card 0 since the line before."""

import json
import sys

import pynvml


def main() -> None:
    """The first answer is about all samples that there are."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    seen = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        try:
            found = pynvml.nvmlDeviceGetProcessUtilization(handle, seen)
        except pynvml.NVMLError_NotFound:
            found = []
        kind, samples = samples_of(handle)
        answer = {
            "processes": {sample.pid: sample.smUtil for sample in found},
            "gpu": pynvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "kind": kind,
            "samples": samples,
        }
        seen = max((sample.timeStamp for sample in found), default=seen)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def samples_of(handle: object) -> tuple[int, list[int]]:
    """The type of the card's samples, and those since the card was made."""
    kind, samples = pynvml.nvmlDeviceGetSamples(handle, pynvml.NVML_GPU_UTILIZATION_SAMPLES, 0)
    return kind, [sample.sampleValue.uiVal for sample in samples]


main()

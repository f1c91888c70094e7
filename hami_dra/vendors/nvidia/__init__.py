"""NVIDIA's GPUs, through NVML, and whatever poses as one (the simulated driver goes exactly the same way)."""

from hami_dra.vendors.nvidia.discover import NvidiaDiscovery
from hami_dra.vendors.nvidia.driver_root import Root
from hami_dra.vendors.nvidia.mps import MpsPrograms
from hami_dra.vendors.nvidia.time_slices import TimeSlices

__all__ = ["MpsPrograms", "NvidiaDiscovery", "Root", "TimeSlices"]

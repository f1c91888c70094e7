"""AMD's GPUs, through what the kernel's amdgpu driver shows in sysfs and in KFD's topology; no library is needed."""

from hami_dra.vendors.amd.discover import AmdDiscovery, Roots

__all__ = ["AmdDiscovery", "Roots"]

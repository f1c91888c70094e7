"""The only home of names that others see: driver, attributes, capacities, labels, paths inside containers.

Invariant: no other module spells one of these strings.
"""

from typing import Final

__all__ = [
    "ATTRIBUTE_MODE",
    "ATTRIBUTE_NUMA_NODE",
    "ATTRIBUTE_PCIE_ROOT",
    "ATTRIBUTE_PCI_BUS_ID",
    "CAPACITY_CORES",
    "CAPACITY_MEMORY",
    "CAPACITY_SLOTS",
    "CDI_KIND",
    "CDI_VERSION",
    "CONDITION_READY",
    "CONDITION_RESOLVED",
    "CONFIG_API_VERSION",
    "CONFIG_KIND",
    "CONTAINER_GUARD",
    "CONTAINER_LIBRARY_DIRS",
    "CONTAINER_METADATA_DIR",
    "CONTAINER_PRELOAD",
    "CONTAINER_SHARES_DIR",
    "CONTROLLER_FIELD_MANAGER",
    "DRIVER",
    "GATE_CONSUMABLE_CAPACITY",
    "GATE_PARTITIONABLE_DEVICES",
    "GATE_TAINTS",
    "METADATA_API_VERSION",
    "METADATA_KIND",
    "NODE_CONFIG_KIND",
    "NODE_FIELD_MANAGER",
    "POD_CLAIM_ANNOTATION",
    "POOL_SUFFIX",
    "TAINT_PREFIX",
]

DRIVER: Final = "gpu.hami.io"
POOL_SUFFIX: Final = "gpu"

CAPACITY_MEMORY: Final = "memory"
CAPACITY_CORES: Final = "cores"
CAPACITY_SLOTS: Final = "slots"

GATE_CONSUMABLE_CAPACITY: Final = "DRAConsumableCapacity"
GATE_PARTITIONABLE_DEVICES: Final = "DRAPartitionableDevices"
GATE_TAINTS: Final = "DRADeviceTaints"

ATTRIBUTE_MODE: Final = "mode"
ATTRIBUTE_PCI_BUS_ID: Final = "resource.kubernetes.io/pciBusID"
ATTRIBUTE_PCIE_ROOT: Final = "resource.kubernetes.io/pcieRoot"
ATTRIBUTE_NUMA_NODE: Final = "resource.kubernetes.io/numaNode"

CONFIG_API_VERSION: Final = "gpu.hami.io/v1alpha1"
CONFIG_KIND: Final = "GpuConfig"
NODE_CONFIG_KIND: Final = "NodeConfig"

CDI_KIND: Final = "gpu.hami.io/claim"
CDI_VERSION: Final = "0.5.0"
"""The lowest version that allows device names with a leading digit; runtimes refuse versions they do not know."""

CONTAINER_SHARES_DIR: Final = "/run/hami"
CONTAINER_GUARD: Final = "/usr/local/hami/libhami_guard.so"
CONTAINER_PRELOAD: Final = "/etc/ld.so.preload"
CONTAINER_LIBRARY_DIRS: Final = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64")
"""glibc's built-in search paths on Debian's and on Red Hat's line: libraries mounted here need no cache and no environment."""

CONTAINER_METADATA_DIR: Final = "/var/run/kubernetes.io/dra-device-attributes"
METADATA_API_VERSION: Final = "metadata.resource.k8s.io/v1alpha1"
METADATA_KIND: Final = "DeviceMetadata"
POD_CLAIM_ANNOTATION: Final = "resource.kubernetes.io/pod-claim-name"
"""On a claim that was made from a template: its name in the pod."""

CONDITION_READY: Final = "Ready"
CONDITION_RESOLVED: Final = "Resolved"
NODE_FIELD_MANAGER: Final = "hami-dra-node"
CONTROLLER_FIELD_MANAGER: Final = "hami-dra-controller"

TAINT_PREFIX: Final = f"{DRIVER}/"
"""Before the kind of a fault, in the key of a DeviceTaint."""

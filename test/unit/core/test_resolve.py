"""What a claim means."""

import pytest
from unit.claims import claim, config, gpu_config, result

from hami_dra.api.k8s import ResourceClaim
from hami_dra.api.opaque import Isolation, Priority, Qos
from hami_dra.core.allocation import read_allocation
from hami_dra.core.errors import InvalidConfig
from hami_dra.core.resolve import resolve
from hami_dra.core.share import ShareSpec


def specs(made: ResourceClaim) -> tuple[ShareSpec, ...]:
    """Read and resolve."""
    return resolve(read_allocation(made))


def test_a_share_without_configuration_is_guarded() -> None:
    """Defaults: the guard, a fixed share of its cores, normal priority."""
    (share,) = specs(claim(result()))
    assert (share.isolation, share.qos, share.priority) == (Isolation.GUARD, Qos.FIXED_SHARE, Priority.NORMAL)
    assert (share.memory_bytes, share.cores_percent) == (16 << 30, 30)


def test_a_share_without_cores_is_best_effort() -> None:
    """Nothing promised, nothing enforced."""
    (share,) = specs(claim(result(consumedCapacity={"memory": "1Gi", "cores": "0"})))
    assert (share.qos, share.cores_percent) == (Qos.BEST_EFFORT, 0)


def test_a_whole_device_is_not_guarded() -> None:
    """A device without a shareID belongs to one claim alone."""
    (share,) = specs(claim(result("gpu/big", shareID=None, consumedCapacity=None)))
    assert (share.isolation, share.memory_bytes, share.base_request) == (Isolation.NONE, None, "gpu")


def test_admin_access_sees_the_device_as_it_is() -> None:
    """A monitor is held to nothing, whatever was written down and the class says of shares; what is malformed is refused."""
    configs = (config(gpu_config(isolation="Guard", qos="BurstShare", memory={"oversubscription": "8Gi"})),)
    (share,) = specs(claim(result(adminAccess=True, consumedCapacity={"memory": "1Mi", "cores": "0"}), configs=configs))
    assert (share.isolation, share.admin_access) == (Isolation.NONE, True)
    assert (share.memory_bytes, share.cores_percent, share.oversubscription_bytes) == (1 << 20, 0, 0)
    with pytest.raises(InvalidConfig):
        specs(claim(result(adminAccess=True), configs=(config(gpu_config(isolation="Gard")),)))


def test_the_claim_overrides_the_class_field_by_field() -> None:
    """A field that the claim does not set keeps what the class says."""
    configs = (
        config(gpu_config(priority="High"), source="FromClaim"),
        config(gpu_config(priority="Low", qos="BurstShare"), source="FromClass"),
    )
    (share,) = specs(claim(result(), configs=configs))
    assert (share.qos, share.priority) == (Qos.BURST_SHARE, Priority.HIGH)


def test_an_undecodable_configuration_names_claim_entry_and_field() -> None:
    """The message tells where to look."""
    with pytest.raises(InvalidConfig, match=r"ml/train, request gpu: GpuConfig of the claim \(config\[0\]\): memroy"):
        specs(claim(result(), configs=(config(gpu_config(memroy="1Gi")),)))


def test_a_wrong_class_is_blamed_on_the_class() -> None:
    """Users cannot mend a DeviceClass, and must not search in their claim."""
    with pytest.raises(InvalidConfig, match="GpuConfig of the DeviceClass"):
        specs(claim(result(), configs=(config(gpu_config(qos="Gold"), source="FromClass"),)))


@pytest.mark.parametrize(("qos", "cores"), [("FixedShare", "0"), ("BurstShare", "0"), ("BestEffort", "30")])
def test_qos_and_cores_must_agree(qos: str, cores: str) -> None:
    """A share of cores needs cores, and best effort has none."""
    with pytest.raises(InvalidConfig, match=f"qos {qos}"):
        specs(claim(result(consumedCapacity={"cores": cores}), configs=(config(gpu_config(qos=qos)),)))


def test_oversubscription_is_merged_like_every_field() -> None:
    """The claim's word goes before the class's; an empty object says nothing; zero takes it back."""
    of_class = config(gpu_config(memory={"oversubscription": "8Gi"}), source="FromClass")
    for memory, expected in (({}, 8 << 30), ({"oversubscription": "2Gi"}, 2 << 30), ({"oversubscription": 0}, 0)):
        (share,) = specs(claim(result(), configs=(of_class, config(gpu_config(memory=memory)))))
        assert share.oversubscription_bytes == expected
    (share,) = specs(claim(result()))
    assert share.oversubscription_bytes == 0


@pytest.mark.parametrize("whole", [True, False])
def test_oversubscription_needs_the_guard(*, whole: bool) -> None:
    """Nobody else could tell what exceeds the share; a whole card gets the guard when it is asked for."""
    memory = {"oversubscription": "8Gi"}
    made = result(shareID=None, consumedCapacity=None) if whole else result()
    unguarded = gpu_config(memory=memory) if whole else gpu_config(memory=memory, isolation="None")
    with pytest.raises(
        InvalidConfig, match=r"memory\.oversubscription 8Gi needs isolation Guard, but isolation is None"
    ):
        specs(claim(made, configs=(config(unguarded),)))
    (share,) = specs(claim(made, configs=(config(gpu_config(memory=memory, isolation="Guard")),)))
    assert share.oversubscription_bytes == 8 << 30

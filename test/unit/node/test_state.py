"""The prepare machine: one answer for a claim however often it is asked for, and nothing left of what failed."""

import json
import stat
from pathlib import Path

import pytest
from node_rig import Facts, Rig, ref

from hami_dra._lib.threads import Event, Group
from hami_dra.core.errors import (
    ApiUnavailable,
    CapacityExceeded,
    CardNotHealth,
    ClaimChanged,
    ClaimNotAllocated,
    DeviceLost,
    DriverError,
    HamiDraError,
    InvalidConfig,
    UnknownDevice,
)
from hami_dra.core.ids import ClaimUid
from hami_dra.core.inventory import Inventory
from hami_dra.core.limits import decode
from hami_dra.node.state import ClaimRef
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import A100_MEMORY, allocated_claim, gpu, inventory, share_result

SHARE = "6b0f2a6e-0000-4000-8000-000000000001"
KEY = f"gpu-0000-17-00-0-{SHARE}"
NOTHING = Facts(shares=set(), cdi=set(), ledger={})
PREPARED = Facts(shares={f"train-uid/{KEY}"}, cdi={"train-uid"}, ledger={"train-uid": "Completed"})


def test_a_prepared_claim_has_one_share_one_spec_and_one_row(rig: Rig) -> None:
    """Preparing answers with what kubelet needs, and leaves exactly one of everything; so does doing it again."""
    train = rig.claims.add(allocated_claim())
    first = rig.prepare(train)
    (device,) = first.devices
    assert (device.request, device.device, device.share_id) == ("gpu", "gpu-0000-17-00-0", SHARE)
    assert device.cdi_id == f"gpu.hami.io/claim=train-uid-{KEY}"
    assert rig.facts() == PREPARED
    assert rig.prepare(train).devices == first.devices
    assert rig.facts() == PREPARED


def test_the_files_say_what_was_allocated(rig: Rig) -> None:
    """The limits file carries the share's limits, the spec names the host's paths, and modes let any user in."""
    rig.prepare(rig.claims.add(allocated_claim()))
    share = rig.claims_dir / "train-uid" / KEY
    limits = decode((share / "limits").read_bytes())
    assert (limits.memory_limit_bytes, limits.cores_percent, limits.share) == (16 << 30, 30, KEY)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (share.parent, share, share / "limits", share / "usage")]
    assert modes == [0o711, 0o711, 0o644, 0o666]
    spec = json.loads(rig.cdi_file("train-uid").read_text())
    (device,) = spec["devices"]
    assert device["containerEdits"]["mounts"][1]["hostPath"] == f"/var/lib/hami-dra/claims/train-uid/{KEY}/limits"


def test_unprepare_of_an_unknown_claim_succeeds(rig: Rig) -> None:
    """Kubelet may ask to unprepare what was never prepared; the API server is not needed for the answer."""
    rig.claims.down = True
    rig.state.unprepare(ClaimUid("never-seen"))
    assert rig.claims.reads == 0


def test_a_prepared_claim_does_not_need_the_api_server(rig: Rig) -> None:
    """When kubelet restarts while the API server is away, prepared claims are answered from the ledger."""
    train = rig.claims.add(allocated_claim())
    first = rig.prepare(train)
    rig.claims.down = True
    again = rig.prepare(train)
    assert again.devices == first.devices
    assert again.claim is None


def test_an_unprepared_claim_needs_the_api_server(rig: Rig) -> None:
    """Without the API server a new claim cannot be prepared, and the reason says so."""
    train = rig.claims.add(allocated_claim())
    rig.claims.down = True
    with pytest.raises(ApiUnavailable):
        rig.prepare(train)
    assert rig.facts() == NOTHING


def test_an_api_server_that_stumbles_is_asked_again(rig: Rig) -> None:
    """Refusals that pass within seconds do not fail the pod, which kubelet would only retry in a minute or more."""
    train = rig.claims.add(allocated_claim())
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        rig.claims.down = len(waits) < 3
        return False

    rig.state._wait = wait
    rig.claims.down = True
    rig.prepare(train)
    assert len(waits) == 3
    rig.claims.down = True
    rig.state._wait = lambda _seconds: True
    with pytest.raises(ApiUnavailable):
        rig.prepare(rig.claims.add(allocated_claim("late", share_result(share_id=SHARE[:-1] + "2"))))


def test_claims_are_read_a_few_at_a_time(rig: Rig) -> None:
    """A burst of pods does not become a burst of connections to the API server."""
    refs = [
        rig.claims.add(allocated_claim(f"c{i}", share_result(share_id=f"{SHARE[:-2]}{i:02}", memory_gib=1, cores=0)))
        for i in range(20)
    ]
    with Group("burst") as group:
        for index, reference in enumerate(refs):
            group.spawn(f"prepare-{index}", lambda reference=reference: rig.prepare(reference))  # type: ignore[misc]
        group.join(30.0)
    assert len(rig.facts().ledger) == 20
    assert 1 <= rig.claims.most_at_once <= 4


def test_a_replaced_claim_is_refused(rig: Rig) -> None:
    """A claim of the same name with another UID is not what kubelet asked about."""
    rig.claims.add(allocated_claim(uid="new-uid"))
    with pytest.raises(ClaimChanged, match="its UID is new-uid"):
        rig.prepare(ClaimRef(namespace="ml", name="train", uid=ClaimUid("old-uid")))


def test_a_deleted_claim_is_refused(rig: Rig) -> None:
    """A claim that is gone cannot be prepared."""
    with pytest.raises(ClaimChanged, match="was deleted"):
        rig.prepare(ref(allocated_claim()))


def test_a_uid_that_is_no_uid_is_refused(rig: Rig) -> None:
    """A UID names files, so nothing that could leave its directory gets through."""
    for uid in ("../../etc", "", "a/b", "." * 3):
        with pytest.raises(ClaimChanged, match="is not the UID"):
            rig.prepare(ClaimRef(namespace="ml", name="train", uid=ClaimUid(uid)))
        with pytest.raises(ClaimChanged, match="is not the UID"):
            rig.state.unprepare(ClaimUid(uid))


def test_a_changed_allocation_waits_for_processes_of_the_former_one(rig: Rig) -> None:
    """What is prepared for one allocation is not handed to consumers of another, nor taken from under living processes."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.in_use.add(train.uid)
    other = share_result(share_id="ffffffff-0000-4000-8000-000000000002", memory_gib=8)
    rig.claims.add(allocated_claim("train", other))
    with pytest.raises(ClaimChanged, match="is prepared on"):
        rig.prepare(train)
    assert rig.facts() == PREPARED


def test_a_changed_allocation_is_prepared_anew(rig: Rig) -> None:
    """Kubelet, which asks for it, will not unprepare the former allocation: nobody has that any more, so it goes."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    other = share_result(share_id="ffffffff-0000-4000-8000-000000000002", memory_gib=8)
    rig.claims.add(allocated_claim("train", other))
    assert rig.prepare(train).plan.shares[0].memory_bytes == 8 << 30
    (share,) = rig.facts().shares
    assert "ffffffff" in share


def test_an_unprepare_under_living_processes_waits_for_their_end(rig: Rig) -> None:
    """Kubelet unprepares under one of two users of a claim when the other ended early: nobody loses a share that runs."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.in_use.add(train.uid)
    rig.unprepare(train)
    rig.state.unprepare_late()
    assert rig.facts() == PREPARED
    rig.in_use.clear()
    rig.state.unprepare_late()
    assert rig.facts() == NOTHING
    rig.state.unprepare_late()


def test_a_claim_that_is_prepared_again_is_not_unprepared_late(rig: Rig) -> None:
    """Whoever came in between has it."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.in_use.add(train.uid)
    rig.unprepare(train)
    rig.prepare(train)
    rig.in_use.clear()
    rig.state.unprepare_late()
    assert rig.facts() == PREPARED


def test_foreign_results_are_left_to_their_driver(rig: Rig) -> None:
    """Results of other drivers in the same claim are neither prepared nor an error."""
    foreign = share_result() | {"driver": "nic.example.com", "device": "nic-0", "request": "nic"}
    both = rig.claims.add(allocated_claim("both", foreign, share_result()))
    assert [device.request for device in rig.prepare(both).devices] == ["gpu"]
    only = rig.claims.add(allocated_claim("only", foreign))
    with pytest.raises(ClaimNotAllocated):
        rig.prepare(only)


def test_a_subrequest_answers_to_its_request(rig: Rig) -> None:
    """Containers name the request, not the alternative that the scheduler chose."""
    claim = rig.claims.add(allocated_claim("alternatives", share_result(request="gpu/small")))
    assert [device.request for device in rig.prepare(claim).devices] == ["gpu"]


def test_two_shares_of_one_claim_on_one_card(rig: Rig) -> None:
    """Each result is a device of its own for kubelet, with a directory and a CDI name of its own."""
    second = "7c1d0000-0000-4000-8000-000000000002"
    claim = rig.claims.add(allocated_claim("two", share_result(), share_result(request="b", share_id=second)))
    ids = [device.cdi_id for device in rig.prepare(claim).devices]
    assert len(set(ids)) == 2
    assert rig.facts().shares == {f"two-uid/{KEY}", f"two-uid/gpu-0000-17-00-0-{second}"}
    spec = json.loads(rig.cdi_file("two-uid").read_text())
    assert [device["name"] for device in spec["devices"]] == [cdi_id.partition("=")[2] for cdi_id in ids]


def test_a_whole_card_has_no_guard(rig: Rig) -> None:
    """Without a shareID the card is the claim's own: no limits, no usage, but device files and libraries."""
    claim = rig.claims.add(allocated_claim("whole", share_result(share_id="")))
    rig.prepare(claim)
    assert rig.facts() == Facts(shares=set(), cdi={"whole-uid"}, ledger={"whole-uid": "Completed"})
    spec = json.loads(rig.cdi_file("whole-uid").read_text())
    mounts = [mount["containerPath"] for mount in spec["devices"][0]["containerEdits"]["mounts"]]
    assert mounts == ["/dev/nvidia0"]


def test_a_monitor_sees_a_full_card_and_takes_nothing_of_it(rig: Rig) -> None:
    """Admin access works on a card of which nothing is left, twice in one claim, without share files."""
    full = rig.claims.add(allocated_claim("full", share_result(memory_gib=80, cores=100)))
    rig.prepare(full)
    seen = share_result(memory_gib=1, cores=0) | {"adminAccess": True}
    again = share_result(request="again", share_id="") | {"adminAccess": True}
    monitor = rig.claims.add(allocated_claim("monitor", seen, again))
    devices = rig.prepare(monitor).devices
    assert len({device.cdi_id for device in devices}) == 2
    assert rig.prepare(monitor).devices == devices
    assert rig.facts().shares == {f"full-uid/{KEY}"}
    for device in json.loads(rig.cdi_file("monitor-uid").read_text())["devices"]:
        assert "/etc/ld.so.preload" not in [mount["containerPath"] for mount in device["containerEdits"]["mounts"]]
    rig.unprepare(full)
    rig.prepare(full)


def test_a_dead_card_is_not_prepared(rig: Rig) -> None:
    """The scheduler may not know yet, or never hear of it; a monitor, and who has the card already, go on."""
    before = rig.claims.add(allocated_claim("before"))
    devices = rig.prepare(before).devices
    rig.unusable = {gpu().name: "the driver has lost this GPU"}
    late = rig.claims.add(allocated_claim("late", share_result(share_id="late-share")))
    with pytest.raises(CardNotHealth, match=rf"claim ml/late: device {gpu().name} cannot be used: the driver has lost"):
        rig.prepare(late)
    assert rig.facts().ledger == {"before-uid": "Completed"}
    assert rig.prepare(before).devices == devices
    rig.prepare(rig.claims.add(allocated_claim("monitor", share_result(share_id="") | {"adminAccess": True})))


def test_a_claim_of_several_pods_is_one_share(rig: Rig) -> None:
    """Each pod has kubelet ask again: all get the same device, and the last one's end takes it away."""
    users = [{"resource": "pods", "name": f"pod-{index}", "uid": f"pod-{index}-uid"} for index in range(3)]
    claim = allocated_claim()
    claim["status"]["reservedFor"] = users
    train = rig.claims.add(claim)
    first = rig.prepare(train).devices
    assert [rig.prepare(train).devices for _ in users] == [first] * 3
    assert rig.facts() == PREPARED
    rig.unprepare(train)
    assert rig.facts() == NOTHING


def test_a_slow_claim_delays_no_other(rig: Rig) -> None:
    """While one claim hangs at any effect of its own, another is prepared and unprepared, and then the first goes on."""
    slow = rig.claims.add(allocated_claim("slow", share_result(memory_gib=8)))
    quick = rig.claims.add(allocated_claim("quick", share_result(memory_gib=8, share_id=SHARE[:-1] + "2")))
    for effect in ("shares.ensure", "cdi.write"):
        with Group("slow") as group:
            stuck, go_on = group.event(), group.event()

            def hang(name: str, *, at: str = effect, stuck: Event = stuck, go_on: Event = go_on) -> None:
                if name == at and not stuck.is_set():
                    stuck.set()
                    go_on.wait()

            rig.on_effect = hang
            group.spawn("prepare", lambda: rig.prepare(slow))
            assert stuck.wait(10.0)
            rig.prepare(quick)
            rig.unprepare(quick)
            assert rig.facts().ledger == {"slow-uid": "Started"}
            go_on.set()
            eventually(lambda: rig.facts().ledger == {"slow-uid": "Completed"})
        rig.unprepare(slow)


def test_the_driver_is_the_last_line_against_overbooking(rig: Rig) -> None:
    """A share beyond what the card has left is refused, whoever allocated it, and fits when a neighbour is gone."""
    first = rig.claims.add(allocated_claim("first", share_result(memory_gib=64)))
    late = rig.claims.add(allocated_claim("late", share_result(memory_gib=32, share_id=SHARE[:-1] + "2")))
    rig.prepare(first)
    with pytest.raises(CapacityExceeded, match="16Gi of 80Gi free, 32Gi asked; the rest is held by ml/first"):
        rig.prepare(late)
    rig.unprepare(first)
    rig.prepare(late)


def test_bad_configuration_is_refused_with_its_place(rig: Rig) -> None:
    """A GpuConfig that cannot be read fails the claim and says where the mistake is."""
    parameters = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig", "isolaton": "Guard"}
    entry = {"source": "FromClaim", "requests": [], "opaque": {"driver": "gpu.hami.io", "parameters": parameters}}
    claim = rig.claims.add(allocated_claim("bad", share_result(), config=[entry]))
    with pytest.raises(InvalidConfig, match="isolaton"):
        rig.prepare(claim)
    assert rig.facts() == NOTHING


def test_devices_that_are_not_here(rig: Rig) -> None:
    """An unknown device, one of another pool, and one that vanished are told apart."""
    unknown = rig.claims.add(allocated_claim("unknown", share_result(index=5)))
    with pytest.raises(UnknownDevice, match="not on this node, which has gpu-0000-17-00-0"):
        rig.prepare(unknown)
    elsewhere = rig.claims.add(allocated_claim("elsewhere", share_result() | {"pool": "node-2/gpu"}))
    with pytest.raises(UnknownDevice, match="pool node-2/gpu"):
        rig.prepare(elsewhere)
    rig.hardware = Inventory(gpus=(gpu(1),))
    rig.discovery.look()
    with pytest.raises(DeviceLost, match="was on this node"):
        rig.prepare(rig.claims.add(allocated_claim()))


def test_a_lost_device_fails_a_repeated_prepare(rig: Rig) -> None:
    """A pod that restarts after its card vanished hears of it."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.hardware = inventory(0)
    rig.discovery.look()
    with pytest.raises(DeviceLost, match="is gone from this node"):
        rig.prepare(train)


def test_before_the_driver_is_there(tmp_path: Path) -> None:
    """Without an inventory new claims wait with a reason, and prepared ones are answered."""
    rig = Rig(tmp_path)
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.ledger.close()
    rig._make()
    assert rig.prepare(train).devices
    with pytest.raises(DriverError, match="not known yet"):
        rig.prepare(rig.claims.add(allocated_claim("late", share_result(share_id=SHARE[:-1] + "2"))))
    rig.cdi_file("train-uid").unlink()
    with pytest.raises(DriverError):
        rig.prepare(train)
    rig.close()


def test_memory_of_a_share_is_what_was_charged(rig: Rig) -> None:
    """A share that was charged the whole card may hold all that the card publishes."""
    claim = rig.claims.add(allocated_claim("all", share_result(memory_gib=80, cores=0)))
    assert rig.prepare(claim).plan.shares[0].memory_bytes == A100_MEMORY


def test_every_error_of_the_machine_has_a_reason(rig: Rig) -> None:
    """Whatever kubelet is told ends in a reason of the house's list."""
    with pytest.raises(HamiDraError) as caught:
        rig.prepare(ref(allocated_claim()))
    assert caught.value.explain().endswith("(ClaimChanged)")

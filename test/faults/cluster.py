"""What a campaign asks of the API server and sees of a node from outside: pods, claims, processes, cards.

One connection from this process instead of a kubectl for each operation: thousands of them would be most of the load.
"""

import os
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2e.support import pod_with, share_template
from faults.plan import Claim, Operation, Verb

from hacklib.deployment import Site
from hami_dra.api.k8s import JsonObject
from hami_dra.core.errors import ApiUnavailable, Conflict, HamiDraError, NotFound
from hami_dra.kube.client import ClusterTransport, kubeconfig
from hami_dra.kube.transport import MERGE_PATCH
from hami_dra.testing.eventually import eventually

__all__ = ["SYSTEM", "Api", "Processes", "pod_process_claims"]

SYSTEM = "hami-system"
_NAMESPACE = "default"
_PODS = f"/api/v1/namespaces/{_NAMESPACE}/pods"
_CLAIMS = f"/apis/resource.k8s.io/v1/namespaces/{_NAMESPACE}/resourceclaims"
_TEMPLATES = f"/apis/resource.k8s.io/v1/namespaces/{_NAMESPACE}/resourceclaimtemplates"
_PATIENCE_S = 60.0
_RETRY_S = 0.25
_SHARE = re.compile(r" /(?:\S+/)?claims/([0-9a-f-]{36})/[^/ ]+/limits ")
"""The root of a bind mount of a limits file, in a line of mountinfo."""


class Api:
    """The API server, for whoever runs within `Cluster.network()`."""

    def __init__(self, site: Site) -> None:
        self._transport = ClusterTransport(kubeconfig(site.cluster.kubeconfig), user_agent="campaign")
        self._updates = 0
        self._pause = site.cluster.spec.pause_image

    def prepare(self) -> None:
        """The templates, and the leave to ask for admin access."""
        labels = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        self.send("PATCH", f"/api/v1/namespaces/{_NAMESPACE}", body=labels, content_type=MERGE_PATCH)
        for name in (Claim.OWN, Claim.DOUBLE, Claim.MONITOR):
            template = share_template(name, memory="512Mi", cores=1)
            requests = template["spec"]["spec"]["devices"]["requests"]
            if name is Claim.DOUBLE:
                requests.append(requests[0] | {"name": "more"})
            if name is Claim.MONITOR:
                requests[0]["exactly"]["adminAccess"] = True
            self.send("POST", _TEMPLATES, body=template)

    def do(self, operation: Operation) -> None:
        """All operations but those that only the node hears of."""
        pod = f"{_PODS}/{operation.pod}"
        with suppress(NotFound):
            match operation.verb:
                case Verb.RUN:
                    self.send("POST", _PODS, body=self._pod(operation))
                case Verb.END:
                    self.send("DELETE", pod, query={"gracePeriodSeconds": "1"})
                case Verb.DROP:
                    self.send("DELETE", pod, query={"gracePeriodSeconds": "0"})
                case Verb.EVICT:
                    self.send("POST", f"{pod}/eviction", body=_eviction(operation.pod))
                case Verb.CLAIM:
                    self.send("POST", _CLAIMS, body=_claim(operation.named))
                case Verb.UNCLAIM:
                    self.send("DELETE", f"{_CLAIMS}/{operation.named}")

    def make_anew(self, operation: Operation) -> None:
        """Delete a pod and create it again; the claim too, if it was deleted before and went with the pod."""
        with suppress(NotFound):
            self.send("DELETE", f"{_PODS}/{operation.pod}", query={"gracePeriodSeconds": "1"})
        eventually(lambda: operation.pod not in self.pods(), within_s=_PATIENCE_S, every_s=_RETRY_S)
        if operation.named and "deletionTimestamp" in self._metadata(operation.named):
            eventually(lambda: not self._metadata(operation.named), within_s=_PATIENCE_S, every_s=_RETRY_S)
        if operation.named:
            self.send("POST", _CLAIMS, body=_claim(operation.named))
        self.send("POST", _PODS, body=self._pod(operation))

    def _metadata(self, claim: str) -> JsonObject:
        found: JsonObject = self.claims().get(claim, {}).get("metadata", {})
        return found

    def pods(self) -> dict[str, JsonObject]:
        """The pods of the campaign by name."""
        return {item["metadata"]["name"]: item for item in self.send("GET", _PODS)["items"]}

    def claims(self) -> dict[str, JsonObject]:
        """The claims of the campaign by name."""
        return {item["metadata"]["name"]: item for item in self.send("GET", _CLAIMS)["items"]}

    def nudge(self, pod: str, *, number: int) -> None:
        """Change a pod, so that kubelet looks at it now: after a prepare that failed it would wait for more than a minute."""
        body = {"metadata": {"annotations": {"nudge": str(number)}}}
        with suppress(NotFound):
            self.send("PATCH", f"{_PODS}/{pod}", body=body, content_type=MERGE_PATCH)

    def replace_plugin(self) -> None:
        """Have the DaemonSet make another pod of the node plugin."""
        path = f"/api/v1/namespaces/{SYSTEM}/pods"
        plugins = self.send("GET", path, query={"labelSelector": "app.kubernetes.io/component=node"})["items"]
        for plugin in plugins:
            with suppress(NotFound):
                self.send("DELETE", f"{path}/{plugin['metadata']['name']}", query={"gracePeriodSeconds": "1"})

    def update_plugin(self) -> None:
        """Roll the DaemonSet: the new node plugin comes before the old one goes."""
        self._updates += 1
        template = {"metadata": {"annotations": {"campaign": str(self._updates)}}}
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/daemonsets/hami-dra-node"
        self.send("PATCH", path, body={"spec": {"template": template}}, content_type=MERGE_PATCH)

    def send(self, method: str, path: str, **options: Any) -> JsonObject:
        """One request, repeated while nobody answers: what was done twice is done.

        Raises:
            HamiDraError: refused, or nobody answered for a minute.
        """
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._transport.request(method, path, timeout_s=5.0, **options).body
            except Conflict as error:
                if method == "POST":
                    return {}
                failure: HamiDraError = error
            except ApiUnavailable as error:
                failure = error
            if time.monotonic() > end:
                raise failure
            time.sleep(_RETRY_S)

    def _pod(self, operation: Operation) -> JsonObject:
        """As light as a pod can be: thousands come and go."""
        named = {"resourceClaimName": operation.named}
        source = named if operation.claim is Claim.NAMED else {"resourceClaimTemplateName": str(operation.claim)}
        pod = pod_with({"gpu": source}, name=operation.pod)
        pod["spec"] |= {"restartPolicy": "Always", "hostNetwork": True, "automountServiceAccountToken": False}
        (container,) = pod["spec"]["containers"]
        container |= {"image": self._pause, "command": ["/pause"]}
        if operation.crowded:
            pod["spec"]["containers"].append(container | {"name": "other"})
            pod["spec"]["initContainers"] = [container | {"name": "sidecar", "restartPolicy": "Always"}]
        return pod


def _claim(name: str) -> JsonObject:
    spec = share_template(name, memory="512Mi", cores=1)["spec"]["spec"]
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec}


def _eviction(pod: str) -> JsonObject:
    options = {"gracePeriodSeconds": 1}
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}, "deleteOptions": options}


class Processes:
    """The processes of a cluster, as the host sees them: told from others by their cgroup."""

    def __init__(self, cgroup: str) -> None:
        self._cgroup = cgroup

    def of_pods(self) -> Mapping[int, str]:
        """The cgroup of each process of a pod, by process id."""
        found: dict[int, str] = {}
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with suppress(OSError):
                    text = (process / "cgroup").read_text(encoding="utf-8")
                    if self._cgroup in text and "kubepods" in text:
                        found[int(process.name)] = text
        return found

    def kill_one(self, pod_uid: str) -> bool:
        """Kill a container's process of that pod; says whether there was one."""
        for pid, cgroup in self.of_pods().items():
            if f"pod{pod_uid}" in cgroup and pod_process_claims(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return True
        return False

    def claims_in_use(self) -> set[str]:
        """UIDs of the claims whose share files are mounted where some container's process lives."""
        return set().union(*(pod_process_claims(pid) for pid in self.of_pods()))


def pod_process_claims(pid: int) -> set[str]:
    """UIDs of the claims whose limits a process has mounted."""
    try:
        return set(_SHARE.findall(Path(f"/proc/{pid}/mountinfo").read_text(encoding="utf-8")))
    except OSError:
        return set()

"""All findings of a cluster, in the order of the report."""

from hami_dra.core.doctor.api import judge_api
from hami_dra.core.doctor.claims import judge_claims
from hami_dra.core.doctor.finding import Finding
from hami_dra.core.doctor.install import judge_classes, judge_config, judge_controller, judge_policy
from hami_dra.core.doctor.mps import judge_mps
from hami_dra.core.doctor.rights import judge_accounts, judge_rights
from hami_dra.core.doctor.supply import judge_plugins, judge_slices
from hami_dra.core.doctor.view import ClusterView

__all__ = ["judge_cluster"]


def judge_cluster(view: ClusterView) -> list[Finding]:
    """What to say of it; of an API server without DRA nothing but that."""
    offered = judge_api(view)
    if not view.serves_dra:
        return offered
    return [
        offered[0],
        *judge_rights(view),
        *offered[1:],
        *judge_classes(view),
        *judge_controller(view),
        *judge_plugins(view),
        *judge_slices(view),
        *judge_claims(view),
        *judge_mps(view),
        *judge_policy(view),
        *judge_accounts(view),
        *judge_config(view),
    ]

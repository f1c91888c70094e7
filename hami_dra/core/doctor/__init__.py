"""What `hami-dra doctor` says of what it saw: values in, findings out.

`finding` is what a finding is and how a report reads; `view` is what was seen of a cluster and `node` of a node; `api`, `rights`,
`install`, `supply`, `claims` and `mps` judge the parts of a cluster, `isolation` a part of a node.  What could not be looked at
is unknown, never taken for sound.
"""

from hami_dra.core.doctor.finding import CHECKS, Finding, Level, exit_status, report_json, report_lines
from hami_dra.core.doctor.judge import judge_cluster
from hami_dra.core.doctor.node import judge_node

__all__ = ["CHECKS", "Finding", "Level", "exit_status", "judge_cluster", "judge_node", "report_json", "report_lines"]

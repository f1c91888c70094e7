"""From the models of hami_dra/api to api/schema: JSON Schema for editors, admission policies and other languages."""

import json
import sys
from pathlib import Path

__all__ = ["generate"]


def generate(root: Path) -> dict[Path, str]:
    """One schema for each version of each kind."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from hami_dra.api.nodeconfig import NodeConfig  # noqa: PLC0415 - the tree to generate for is only known now
    from hami_dra.api.opaque.v1alpha1 import GpuConfig  # noqa: PLC0415

    schemas = {"gpuconfig": GpuConfig.model_json_schema(), "nodeconfig": NodeConfig.model_json_schema()}
    return {
        Path(f"api/schema/{name}-v1alpha1.json"): json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$id": f"https://gpu.hami.io/schema/{name}-v1alpha1.json",
                **schema,
            },
            indent=2,
        )
        + "\n"
        for name, schema in schemas.items()
    }

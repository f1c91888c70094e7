"""From the models of hami_dra/api/opaque to api/schema: JSON Schema for editors, admission policies and other languages."""

import json
import sys
from pathlib import Path

__all__ = ["generate"]


def generate(root: Path) -> dict[Path, str]:
    """One schema for each version of GpuConfig."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from hami_dra.api.opaque.v1alpha1 import GpuConfig  # noqa: PLC0415 - the tree to generate for is only known now

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://gpu.hami.io/schema/gpuconfig-v1alpha1.json",
        **GpuConfig.model_json_schema(),
    }
    return {Path("api/schema/gpuconfig-v1alpha1.json"): json.dumps(schema, indent=2) + "\n"}

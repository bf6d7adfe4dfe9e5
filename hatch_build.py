"""Put the workflow into the wheel, beside the library that it runs; an editable install finds it in the clone."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# In the wheel: weight_atlas/workflow_files/, which weight_atlas.workflow.location looks for.
WORKFLOW = ("Snakefile", "rules", "scripts", "schemas", "report", "envs", "profiles", "config")


class WorkflowFiles(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable install would copy them, and then run copies."""
        if version == "standard":
            build_data["force_include"] |= {name: f"weight_atlas/workflow_files/{name}" for name in WORKFLOW}

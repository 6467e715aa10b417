"""Put configs/, tasks/ and models/ under evalkit/ in the wheel. An editable install reads them in the checkout."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class IncludeGroups(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            for folder in ("configs", "tasks", "models"):
                build_data["force_include"][folder] = f"evalkit/{folder}"

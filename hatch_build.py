"""Put configs/, tasks/ and models/ under evalkit/ in the wheel; a checkout reads them in place."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PlaceRooms(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            for room in ("configs", "tasks", "models"):
                build_data["force_include"][room] = f"evalkit/{room}"

"""The command `evalkit models`."""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evalkit.cli.compose import compose
from evalkit.cli.list_tasks import chosen
from evalkit.cli.text_table import text_table
from evalkit.cli.tools import Arguments
from evalkit.config import locate
from evalkit.errors import ConfigError, EvalkitError
from evalkit.plugins import names

USAGE = """\
List the models: what they are, their checkpoint, and whether its weights are on this machine.

    evalkit models [MODEL ...] [--config-dir FOLDER] [plugins=PACKAGE]

A checkpoint is a folder or a hub id; `model.checkpoint=FOLDER` names another one.
"""

_HEADER = ("model", "what", "checkpoint", "weights")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_INDEX = "model.safetensors.index.json"


def list_models(arguments: Arguments) -> int:
    """Print the table. A model whose config cannot be used costs a warning."""
    packages = names(arguments.setting("plugins", ""))
    if arguments.overrides:
        raise ConfigError(f'"{arguments.overrides[0]}": models takes names of models and plugins=PACKAGE only.')
    rows = []
    for name in chosen("model", arguments):
        try:
            config = compose(["~task", f"model={name}"], arguments.dirs).model
            rows.append(_row(name, config, locate(str(config.get("_target_")), "model", packages)))
        except EvalkitError as error:
            print(f"warning: model={name} is left out: {error}", file=sys.stderr)
    print(text_table(rows, _HEADER))
    return 0


def _row(name: str, config: DictConfig, settings: type[Any]) -> tuple[str, ...]:
    if OmegaConf.is_missing(config, "checkpoint"):
        return name, _summary(settings), "-", "name them with model.checkpoint=FOLDER"
    defaults = {field.name: field.default for field in fields(settings)}
    checkpoint = config.get("checkpoint", defaults.get("checkpoint"))
    if not isinstance(checkpoint, str):
        return name, _summary(settings), "-", "-"
    if not checkpoint:
        return name, _summary(settings), "-", "name them with model.checkpoint=<hub id or folder>"
    return name, _summary(settings), checkpoint, weights(checkpoint, config.get("revision"))


def _summary(settings: type[Any]) -> str:
    """The first sentence of the class's docstring."""
    first = re.split(r"[.:;](?:\s|$)", inspect.getdoc(settings) or "", maxsplit=1)[0]
    return textwrap.shorten(first, 80, placeholder=" ...")


def weights(checkpoint: str, revision: str | None = None) -> str:
    """Where the weights of a checkpoint are, without network and without torch."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return "in this folder" if complete(folder) else "folder without complete weights"
    if not _HUB_ID.fullmatch(checkpoint):
        return "-"
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(checkpoint, "config.json", revision=revision)
    if not isinstance(config, str):
        return "not here"
    snapshot = Path(config).parent
    return str(snapshot) if complete(snapshot) else f"incomplete in {snapshot}"


def complete(folder: Path) -> bool:
    """Whether a folder holds weights, and all files that their index names."""
    index = folder / _INDEX
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return all((folder / str(shard)).is_file() for shard in shards)

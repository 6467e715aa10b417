"""Weights of a checkpoint folder: safetensors shards with an index, or one file.

Names and shapes are compared before any weight is read. Then tensors go one by one into modules that were built
without memory, so that loading needs no more memory than the weights themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from evalkit.errors import CheckpointError

from .checkpoint_folder import INDEX, SINGLE
from .json_file import read_json

Places = Mapping[str, tuple[nn.Module, str]]
"""Where each tensor belongs: its name in the checkpoint -> (module, name of the parameter in it)."""


def load_weights(
    folder: Path, places: Places, ignored: re.Pattern[str], dtype: torch.dtype, device: torch.device, model: str
) -> tuple[str, ...]:
    """Fill all `places`, cast to `dtype` on `device`. A tensor without a place is left unread; the sentences returned
    name such tensors, except for those that `ignored` matches: the model is known not to use them. Raises
    CheckpointError where a tensor is missing or has another shape; `model` names the model in its message."""
    files = Files(folder)
    check_tensors(
        folder,
        {key: tuple(part.get_parameter(name).shape) for key, (part, name) in places.items()},
        files.shapes,
        model,
    )
    for key, tensor in files.tensors(places, device):
        part, name = places[key]
        assign(part, name, tensor.to(dtype))
    unknown = [key for key in files.shapes if key not in places and not ignored.fullmatch(key)]
    if not unknown:
        return ()
    return (f"the checkpoint has {len(unknown)} tensors that {model} does not use: {some(unknown)}",)


def check_tensors(
    folder: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], model: str
) -> None:
    """Every wanted tensor is there with its shape. Raises CheckpointError naming what differs."""
    missing = [key for key in wanted if key not in found]
    misshaped = [
        f"{key} is {list(found[key])} and should be {list(shape)}"
        for key, shape in wanted.items()
        if key in found and found[key] != shape
    ]
    problems = [
        f"{len(names)} {what}: {some(names)}"
        for what, names in (("missing", missing), ("of another shape", misshaped))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{folder} does not hold the weights of {model} as its config.json describes them. Tensors "
            + "; ".join(problems)
            + f". Is this the complete {model}, and not another stage or model?"
        )


class Files:
    """The safetensors files of a folder: which file holds which tensor, and of which shape. Raises CheckpointError."""

    def __init__(self, folder: Path) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._of_file: dict[Path, list[str]] = {}
        for file, promised in _files(folder).items():
            with _opened(file, "cpu") as tensors:
                names = list(tensors.keys())
                self.shapes.update({name: tuple(tensors.get_slice(name).get_shape()) for name in names})
            self._of_file[file] = names
            if lost := sorted(set(promised) - set(names)):
                raise CheckpointError(f"{file} lacks {some(lost)}, which {INDEX} says it holds. Fetch the file again.")

    def tensors(self, names: Iterable[str], device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and tensor on `device`, one at a time."""
        wanted = set(names)
        for file, held in self._of_file.items():
            with _opened(file, str(device)) as tensors:
                for name in held:
                    if name in wanted:
                        tensor = tensors.get_tensor(name)
                        if not tensor.is_floating_point():
                            raise CheckpointError(
                                f"{file}: {name} is {tensor.dtype}; quantised weights are not supported."
                            )
                        yield name, tensor


def _files(folder: Path) -> dict[Path, list[str]]:
    """File -> the tensors that the index lists for it."""
    index = folder / INDEX
    if not index.is_file():
        if (folder / SINGLE).is_file():
            return {folder / SINGLE: []}
        if list(folder.glob("*.bin")):
            raise CheckpointError(
                f"{folder} holds .bin weights only: evalkit reads safetensors, which cannot run code."
            )
        raise CheckpointError(f"{folder} holds no weights: neither {INDEX} nor {SINGLE} is there.")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map. Fetch the file again.")
    files: dict[Path, list[str]] = {}
    for name, file in weight_map.items():
        files.setdefault(folder / str(file), []).append(name)
    if absent := sorted(file.name for file in files if not file.is_file()):
        raise CheckpointError(f"{folder} lacks {len(absent)} of {len(files)} weight files: {some(absent)}.")
    return files


def _opened(file: Path, device: str) -> Any:
    try:
        return safe_open(file, framework="pt", device=device)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}). It is probably cut short: fetch it again.") from error


def assign(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Make `tensor` the parameter `name` of `module`."""
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, nn.Parameter(tensor, requires_grad=False))


def some(names: list[str], shown: int = 5) -> str:
    """The first of `names`, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")

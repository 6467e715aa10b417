"""Running out of memory: telling it from other errors, freeing what can be freed, and the error that says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from evalkit.errors import ModelError

T = TypeVar("T")

PHRASES = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Of an accelerator or of the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)


def out_of_memory(device: torch.device, doing: str, remedy: str) -> ModelError:
    """The error of a question or a video that does not fit, whatever was tried."""
    return ModelError(f"Out of memory on {device} {doing}. {remedy}", kind="out_of_memory")


def try_in_memory(work: Callable[[], T]) -> tuple[bool, T | None]:
    """(True, result), or (False, None) where memory ran out; all memory that `work` took is then free again."""
    try:
        return True, work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if torch.cuda.is_available():  # by now the error, and with it the frames that held tensors, is gone
        torch.cuda.empty_cache()
    return False, None

"""Import torchvision where its compiled operators do not fit the torch beside it."""

from __future__ import annotations

import importlib
import re
import sys

from evalkit.errors import ConfigError

_MISSING_OPERATOR = re.compile(r"operator (torchvision::q?nms) does not exist")


def import_torchvision() -> bool:
    """Import torchvision, which the image and video processors of transformers need; False where it is not installed.

    A torchvision that was compiled for CUDA cannot load its compiled operators beside a torch for the CPU, and its
    import fails because these operators are not declared (github.com/pytorch/vision/issues/9085). The transforms are
    plain Python and use none of them, so they are declared here, without an implementation. Raises ConfigError."""
    declared: set[str] = set()
    while "torchvision" not in sys.modules:
        try:
            importlib.import_module("torchvision")
        except ModuleNotFoundError as error:
            if error.name != "torchvision":
                raise
            return False
        except (ImportError, RuntimeError) as error:
            missing = _MISSING_OPERATOR.search(str(error))
            if missing is None or missing[1] in declared:
                raise ConfigError(
                    f"torchvision cannot be imported ({str(error).partition(chr(10))[0]}): it was built for another "
                    "torch. Install the release that matches this torch from the same index."
                ) from error
            import torch

            torch.library.define(missing[1], "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            declared.add(missing[1])
    return True

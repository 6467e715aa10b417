"""Load a network and its processor with the Auto classes of transformers. Code of the checkpoint is never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from evalkit.errors import CheckpointError, ConfigError, install_hint

from ..shared.torchvision_import import import_torchvision

if TYPE_CHECKING:
    from .settings import HFVLM


def load_network(settings: HFVLM, device: Any) -> Any:
    """The network in evaluation mode, on `device` or spread over the devices by `device_map`."""
    import torch
    from transformers import AutoModelForImageTextToText

    placement = {} if settings.device_map is None else {"device_map": settings.device_map}
    try:
        network = AutoModelForImageTextToText.from_pretrained(
            settings.source(),
            revision=settings.revision,
            dtype=getattr(torch, settings.dtype),
            attn_implementation=settings.attention,
            trust_remote_code=False,
            **placement,
        )
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(
            f"checkpoint={settings.checkpoint} cannot be loaded as a video-language model ({_first_line(error)}). Name "
            "a folder, or a hub id of an architecture that AutoModelForImageTextToText knows."
        ) from error
    return network.eval() if placement else network.eval().to(device)


def load_processor(settings: HFVLM) -> Any:
    """The processor of the checkpoint, with the chat template of the settings. Raises CheckpointError, ConfigError."""
    need_torchvision()
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(
            settings.source(), revision=settings.revision, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(
            f"checkpoint={settings.checkpoint}: its processor cannot be loaded ({_first_line(error)})."
        ) from error
    if getattr(processor, "video_processor", None) is None:
        raise CheckpointError(
            f"checkpoint={settings.checkpoint}: its processor ({type(processor).__name__}) takes no videos."
        )
    if settings.chat_template is not None:
        processor.chat_template = Path(settings.chat_template).expanduser().read_text("utf-8")
    try:
        processor.apply_chat_template([{"role": "user", "content": [{"type": "video"}]}], tokenize=False)
    except (ValueError, jinja2.TemplateError) as error:
        raise ConfigError(
            f"checkpoint={settings.checkpoint} has no chat template that can be used ({_first_line(error)}). Name a "
            "Jinja file with model.chat_template=<file>."
        ) from error
    return processor


def need_torchvision() -> None:
    """Raises ConfigError where torchvision is missing or cannot be imported."""
    if not import_torchvision():
        raise ConfigError(
            f"The processors of Hugging Face video models need torchvision: {install_hint('processors')}."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

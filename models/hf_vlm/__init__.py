"""Any video-language model that AutoModelForImageTextToText of transformers loads. Importing this imports no torch."""

from .settings import HFVLM, HFVLMMini

__all__ = ["HFVLM", "HFVLMMini"]

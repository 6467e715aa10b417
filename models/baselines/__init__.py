"""Baselines: what a benchmark gives to those who do not look. Importing this imports no torch."""

from .blind import Blind
from .instead import BlindInstead, ConstantInstead, OneFrameInstead, RandomInstead
from .unseeing import Constant, Random

__all__ = ["Blind", "BlindInstead", "Constant", "ConstantInstead", "OneFrameInstead", "Random", "RandomInstead"]

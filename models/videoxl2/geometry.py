"""Facts of Video-XL-2's geometry, each once. Imports nothing."""

GROUP_FRAMES = 4
"""Frames of a group: they become one feature map."""

IMAGE_SIZE = 384
"""Height and width of a frame in pixels."""

GRID = 24
"""The patch grid is resized to 24 x 24, whatever the tower's own grid is."""

POOL = 2
"""Positions of the grid in each direction that are averaged into one visual token."""

VISUAL_TOKENS = (GRID // POOL) ** 2
"""Visual tokens of a group."""

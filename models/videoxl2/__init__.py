"""Video-XL-2 (github.com/VectorSpaceLab/Video-XL, arXiv 2506.19225). Importing this imports no torch."""

from .settings import VideoXL2, VideoXL2Mini

__all__ = ["VideoXL2", "VideoXL2Mini"]

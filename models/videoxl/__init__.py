"""Video-XL (github.com/VectorSpaceLab/Video-XL, arXiv 2409.14485): its language half, which no config names yet."""

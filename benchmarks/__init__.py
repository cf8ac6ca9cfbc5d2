"""Benchmarks: `python -m benchmarks.<name>` times our way and a plain one in one run."""

import miras as miras  # before transformers: it makes room for a torchvision that does not match torch

"""Benchmarks: `python -m benchmarks.<name>` times our way and a plain one in one run (design section 7)."""

import miras as miras  # before transformers: it makes room for a torchvision that does not match torch

"""The learning-rate schedule of every training here."""

from __future__ import annotations


def warm_up_decay(step: int, *, warm_up_steps: int, steps: int, flat_share: float) -> float:
    """Factor of the learning rate at `step` (from 0): linear warm-up, flat, then linear to zero.

    Args:
        step: optimiser steps done.
        warm_up_steps: length of the warm-up, at most a quarter of `steps` is used.
        steps: length of the run.
        flat_share: share of the run before the decay begins; 0 is the papers' WarmupDecay.
    """
    warm_up = max(1, min(warm_up_steps, steps // 4))
    decay_from = max(warm_up, flat_share * steps)
    return min((step + 1) / warm_up, max(0.0, min(1.0, (steps - step) / max(1.0, steps - decay_from))))

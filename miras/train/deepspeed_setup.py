"""DeepSpeed through Accelerate: ZeRO-2 and ZeRO-3 on GPUs and CPUs, without compiling anything at first use."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from miras.train.config import TrainConfig


def zero_accelerator(config: TrainConfig, *, stage: Literal[2, 3], rounds: int) -> Accelerator:
    """Accelerate with the papers' ZeRO-2, or with the weights shared too; computes in bf16 on GPUs.

    Args:
        config: of the training stage.
        stage: what the processes share: optimiser and gradients (2), and weights (3).
        rounds: micro-batches per process and step.
    """
    has_gpu = torch.cuda.is_available()
    if not has_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"  # else DeepSpeed warns that it had to guess
    import deepspeed  # takes seconds

    # The shared-memory operator serves inference only and costs a long C++ build at the first start on a CPU.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+_tensor` is deprecated", FutureWarning)  # its own calls
    accelerator = Accelerator(
        cpu=False,  # True would switch DeepSpeed off
        gradient_accumulation_steps=rounds,
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=zero_config(config, stage=stage, rounds=rounds, bf16=has_gpu)),
        # Without CUDA, Accelerate finds no backend for DeepSpeed by itself and would run each process alone.
        kwargs_handlers=[] if has_gpu else [InitProcessGroupKwargs(backend="gloo")],
    )
    # Under ZeRO-3 transformers would share the language model out while loading it, but new rows are made from whole
    # weights, and the random draws would differ from those of other set-ups (Accelerate ignores its zero3_init_flag).
    unset_hf_deepspeed_config()
    return accelerator


def zero_config(config: TrainConfig, *, stage: Literal[2, 3], rounds: int, bf16: bool) -> dict[str, Any]:
    """DeepSpeed's own configuration. Adam is torch's, so no kernel has to be built.

    bf16 is torch's autocast, as without DeepSpeed: stored features and what is trained stay float32. DeepSpeed's `bf16`
    would cast every weight but no feature, and LayerNorm and Linear refuse the mixture (seen with 0.19.8).
    """
    return {
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": rounds,
        "gradient_clipping": config.clip_norm,
        "torch_autocast": {"enabled": bf16, "dtype": "bfloat16"},
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": torch.cuda.is_available(),
            "contiguous_gradients": True,
            "reduce_bucket_size": 500_000_000,
            "allgather_bucket_size": 500_000_000,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }


@contextmanager
def whole_parameters(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Inside, every process sees these parameters whole; only ZeRO-3 has to gather them. Called by every process."""
    shared = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not shared:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(shared):
        yield

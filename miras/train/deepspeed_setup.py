"""DeepSpeed as Accelerate's plugin: ZeRO-2, without compiling anything at first use."""

from __future__ import annotations

import deepspeed
import torch
from accelerate.utils import DeepSpeedPlugin

from miras.train.config import TrainConfig

# The shared-memory operator serves inference only and costs a long C++ build at the first start on a CPU.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def zero2_plugin(config: TrainConfig, *, rounds: int) -> DeepSpeedPlugin:
    """The papers' ZeRO-2 set-up; torch's own AdamW, so no kernel has to be built."""
    return DeepSpeedPlugin(
        hf_ds_config={
            "train_micro_batch_size_per_gpu": config.micro_batch_size,
            "gradient_accumulation_steps": rounds,
            "gradient_clipping": config.clip_norm,
            "bf16": {"enabled": torch.cuda.is_available()},
            "zero_optimization": {
                "stage": 2,
                "overlap_comm": torch.cuda.is_available(),
                "contiguous_gradients": True,
                "reduce_bucket_size": 500_000_000,
                "allgather_bucket_size": 500_000_000,
            },
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
        }
    )

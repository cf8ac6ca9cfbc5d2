"""The training loop: plain, on Accelerate (with DeepSpeed if the launch says so), resumable at any step.

Writes `metrics.jsonl` in the work folder; it knows no tracker.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from miras.errors import ConfigError, StoppedEarlyError, TrainingDivergedError
from miras.launch.process import stop_is_wanted
from miras.metrics_log import METRICS, MetricsLog
from miras.model.batch import Batch, Losses
from miras.model.devices import to_device
from miras.model.losses import LossWeights, at_side
from miras.model.network import MirasNetwork
from miras.model.schedule import warm_up_decay
from miras.progress import progress
from miras.train.checkpoint import Checkpoint
from miras.train.collate import Collator, chunks, count
from miras.train.config import TrainConfig
from miras.train.mixture import Mixture, Row

logger = logging.getLogger(__name__)

LOSS_NAMES = ("total", "text", "bce", "dice", "reference")


@dataclass
class TrainingData:
    """What a run learns from and is watched on."""

    mixture: Mixture
    collator: Collator
    validation: list[Row]
    """Rows of the validation split."""


def train(
    network: MirasNetwork,
    data: TrainingData,
    config: TrainConfig,
    *,
    accelerator: Accelerator,
    work: Path,
    name: str,
    configuration: Mapping[str, Any],
) -> MirasNetwork:
    """The trained network; goes on from the checkpoint in `work` if there is one.

    Args:
        network: what is not frozen in it is trained, in place.
        data: to learn from and to be watched on.
        config: of the stage.
        accelerator: one or several processes, with DeepSpeed or without.
        work: for checkpoint and metrics.
        name: of the stage, in messages.
        configuration: sections that decide the result; a checkpoint of others is refused.

    Raises:
        ConfigError: the batch sizes do not come out even over the processes.
        TrainingDivergedError: the loss is not finite; names the step and the samples.
        StoppedEarlyError: a process was asked to save and stop; the checkpoint is written.
    """
    rounds = accumulation_rounds(config, accelerator.num_processes)
    groups = parameter_groups(network, decoder_rate=config.decoder_rate)
    optimiser = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    model, optimiser = accelerator.prepare(network, optimiser)
    checkpoint = Checkpoint(work, accelerator, configuration=configuration)
    done = checkpoint.load(model, optimiser)
    if done:
        logger.info("training resumed stage=%s step=%d", name, done)
    log = MetricsLog(work / METRICS, keep_until=done, is_writing=accelerator.is_main_process)
    bar = progress(total=config.steps, name=name, unit="step")
    bar.update(done)
    for step in range(done, config.steps):
        rate = config.learning_rate * warm_up_decay(
            step, warm_up_steps=config.warm_up_steps, steps=config.steps, flat_share=config.flat_share
        )
        for group in optimiser.param_groups:
            group["lr"] = rate * group["rate"]
        # Whatever is random in a step (dropout, gating) depends on the step and the process alone.
        torch.manual_seed((config.seed * 1_000_003 + step) * 1_009 + accelerator.process_index)
        figures = _step(model, optimiser, data, config, accelerator=accelerator, step=step, rounds=rounds)
        is_last = step + 1 == config.steps
        log.add(figures | {"learning_rate": rate}, step=step, samples=(step + 1) * config.global_batch_size)
        if is_last or (step + 1) % config.validate_every == 0:
            watched = validate(network, data, config, accelerator=accelerator)
            log.add(watched, step=step, samples=(step + 1) * config.global_batch_size)
            bar.set_postfix_str(f"loss {figures['total']:.2f} val cIoU {watched['val_ciou']:.1f}", refresh=False)
        log.write(force=is_last)
        is_stopped = _any_process(stop_is_wanted(), accelerator)
        if is_last or is_stopped or (step + 1) % config.checkpoint_every == 0:
            log.write(force=is_stopped)
            checkpoint.save(model, optimiser, step=step + 1)
        bar.update(1)
        if is_stopped and not is_last:
            raise StoppedEarlyError(f"{name}: stopped after step {step + 1} of {config.steps}, as asked; saved.")
    bar.close()
    return network


def _any_process(is_true: bool, accelerator: Accelerator) -> bool:
    """Whether it is true in any process: all of them have to stop after the same step."""
    if accelerator.num_processes == 1:
        return is_true
    votes = torch.tensor(float(is_true), device=accelerator.device)
    return bool(accelerator.reduce(votes, reduction="sum") > 0)


def parameter_groups(network: MirasNetwork, *, decoder_rate: float) -> list[dict[str, Any]]:
    """The trainable parameters: the mask decoder's and all others, with their factors (`rate`) of the learning rate.

    Raises:
        ConfigError: there are none.
    """
    decoder = [value for name, value in network.trainable() if name.startswith("mask_decoder.")]
    others = [value for name, value in network.trainable() if not name.startswith("mask_decoder.")]
    groups = [{"params": decoder, "rate": decoder_rate}, {"params": others, "rate": 1.0}]
    found = [group for group in groups if group["params"]]  # DeepSpeed would drop an empty one
    if not found:
        raise ConfigError("frozen names every part of the network: nothing is left to train. Take one out.")
    return found


def accumulation_rounds(config: TrainConfig, num_processes: int) -> int:
    """Micro-batches per process and step.

    Raises:
        ConfigError: global_batch_size is not a multiple of micro_batch_size times the processes.
    """
    per_round = config.micro_batch_size * num_processes
    if config.global_batch_size % per_round:
        raise ConfigError(
            f"global_batch_size {config.global_batch_size} is not a multiple of micro_batch_size "
            f"{config.micro_batch_size} times {num_processes} processes. Change one of them."
        )
    return config.global_batch_size // per_round


def _step(
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    data: TrainingData,
    config: TrainConfig,
    *,
    accelerator: Accelerator,
    step: int,
    rounds: int,
) -> dict[str, float]:
    """One optimiser step over `rounds` micro-batches; the losses of the global batch."""
    model.train()
    summed = torch.zeros(len(LOSS_NAMES), device=accelerator.device)
    for batch, rows in _micro_batches(data, config, accelerator=accelerator, step=step, rounds=rounds):
        with accelerator.accumulate(model):
            found: Losses = model(batch, loss_weights(config))
            _check_finite(found.total, accelerator, step=step, rows=rows)
            accelerator.backward(found.total)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimiser.step()
            optimiser.zero_grad()
        summed += torch.stack([getattr(found, name).detach() for name in LOSS_NAMES])
    means = accelerator.reduce(summed / rounds, reduction="mean").tolist()
    return dict(zip(LOSS_NAMES, means, strict=True))


def loss_weights(config: TrainConfig) -> LossWeights:
    """Eq. 8 with the stage's options."""
    return LossWeights(boundary=config.boundary_weight, focal=config.focal_weight)


def _micro_batches(
    data: TrainingData, config: TrainConfig, *, accelerator: Accelerator, step: int, rounds: int
) -> Iterator[tuple[Batch, list[Row]]]:
    """This process's share of a step's rows, those of like length together.

    The rows depend on the step alone, and losses are divided by counts of all of them: neither the number of
    processes nor the size of the micro-batches changes what is learned (but for the draws of dropout and gating).
    """
    rows = data.mixture.rows(range(step * config.global_batch_size, (step + 1) * config.global_batch_size))
    built = data.collator.token_rows(rows)
    counts = count(built, shares=rounds * accelerator.num_processes)
    by_length = sorted(range(len(rows)), key=lambda place: len(built[place].ids))
    size = config.micro_batch_size
    for number in range(rounds):
        start = number * accelerator.num_processes * size
        shares = [by_length[start + rank * size :][:size] for rank in range(accelerator.num_processes)]
        mine = shares[accelerator.process_index]
        chosen = [rows[place] for place in mine]
        batch = data.collator(
            chosen,
            [built[place] for place in mine],
            counts=counts,
            text_chunks=max(chunks([built[place] for place in share]) for share in shares),
        )
        yield to_device(batch, accelerator.device), chosen


def _check_finite(loss: torch.Tensor, accelerator: Accelerator, *, step: int, rows: Sequence[Row]) -> None:
    """Stops every process when any of them has a loss that is not finite."""
    is_bad = (~torch.isfinite(loss.detach())).float()
    if accelerator.num_processes > 1:
        is_bad = accelerator.reduce(is_bad, reduction="sum")
    if is_bad:
        if loss.isfinite():
            raise TrainingDivergedError(f"a loss is not finite at step {step} on another process; see its message.")
        names = [dialogue.dialogue_id for row in rows for dialogue in row.dialogues]
        raise TrainingDivergedError(
            f"the loss is {loss.item()} at step {step} (samples on process {accelerator.process_index}: "
            f"{', '.join(names[:8])}). Lower the learning rate or look at these samples; the last checkpoint is kept."
        )


@torch.no_grad()
def validate(
    network: MirasNetwork, data: TrainingData, config: TrainConfig, *, accelerator: Accelerator
) -> dict[str, float]:
    """Losses and pooled IoU (percent) on validation rows with reference answers, at the decoder's resolution."""
    network.eval()
    sums = dict.fromkeys(LOSS_NAMES, 0.0)
    overlap = union = 0.0
    starts = range(0, len(data.validation), config.micro_batch_size)
    for start in starts:
        rows = data.validation[start : start + config.micro_batch_size]
        batch = to_device(data.collator(rows, data.collator.token_rows(rows)), accelerator.device)
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=accelerator.device.type == "cuda"):
            states, logits = network.forward_logits(batch)
            found = network.losses(batch, states, logits, weights=loss_weights(config))
        for name in LOSS_NAMES:
            sums[name] += getattr(found, name).item() * len(rows) / len(data.validation)
        if len(batch.target_row):
            predicted, true = at_side(logits.targets, batch.target_masks.shape[-1]) > 0, batch.target_masks > 0.5
            overlap += float((predicted & true).sum())
            union += float((predicted | true).sum())
    return {f"val_{name}": value for name, value in sums.items()} | {"val_ciou": 100 * overlap / max(union, 1.0)}

"""Stages `stage1` (mask-text alignment) and `stage2` (dialogues): builds the network and its data, trains, stores.

One process of this machine trains here; else a job does, each of its processes running `miras.train.worker` (launch
profile, infra/launch).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from accelerate import Accelerator

from miras.dialogue.records import Dialogue, Region, Split
from miras.errors import DataError
from miras.files import finished_folder, read_records, write_json
from miras.launch.job import JobSpec, refuse_job_elsewhere, run_job
from miras.launch.profiles import Launch, open_place, read_launch
from miras.metrics_log import METRICS
from miras.model.allocator import keep_freed_memory
from miras.model.config import NetworkConfig
from miras.model.devices import cpu_threads
from miras.model.features import FeatureStore
from miras.model.network import MirasNetwork
from miras.model.responder import WEIGHTS, save_weights
from miras.model.tokens import RowBuilder
from miras.model.weights import Backbones, load_trained
from miras.paths import Paths
from miras.train.collate import Collator
from miras.train.config import TrainConfig
from miras.train.deepspeed_setup import whole_parameters, zero_accelerator
from miras.train.loop import TrainingData, accumulation_rounds, train
from miras.train.mixture import Mixture


def run_stage1(*, paths: Paths, work: Path, network: NetworkConfig, stage1: TrainConfig) -> None:
    """Trains from the backbones; writes `paths.stage1`."""
    _run("stage1", paths, work, network, stage1)


def run_stage2(*, paths: Paths, work: Path, network: NetworkConfig, stage2: TrainConfig) -> None:
    """Trains on from stage 1; writes `paths.stage2`."""
    _run("stage2", paths, work, network, stage2)


def _run(name: str, paths: Paths, work: Path, network: NetworkConfig, config: TrainConfig) -> None:
    launch = read_launch()
    accumulation_rounds(config, launch.processes)  # a mistake is told now, and not after a queue
    if launch.place == "local" and launch.processes == 1 and not launch.zero_stage:
        refuse_job_elsewhere(work, here="local")
        run_worker(name, paths=paths, work=work, network=network, config=config, launch=launch)
    else:
        request = {"stage": name, "paths": paths.model_dump()}
        sections = {
            "network": network.model_dump(),
            "config": config.model_dump(),
            "launch": launch.for_process().model_dump(),
        }
        write_json(work / "request.json", request | sections)
        run_job(_job(name, paths, work, launch), open_place(launch))
    output = Path(paths.stage1 if name == "stage1" else paths.stage2)
    with finished_folder(output) as folder:
        for file in (work / "finished").iterdir():
            shutil.copyfile(file, folder / file.name)
        shutil.copyfile(work / METRICS, folder / METRICS)


def _job(name: str, paths: Paths, work: Path, launch: Launch) -> JobSpec:
    reads = [paths.check, paths.split, paths.features, *([paths.stage1] if name == "stage2" else [])]
    return JobSpec(
        name=name,
        module="miras.train.worker",
        request=work / "request.json",
        kind="ranks",
        processes=launch.processes,
        threads=launch.threads,
        reads=(*map(Path, reads), *Backbones(Path(paths.backbones)).places()),
    )


def run_worker(
    name: str, *, paths: Paths, work: Path, network: NetworkConfig, config: TrainConfig, launch: Launch
) -> None:
    """One training process; the main one leaves the weights in `work/finished`."""
    keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.manual_seed(config.seed)
    accelerator = make_accelerator(config, launch)
    backbones = Backbones(Path(paths.backbones))
    tokenizer = backbones.tokenizer()
    model = backbones.network(network, tokenizer)
    if name == "stage2":
        load_trained(model, Path(paths.stage1) / WEIGHTS, fingerprint=backbones.manifest.fingerprint)
    model.freeze(config.frozen)
    model.set_precision(torch.bfloat16 if torch.cuda.is_available() else torch.float32)  # a GPU computes in bfloat16
    if launch.gradient_checkpointing:
        model.language.activation_checkpointing_enable({"use_reentrant": False})
    builder = RowBuilder.of(network, tokenizer, num_image_tokens=backbones.num_image_tokens)
    data = training_data(paths, network, config, builder=builder, backbones=backbones)
    configuration = {"network": network.model_dump(), name: config.model_dump()}
    with cpu_threads(launch.threads):
        trained = train(model, data, config, accelerator=accelerator, work=work, name=name, configuration=configuration)
    with whole_parameters(value for _, value in trained.learned()):
        if accelerator.is_main_process:
            _store(trained, work / "finished", fingerprint=backbones.manifest.fingerprint)
    accelerator.wait_for_everyone()


def make_accelerator(config: TrainConfig, launch: Launch) -> Accelerator:
    """Accelerate as the launch profile says: plain, or with DeepSpeed."""
    rounds = accumulation_rounds(config, launch.processes)
    if launch.zero_stage:
        return zero_accelerator(config, stage=launch.zero_stage, rounds=rounds)
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        gradient_accumulation_steps=rounds,
        mixed_precision="bf16" if torch.cuda.is_available() else "no",
    )


def training_data(
    paths: Paths, network: NetworkConfig, config: TrainConfig, *, builder: RowBuilder, backbones: Backbones
) -> TrainingData:
    """Mixture of the training split and fixed rows of the validation split."""
    regions = {region.region_id: region for region in read_records(paths.checked_regions, Region)}
    store = FeatureStore(Path(paths.features), fingerprint=backbones.manifest.fingerprint)
    shape = backbones.manifest.sam_shape
    mask_side = config.mask_side_px or 4 * shape.image_size_px // shape.patch_px
    collator = Collator(builder, store, regions, mask_side=mask_side, frame_px=shape.image_size_px)
    aligned_share = 0.5 if network.region_alignment == "half" else 1.0
    mixture = _mixture(paths, "train", config, aligned_share=aligned_share)
    watched = _mixture(paths, "val", config, aligned_share=1.0)
    return TrainingData(mixture, collator, watched.rows(range(config.validation_rows)))


def _mixture(paths: Paths, split: Split, config: TrainConfig, *, aligned_share: float) -> Mixture:
    """Rows of one split. A small validation split may lack a kind and is watched without it; training may not."""
    dialogues = list(read_records(paths.split_dialogues(split), Dialogue))
    kinds = {dialogue.kind for dialogue in dialogues}
    weights = {kind: weight for kind, weight in config.mixture.items() if split == "train" or kind in kinds}
    if not any(weights.values()):
        raise DataError(
            f"{paths.split_dialogues(split)}: no dialogue of a kind that the mixture wants "
            f"({', '.join(config.mixture)}). Add pictures or raise split.val_share."
        )
    return Mixture(
        dialogues,
        weights=weights,
        dialogues_per_row=config.dialogues_per_row,
        aligned_share=aligned_share,
        seed=config.seed,
    )


def _store(network: MirasNetwork, folder: Path, *, fingerprint: str) -> None:
    with finished_folder(folder) as aside:
        save_weights(network, aside, fingerprint=fingerprint)

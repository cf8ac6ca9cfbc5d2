"""A workspace as the stages before training leave it: a few rendered scenes, simple dialogues, random backbones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from miras.dialogue.records import Dialogue, Picture, Region, Turn
from miras.files import write_records
from miras.model import features
from miras.model.config import FeaturesConfig
from miras.paths import Paths
from miras.sources import scenes
from miras.train.config import TrainConfig
from tests.unit.model.tiny_network import tiny_mini, write_backbones


def make_paths(root: Path) -> Paths:
    """Every folder of the pipeline under `root`."""
    return Paths.model_validate({name: str(root / name) for name in Paths.model_fields})


def train_config(**changes: object) -> TrainConfig:
    """Six steps of four rows, with changes."""
    settings = {
        "mixture": {"prist": 2, "referring": 1, "vqa": 1},
        "frozen": [],
        "steps": 6,
        "global_batch_size": 4,
        "micro_batch_size": 2,
        "dialogues_per_row": 2,
        "learning_rate": 1e-3,
        "decoder_rate": 0.5,
        "warm_up_steps": 2,
        "flat_share": 0.5,
        "clip_norm": 1.0,
        "boundary_weight": 0.0,
        "focal_weight": 0.0,
        "mask_side_px": 0,
        "checkpoint_every": 2,
        "validate_every": 3,
        "validation_rows": 3,
        "seed": 0,
    }
    return TrainConfig.model_validate(settings | changes)


def build_workspace(root: Path, *, pictures: int = 6) -> Paths:
    """Pictures, regions, dialogues of every split, backbones and features."""
    paths = make_paths(root)
    paths.pictures.mkdir(parents=True)
    records, regions, dialogues = [], [], []
    for source in scenes.read(count=pictures, size_px=64, seed=0):
        file = paths.pictures / f"{source.image_id}.png"
        source.pixels.save(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        records.append(
            Picture(image_id=source.image_id, file_name=file.name, height=64, width=64, sha256=digest, origin="")
        )
        named = [region.model_copy(update={"phrase": region.category}) for region in source.regions]
        regions += named
        dialogues += _dialogues(source.image_id, named)
    dialogues += [_text_dialogue(number) for number in range(2)]
    write_records(paths.picture_table, records)
    write_records(paths.checked_regions, regions)
    for split in ("train", "val", "test"):
        write_records(paths.split_dialogues(split), dialogues)
    write_backbones(Path(paths.backbones), tiny_mini())
    work = root / "work"
    work.mkdir()
    features.run(paths=paths, work=work, features=FeaturesConfig(batch_size=4, shard_size=4))
    return paths


def _dialogues(image_id: str, regions: list[Region]) -> list[Dialogue]:
    target, other = regions[0], regions[-1]
    ask = Turn(question="what is it?", answer=f"a {target.category}.")
    point = Turn(question="segment it.", answer="here: {target}.", targets=(target.region_id,))
    refer = Turn(question=f"show the {other.category}.", answer="{target}", targets=(other.region_id,))
    again = Turn(question="and again?", answer="again {target}.", targets=(other.region_id,), refers_to=(0,))
    return [
        Dialogue(dialogue_id=f"{image_id}-p", image_id=image_id, kind="prist", focus=target.phrase, turns=(ask, point)),
        Dialogue(dialogue_id=f"{image_id}-r", image_id=image_id, kind="referring", focus=other.phrase, turns=(refer,)),
        Dialogue(dialogue_id=f"{image_id}-v", image_id=image_id, kind="vqa", focus="", turns=(ask,)),
        Dialogue(dialogue_id=f"{image_id}-m", image_id=image_id, kind="mrseg", focus="", turns=(refer, again)),
    ]


def _text_dialogue(number: int) -> Dialogue:
    """About no picture."""
    turn = Turn(question="what have we been talking about?", answer="nothing so far.")
    return Dialogue(dialogue_id=f"text-{number}", image_id="", kind="vqa", focus="", turns=(turn,))

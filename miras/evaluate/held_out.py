"""The questions a model is scored on: a seeded choice from the test split, spread over the pictures."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miras.dialogue.masks import union
from miras.dialogue.records import Dialogue, Picture, Region, Rle, Turn
from miras.dialogue.rendering import render_answer, target_names
from miras.errors import DataError
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.records import Benchmark
from miras.files import read_records
from miras.paths import Paths

DIALOGUE_KINDS = ("prist",)
QUERY_KINDS = ("semantic", "referring")  # vqa and captions have no single right wording
HARD_KINDS = ("mrseg",)


@dataclass(frozen=True)
class HeldOutSet:
    """Chosen dialogues of each benchmark, and what their turns point at."""

    benchmarks: Mapping[Benchmark, tuple[Dialogue, ...]]
    regions: Mapping[str, Region]
    """By region id."""
    pictures: Mapping[str, Picture]
    """By image id; only those asked about."""

    def reference(self, turn: Turn) -> str:
        """The reference answer with markers."""
        return render_answer(turn, self._phrases(turn))

    def target_phrases(self, turn: Turn) -> tuple[str, ...]:
        """What the reference answer calls the things that the turn points at."""
        return target_names(turn, self._phrases(turn))

    def _phrases(self, turn: Turn) -> dict[str, str]:
        return {target: self.regions[target].phrase for target in turn.targets}

    def target_mask(self, turn: Turn) -> Rle | None:
        """Union of the targets' masks; None without targets, or when one of them has no mask."""
        masks = [self.regions[target].mask for target in turn.targets]
        known = [mask for mask in masks if mask is not None]
        return union(known) if known and len(known) == len(masks) else None


def load_held_out(paths: Paths, config: EvaluateConfig) -> HeldOutSet:
    """The chosen part of the test split.

    Raises:
        DataError: the test split is empty, or points at regions or pictures that are not there.
    """
    source = paths.split_dialogues("test")
    dialogues = list(read_records(source, Dialogue))
    benchmarks: dict[Benchmark, tuple[Dialogue, ...]] = {
        "dialogues": choose(
            [dialogue for dialogue in dialogues if dialogue.kind in DIALOGUE_KINDS],
            limit=config.max_dialogues,
            seed=config.seed,
        ),
        "queries": choose(
            [dialogue for dialogue in dialogues if dialogue.kind in QUERY_KINDS and len(dialogue.turns) == 1],
            limit=config.max_queries,
            seed=config.seed,
        ),
        "hard": choose(
            [dialogue for dialogue in dialogues if dialogue.kind in HARD_KINDS and _asks_for_another(dialogue)],
            limit=config.max_queries,
            seed=config.seed,
        ),
    }
    if not any(benchmarks.values()):
        raise DataError(
            f"{source}: no dialogue to score among {len(dialogues)} lines; expected kinds "
            f"{', '.join(DIALOGUE_KINDS + QUERY_KINDS + HARD_KINDS)}. Raise split.test_share or add pictures."
        )
    chosen = [dialogue for part in benchmarks.values() for dialogue in part]
    regions = {region.region_id: region for region in read_records(paths.checked_regions, Region)}
    pictures = {picture.image_id: picture for picture in read_records(paths.picture_table, Picture)}
    _check_references(chosen, regions, pictures, source=str(source))
    wanted = {dialogue.image_id for dialogue in chosen}
    return HeldOutSet(benchmarks, regions, {image_id: pictures[image_id] for image_id in sorted(wanted)})


def _asks_for_another(dialogue: Dialogue) -> bool:
    """Whether a mask is pointed at and something else is asked for, in one turn: SegLLM's hard split."""
    turn = dialogue.turns[0]
    return len(dialogue.turns) == 1 and bool(turn.points_at) and not set(turn.points_at) & set(turn.targets)


def choose(dialogues: Sequence[Dialogue], *, limit: int, seed: int) -> tuple[Dialogue, ...]:
    """At most `limit` dialogues in seeded order: one of every picture before a second of any."""
    shuffled = sorted(dialogues, key=lambda dialogue: dialogue.dialogue_id)
    random.Random(seed).shuffle(shuffled)
    rounds: dict[str, int] = defaultdict(int)
    ranked = []
    for dialogue in shuffled:
        ranked.append((rounds[dialogue.image_id], dialogue))
        rounds[dialogue.image_id] += 1
    ranked.sort(key=lambda pair: pair[0])  # stable: keeps the seeded order within a round
    return tuple(dialogue for _, dialogue in ranked[:limit])


def _check_references(
    dialogues: Sequence[Dialogue],
    regions: Mapping[str, Region],
    pictures: Mapping[str, Picture],
    *,
    source: str,
) -> None:
    for dialogue in dialogues:
        where = f"{source}: dialogue {dialogue.dialogue_id}"
        remedy = "Run the stages check and split again."
        if dialogue.image_id not in pictures:
            raise DataError(f"{where}: picture {dialogue.image_id} is not in the picture table. {remedy}")
        for turn in dialogue.turns:
            unknown = [target for target in (*turn.targets, *turn.points_at) if target not in regions]
            if unknown:
                raise DataError(f"{where}: points at unknown regions {', '.join(unknown)}. {remedy}")

"""What a model is scored on: dialogues of a data set with the regions and pictures that their turns point at."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from miras.dialogue.masks import union
from miras.dialogue.records import Dialogue, Picture, Region, Rle, Turn
from miras.dialogue.rendering import render_answer, target_names
from miras.errors import DataError
from miras.evaluate.config import EvaluateConfig
from miras.evaluate.records import Question
from miras.files import read_records
from miras.paths import Paths
from miras.sources.told import UNNAMED

TOLD_KINDS = ("prist",)  # the last turn alone asks for a mask
QUERY_KINDS = ("semantic", "referring")  # one turn; vqa and captions have no single right wording
ROUND_KINDS = ("mrseg",)  # every turn asks for a mask
MASK_KINDS = (*QUERY_KINDS, *ROUND_KINDS)


@dataclass(frozen=True)
class BenchmarkSet:
    """Benchmarks over one data set."""

    benchmarks: Mapping[str, tuple[Dialogue, ...]]
    """Name -> its dialogues."""
    regions: Mapping[str, Region]
    """By region id."""
    pictures: Mapping[str, Picture]
    """By image id; only those asked about."""

    def questions(self) -> Iterator[Question]:
        """Every turn of every benchmark, with its truth."""
        for benchmark, dialogues in self.benchmarks.items():
            for dialogue in dialogues:
                for number in range(len(dialogue.turns)):
                    yield self._question(benchmark, dialogue, number)

    def _question(self, benchmark: str, dialogue: Dialogue, number: int) -> Question:
        turn, picture = dialogue.turns[number], self.pictures.get(dialogue.image_id)
        is_last = number == len(dialogue.turns) - 1
        return Question(
            benchmark=benchmark,
            dialogue_id=dialogue.dialogue_id,
            turn=number,
            image_id=dialogue.image_id,
            file_name=picture.file_name if picture else "",
            size=(picture.height, picture.width) if picture else (0, 0),
            kind=dialogue.kind,
            is_last=is_last,
            asks_for_mask=dialogue.kind in MASK_KINDS or (dialogue.kind in TOLD_KINDS and is_last),
            question=turn.question,
            reference=self.reference(turn),
            focus=dialogue.focus,
            targets=target_names(turn, self._phrases(turn)),
            target=self._mask(turn),
            ignored=self._ignored(turn),
            tags=_tags(dialogue, turn),
        )

    def reference(self, turn: Turn) -> str:
        """The reference answer with markers."""
        return render_answer(turn, self._phrases(turn))

    def _phrases(self, turn: Turn) -> dict[str, str]:
        return {target: self.regions[target].phrase for target in turn.targets}

    def _mask(self, turn: Turn) -> Rle | None:
        """Union of the targets' masks; None without targets, or when one of them has no mask."""
        masks = [self.regions[target].mask for target in turn.targets]
        known = [mask for mask in masks if mask is not None]
        return union(known) if known and len(known) == len(masks) else None

    def _ignored(self, turn: Turn) -> Rle | None:
        stated = [mask for target in turn.targets if (mask := self.regions[target].ignored) is not None]
        return union(stated) if stated else None


def _tags(dialogue: Dialogue, turn: Turn) -> dict[str, str]:
    """ReasonSeg's long queries are whole sentences that name nothing; its short ones are phrases."""
    if dialogue.dialogue_id.rpartition("-")[0].endswith("-reasonseg"):
        return {"query": "long" if UNNAMED in turn.names else "short"}
    return {}


def own_benchmarks(paths: Paths, config: EvaluateConfig) -> BenchmarkSet:
    """The benchmarks of the data set's own test split: a seeded choice, spread over the pictures.

    `dialogues`: reasoning dialogues that end in a mask. `multi-turn`: rounds that each ask for a mask. `queries`:
    single questions. `hard`: single questions that point at one thing and ask for another.

    Raises:
        DataError: the test split is empty, or points at regions or pictures that are not there.
    """
    source = paths.split_dialogues("test")
    dialogues = list(read_records(source, Dialogue))

    def choice(wanted: Iterable[Dialogue], limit: int) -> tuple[Dialogue, ...]:
        return choose(list(wanted), limit=limit, seed=config.seed)

    rounds = [dialogue for dialogue in dialogues if dialogue.kind in ROUND_KINDS]
    singles = [dialogue for dialogue in dialogues if dialogue.kind in QUERY_KINDS and len(dialogue.turns) == 1]
    benchmarks = {
        "dialogues": choice((d for d in dialogues if d.kind in TOLD_KINDS), config.max_dialogues),
        "multi-turn": choice((d for d in rounds if len(d.turns) > 1), config.max_rounds),
        "queries": choice(singles, config.max_queries),
        "hard": choice((d for d in rounds if _asks_for_another(d)), config.max_queries),
    }
    if not any(benchmarks.values()):
        raise DataError(
            f"{source}: no dialogue to score among {len(dialogues)} lines; expected kinds "
            f"{', '.join((*TOLD_KINDS, *MASK_KINDS))}. Raise split.test_share or add pictures."
        )
    return benchmark_set(benchmarks, paths, source=str(source))


def benchmark_set(benchmarks: Mapping[str, tuple[Dialogue, ...]], paths: Paths, *, source: str) -> BenchmarkSet:
    """Benchmarks with the regions and pictures of their data set.

    Raises:
        DataError: a dialogue points at a region or a picture that is not there.
    """
    chosen = [dialogue for part in benchmarks.values() for dialogue in part]
    regions = {region.region_id: region for region in read_records(paths.checked_regions, Region)}
    pictures = {picture.image_id: picture for picture in read_records(paths.picture_table, Picture)}
    _check_references(chosen, regions, pictures, source=source)
    wanted = {dialogue.image_id for dialogue in chosen} - {""}
    return BenchmarkSet(benchmarks, regions, {image_id: pictures[image_id] for image_id in sorted(wanted)})


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
        if dialogue.image_id and dialogue.image_id not in pictures:
            raise DataError(f"{where}: picture {dialogue.image_id} is not in the picture table. {remedy}")
        for turn in dialogue.turns:
            unknown = [target for target in (*turn.targets, *turn.points_at) if target not in regions]
            if unknown:
                raise DataError(f"{where}: points at unknown regions {', '.join(unknown)}. {remedy}")

"""Speed of talking: `python -m benchmarks.talk [--quick] [--device cpu|cuda] [--size tiny|7b]`.

Turns 1 to 8 of a dialogue in which every answer marks something: what a dialogue keeps against keeping nothing between
turns (the picture through all encoders, the whole history), and against LISA's way, which keeps nothing between tokens
either. Time to the first token and to the mask; 1 to 32 dialogues together against one after the other; memory.

Weights are random, for time does not depend on them; every answer is made to have the same tokens, with one mask.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.report import Row, compare, device_name, publish
from benchmarks.train_setup import SCALES, Data, Model, Scale, Settings, make_data, make_model, read_settings
from miras.model import decoding
from miras.model import talker as talker_module
from miras.model.decoding import PromptRow, Spoken
from miras.model.network import MirasNetwork
from miras.model.responder import Responder
from miras.model.talk import Talk
from miras.model.talker import Talker
from miras.model.tokens import RowBuilder

TURNS = 8
TARGET_TURN = 4
LEAST_RATIO = 5.0  # promised at turn 4
ANSWER_WORDS = 10
TOGETHER = (1, 2, 4, 8, 16, 32)
REPETITIONS = 5
QUESTION = "and where is the handle of the red mug on the left? please segment it."


@dataclass(frozen=True)
class Turn:
    """Seconds of one turn."""

    first_token: float
    mask: float


def make_talker(scale: Scale, device: torch.device) -> Talker:
    """A network of this size with fixed answers."""
    settings = read_settings(scale)
    data = make_data(settings, pictures=4, picture_px=scale.picture_px)
    model = make_model(settings, data.tokenizer, device=device, is_bf16=scale.is_bf16, is_plain=False)
    builder = make_builder(settings, data, model)
    fix_answers(model.network, builder)
    responder = Responder(model.network, builder, device=str(device), encoders=lambda: model.encoders)
    return Talker(responder, precision=model.precision)


def make_builder(settings: Settings, data: Data, model: Model) -> RowBuilder:
    """Of rows that may be long."""
    clip: Any = model.encoders.clip.config
    return RowBuilder(
        data.tokenizer,
        num_image_tokens=(clip.image_size // clip.patch_size) ** 2,
        system_prompt=settings.network.system_prompt,
        max_tokens=8192,
        mask_memory="off",
    )


def fix_answers(network: MirasNetwork, builder: RowBuilder) -> None:
    """Makes every answer `word ... [OBJ]word word[SEG]`; the head's time still counts."""
    words = builder.encode("this is the red mug with its long handle on the left of it")[:ANSWER_WORDS]
    answer = [*words, builder.obj_id, *words[:2], builder.seg_id, builder.end_id]
    said, head = count(), network.text_output.forward

    def in_turn(states: Tensor) -> Tensor:
        logits = head(states)
        logits[..., answer[next(said) % len(answer)]] += 1e4
        return logits

    network.text_output.forward = in_turn


def take_turn(talker: Talker, talks: Sequence[Talk]) -> Turn:
    """The next turn of dialogues, together."""
    started = time.perf_counter()
    steps = talker.stream(talks, [(QUESTION, ())] * len(talks))
    next(steps)
    first = time.perf_counter() - started
    for _ in steps:
        pass
    _synchronise(talker)
    return Turn(first, time.perf_counter() - started)


def turns(talker: Talker, picture: Image.Image, *, keeps: bool, is_plain: bool = False) -> list[Turn]:
    """A dialogue of `TURNS` turns.

    Args:
        talker: answers.
        picture: what it is about.
        keeps: else all it worked out is dropped before each turn.
        is_plain: every token of an answer is read anew with all before it, as without keys and values kept.
    """
    talk, found = Talk(picture), []
    for _ in range(TURNS):
        if not keeps:
            talk.drop()
        if is_plain:
            with without_cache():
                found.append(take_turn(talker, [talk]))
        else:
            found.append(take_turn(talker, [talk]))
    return found


@contextmanager
def without_cache() -> Iterator[None]:
    """Decoding that reads the whole row for every token."""
    kept = decoding.generate

    def plain(
        network: MirasNetwork, rows: Sequence[PromptRow], *, end_id: int, keep: bool
    ) -> Generator[Any, None, Any]:
        del keep
        (row,) = rows
        embedded = row.embedded[None]
        states: list[Tensor] = []
        ids: list[int] = []
        while True:
            attention = torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
            states.append(network.states(embedded, attention=attention)[:, -1])
            if ids and ids[-1] == end_id:
                break
            token = network.text_output(states[-1]).argmax(dim=-1)
            ids.append(int(token))
            yield [ids[-1]]
            embedded = torch.cat([embedded, network.language.get_input_embeddings()(token[:, None])], dim=1)
        return [Spoken(ids[:-1], torch.cat(states[: len(ids)]), is_cut=False, prefix=None)]

    talker_module.generate = plain  # type: ignore[assignment]
    try:
        yield
    finally:
        talker_module.generate = kept


def turn_rows(talker: Talker, picture: Image.Image, repetitions: int) -> list[Row]:
    """Keeping against reading anew, taking turns; medians."""
    ways = {"": {"keeps": True}, "nothing kept": {"keeps": False}, "LISA's way": {"keeps": False, "is_plain": True}}
    runs: dict[str, list[list[Turn]]] = {name: [] for name in ways}
    turns(talker, picture, keeps=True)  # the first run warms up
    for _ in range(repetitions):
        for name, settings in ways.items():
            runs[name].append(turns(talker, picture, **settings))

    def median(way: str, number: int, what: str) -> float:
        return statistics.median(getattr(run[number], what) for run in runs[way])

    rows = []
    for number in range(TURNS):
        for what, said in (("first_token", "first token"), ("mask", "text and mask")):
            for way in list(ways)[1:]:
                if what == "first_token" and way == "LISA's way":
                    continue  # the same: nothing is kept before the first token
                is_promised = number + 1 == TARGET_TURN and what == "mask" and way == "LISA's way"
                ours, other = median("", number, what), median(way, number, what)
                name, least = f"turn {number + 1}, {said}, against {way}", LEAST_RATIO if is_promised else None
                rows.append(compare(name, ours=ours, other=other, unit="s", least_ratio=least))
    return rows


def together_rows(talker: Talker, picture: Image.Image, sizes: Sequence[int]) -> list[Row]:
    """The second turn of several dialogues: in one batch against one after the other."""
    rows = []
    for size in sizes:
        talks = [Talk(picture) for _ in range(size)]
        for talk in talks:
            take_turn(talker, [talk])
        batch = [talk.branch() for talk in talks]
        one_by_one = sum(take_turn(talker, [talk]).mask for talk in talks)
        at_once = take_turn(talker, batch).mask
        unit = "answers/s"
        name = f"{size} dialogues together, second turn"
        rows.append(compare(name, ours=size / at_once, other=size / one_by_one, unit=unit, more_is_better=True))
    return rows


def memory_row(talker: Talker, picture: Image.Image) -> Row:
    """What a dialogue of four turns keeps, against the picture it is about."""
    talk = Talk(picture)
    for _ in range(TARGET_TURN):
        take_turn(talker, [talk])
    pixels = picture.width * picture.height * 3
    return compare(
        "kept by a dialogue of 4 turns (other: the picture)", ours=talk.num_bytes, other=pixels, unit="bytes"
    )


def _synchronise(talker: Talker) -> None:
    if talker.responder.device != "cpu":
        torch.cuda.synchronize()


def main() -> None:
    """Runs the benchmark and writes benchmarks/results/talk-<device>.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and dialogues")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=("tiny", "7b"), default="tiny")
    options = parser.parse_args()
    device, scale = torch.device(options.device), SCALES[options.size]
    talker = make_talker(scale, device)
    talker.responder.network.eval()
    picture = Image.effect_noise((scale.picture_px, scale.picture_px), 60).convert("RGB")
    rows = turn_rows(talker, picture, 1 if options.quick else REPETITIONS)
    rows += together_rows(talker, picture, TOGETHER[:3] if options.quick else TOGETHER)
    rows.append(memory_row(talker, picture))
    publish(f"talk-{options.size}", device_name(device), rows)


if __name__ == "__main__":
    main()

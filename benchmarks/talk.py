"""Speed of talking: `python -m benchmarks.talk [--quick] [--device cpu|cuda] [--size tiny|7b]`.

Turns 1 to 8 of a dialogue in which every answer marks something, in four ways:

- ours: the picture is encoded once, keys and values stay from turn to turn;
- nothing kept: the same code, but before every turn all is dropped (the picture goes through all encoders again, the
  whole history through the language model);
- transformers' generate: as before, and the answer by the library's own `generate` with keys and values kept within the
  answer: what a program built on it does;
- LISA's way: as before, without keys and values within the answer either, because LISA's code takes the state of
  `[SEG]` from a last step that has read the whole row. SegLLM reads the whole dialogue
  anew at every round as well, but says no words at all.

Time to the first token and to the mask; 1 to 32 dialogues together against one after the other; memory.
Weights are random, for time does not depend on them; every answer is made to have the same tokens, with one mask.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.report import Row, compare, device_name, publish
from benchmarks.train_setup import SCALES, Data, Model, Scale, Settings, make_data, make_model, read_settings
from miras.model import decoding
from miras.model import talker as talker_module
from miras.model.decoding import PromptRow, Spoken, Steps
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


@dataclass(frozen=True)
class Way:
    """Of answering."""

    name: str
    keeps: bool
    """Else all that was worked out is dropped before each turn."""
    generate: Callable[..., Steps] = decoding.generate
    has_first_token: bool = True
    """Whether the time to it is a measure of its own: else it says words at the end, or as `nothing kept` does."""
    least_ratio: float | None = None
    """Promised at `TARGET_TURN`."""


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


def turns(talker: Talker, picture: Image.Image, way: Way) -> list[Turn]:
    """A dialogue of `TURNS` turns."""
    talk, found = Talk(picture), []
    for _ in range(TURNS):
        if not way.keeps:
            talk.drop()
        with answered_by(way.generate):
            found.append(take_turn(talker, [talk]))
    return found


@contextmanager
def answered_by(generate: Callable[..., Steps]) -> Iterator[None]:
    """Decoding in another way."""
    talker_module.generate = generate
    try:
        yield
    finally:
        talker_module.generate = decoding.generate


def by_library(network: MirasNetwork, rows: Sequence[PromptRow], *, end_id: int, keep: bool) -> Steps:
    """Greedy decoding by transformers' `generate`, with keys and values kept within the answer."""
    del keep
    (row,) = rows
    model: Any = _causal(network)
    found = model.generate(
        inputs_embeds=row.embedded[None],
        attention_mask=torch.ones(1, len(row.embedded), dtype=torch.long, device=row.embedded.device),
        max_new_tokens=decoding.MAX_NEW_TOKENS,
        do_sample=False,
        eos_token_id=end_id,
        pad_token_id=end_id,
        use_cache=True,
        return_dict_in_generate=True,
        output_hidden_states=True,
    )
    ids = found.sequences[0].tolist()
    states = torch.cat([layers[-1][:, -1] for layers in found.hidden_states])
    yield [ids[-1]]
    return [Spoken(ids[:-1], states[: len(ids) - 1], is_cut=False, prefix=None)]


@lru_cache(maxsize=1)
def _causal(network: MirasNetwork) -> LlamaForCausalLM:
    """The network's language model and head as the library generates with them."""
    with torch.device("meta"):
        model = LlamaForCausalLM(network.language.config)
    model.model, model.lm_head = network.language, network.text_output
    return model.eval()


def by_whole_rows(network: MirasNetwork, rows: Sequence[PromptRow], *, end_id: int, keep: bool) -> Steps:
    """Decoding that reads the whole row for every token."""
    del keep
    (row,) = rows
    embedded = row.embedded[None]
    states: list[Tensor] = []
    ids: list[int] = []
    while not ids or ids[-1] != end_id:
        states.append(network.states(embedded)[:, -1])
        token = network.text_output(states[-1]).argmax(dim=-1)
        ids.append(int(token))
        yield [ids[-1]]
        embedded = torch.cat([embedded, network.language.get_input_embeddings()(token[:, None])], dim=1)
    return [Spoken(ids[:-1], torch.cat(states[:-1]), is_cut=False, prefix=None)]


OURS = Way("ours", keeps=True)
WAYS = (
    Way("nothing kept", keeps=False),
    Way("transformers' generate", keeps=False, generate=by_library, has_first_token=False),
    Way("LISA's way", keeps=False, generate=by_whole_rows, has_first_token=False, least_ratio=LEAST_RATIO),
)


def turn_rows(talker: Talker, picture: Image.Image, repetitions: int) -> list[Row]:
    """Keeping against reading anew, taking turns; medians."""
    runs: dict[str, list[list[Turn]]] = {way.name: [] for way in (OURS, *WAYS)}
    for repetition in range(repetitions + 1):
        for way in (OURS, *WAYS):
            found = turns(talker, picture, way)
            if repetition:  # the first run warms up
                runs[way.name].append(found)

    def median(way: Way, number: int, what: str) -> float:
        return statistics.median(getattr(run[number], what) for run in runs[way.name])

    rows = []
    for number in range(TURNS):
        for what, said in (("first_token", "first token"), ("mask", "text and mask")):
            for way in WAYS:
                if what == "first_token" and not way.has_first_token:
                    continue
                is_promised = number + 1 == TARGET_TURN and what == "mask"
                ours, other = median(OURS, number, what), median(way, number, what)
                name, least = f"turn {number + 1}, {said}, against {way.name}", way.least_ratio if is_promised else None
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
    publish(f"talk-{options.size}", device_name(device), rows, is_quick=options.quick)


if __name__ == "__main__":
    main()

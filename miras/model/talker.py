"""The next turns of dialogues, answered together on top of what each of them keeps.

Letters: N image tokens, W language width, D g SAM embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from miras.dialogue.rendering import plain_text, split_groups
from miras.model.decoding import PromptRow, Spoken, generate
from miras.model.devices import to_device
from miras.model.memory import encode_regions
from miras.model.records import Group, Response
from miras.model.responder import Responder
from miras.model.talk import Said, Talk, mask_name
from miras.model.tokens import TokenRow, TurnText
from miras.model.vision import PictureFeatures

TalkSteps = Generator[list[str], Collection[int] | None, list[Response | None]]


class Talker:
    """A network that remembers its dialogues."""

    def __init__(
        self, responder: Responder, *, precision: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        """`precision`: opens the context that every computation runs in (autocast)."""
        self.responder = responder
        self._precision = precision

    def ask(
        self, picture: Image.Image, questions: Sequence[str], *, refers_to: Sequence[Sequence[int]] = ()
    ) -> list[Response]:
        """Answers to successive questions about a new upright RGB picture; each sees the answers before it.

        Args:
            picture: of any size.
            questions: in order.
            refers_to: per question the indices of earlier ones whose masks it speaks of; empty: none speaks of any.
                An answer without mask leaves nothing to speak of.
        """
        talk = Talk(picture)
        for number, question in enumerate(questions):
            places = refers_to[number] if refers_to else ()
            masks = [group.mask for place in places for group in talk.said[place].response.groups]
            self.answer([talk], [(question, masks)])
        return [said.response for said in talk.said]

    def answer(self, talks: Sequence[Talk], asked: Sequence[tuple[str, Sequence[np.ndarray]]]) -> list[Response]:
        """The next turn of each of several dialogues, together; what they keep is used and brought up to date.

        Args:
            talks: different dialogues.
            asked: per dialogue the question and the masks it speaks of (empty ones leave nothing to speak of).

        Raises:
            DataError: a dialogue would be longer than `network.max_tokens`; nothing is asked then.
        """
        steps = self.stream(talks, asked)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return [response for response in end.value if response is not None]

    def stream(self, talks: Sequence[Talk], asked: Sequence[tuple[str, Sequence[np.ndarray]]]) -> TalkSteps:
        """As `answer`; yields after every step what each dialogue's answer says so far, markers left out.

        Numbers of dialogues whose answers nobody waits for any more can be sent in: nothing more is worked out for
        them, they stay as they were before the question, and their response is None. A reader that goes away in the
        middle leaves all dialogues as they were.
        """
        started = time.perf_counter()
        spoken_of = [(text, tuple(mask for mask in masks if mask.any())) for text, masks in asked]
        rows = [
            self.responder.builder.prompt_row(turn_texts(talk, text, len(masks)), where="dialogue")
            for talk, (text, masks) in zip(talks, spoken_of, strict=True)
        ]
        with torch.inference_mode(), self._precision():
            prompts = self._prompts(talks, rows, [masks for _, masks in spoken_of])
        steps = generate(self.responder.network, prompts, end_id=self.responder.builder.end_id, keep=True)
        said_ids: list[list[int]] = [[] for _ in talks]
        texts = [""] * len(talks)
        left, given_up = frozenset[int](), None
        while True:
            try:
                with torch.inference_mode(), self._precision():
                    tokens = next(steps) if given_up is None else steps.send(given_up)
            except StopIteration as end:
                spoken: list[Spoken] = end.value
                break
            for number, token in enumerate(tokens):
                if token is not None and token != self.responder.builder.end_id:
                    said_ids[number].append(token)
                    texts[number] = plain_text(self.responder.text(said_ids[number]))
            given_up = yield list(texts)
            left |= frozenset(given_up or ())
        wanted = [number for number in range(len(talks)) if number not in left]
        groups = self._groups([spoken[number] for number in wanted], [talks[number] for number in wanted])
        seconds = (time.perf_counter() - started) / len(talks)
        responses: list[Response | None] = [None] * len(talks)
        for number, found in zip(wanted, groups, strict=True):
            row, talk, (text, masks) = spoken[number], talks[number], spoken_of[number]
            answer = self.responder.text(row.ids)
            response = Response(answer=answer, groups=tuple(found), seconds=seconds, is_cut=row.is_cut)
            talk.said = (*talk.said, Said(text, masks, response))
            talk.prefix = row.prefix
            responses[number] = response
        return responses

    def _groups(self, spoken: Sequence[Spoken], talks: Sequence[Talk]) -> list[list[Group]]:
        sizes = [(talk.picture.height, talk.picture.width) for talk in talks]

        def sam(numbers: Sequence[int]) -> Tensor:
            return torch.cat([self._sam(talks[number]) for number in numbers])

        with torch.inference_mode(), self._precision():
            return self.responder.groups(spoken, sizes, sam)

    def _prompts(
        self, talks: Sequence[Talk], rows: Sequence[TokenRow], masks: Sequence[tuple[np.ndarray, ...]]
    ) -> list[PromptRow]:
        for talk in talks:
            if talk.kept.image_tokens is None:
                clip, high = self.responder.encoders.language_side([talk.picture])
                empty = torch.zeros(0)
                features = to_device(PictureFeatures(clip=clip, high=high, sam=empty), self.responder.device)
                talk.kept.image_tokens = self.responder.network.image_tokens(features)
        spoken_of: list[tuple[int, np.ndarray]] = []
        if self.responder.builder.has_memory:
            for number, (talk, asked) in enumerate(zip(talks, masks, strict=True)):
                spoken_of += [(number, mask) for said in talk.said for mask in said.masks]
                spoken_of += [(number, mask) for mask in asked]
        names = [mask_name(mask) for _, mask in spoken_of]
        for (number, mask), name in zip(spoken_of, names, strict=True):
            kept, picture = talks[number].kept, talks[number].picture
            if self.responder.builder.has_mask_token and name not in kept.looks:
                kept.looks[name] = encode_regions(self.responder.encoders, [picture], [mask])[0]
        looks = [talks[number].kept.looks.get(name) for (number, _), name in zip(spoken_of, names, strict=True)]
        seen = [look for look in looks if look is not None]
        vectors = torch.stack(seen) if seen else None
        tokens = torch.cat([talk.kept.image_tokens for talk in talks if talk.kept.image_tokens is not None])
        memory = self.responder.memory_tokens(spoken_of, rows, vectors)
        prompts = self.responder.prompts(rows, tokens, memory, names=names)
        return [replace(prompt, prefix=talk.prefix) for prompt, talk in zip(prompts, talks, strict=True)]

    def _sam(self, talk: Talk) -> Tensor:
        if talk.kept.sam is None:
            talk.kept.sam = self.responder.encoders.mask_side([talk.picture])
        return talk.kept.sam


def turn_texts(talk: Talk, question: str, references: int) -> list[TurnText]:
    """A dialogue so far and its next question."""
    earlier = [
        TurnText(said.question, *split_groups(said.response.answer), references=len(said.masks)) for said in talk.said
    ]
    return [*earlier, TurnText(question, references=references)]

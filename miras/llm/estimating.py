"""What prompts will cost, before they are asked; and the upper estimate that a call reserves.

Tokens are approximated: no tokenizer of a served model is at hand. Text: one token for every four bytes of UTF-8, a
rule of thumb for English; its upper estimate is one for every byte, which no byte-level tokenizer exceeds. Pictures:
scaled into 2048 x 2048 pixels, then the shorter side to 768, then 85 tokens and 170 for every 512-pixel tile, as
OpenAI publishes for GPT-4o; upper estimate: the larger of this for 8 tiles and one token for every 28 x 28 pixels, as
Qwen2-VL takes them. Models that charge more are met by `Service`, which scales its reservations by what it sees.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel

from miras.dialogue.records import Frozen
from miras.llm.budget import Amount, price
from miras.llm.cache import AnswerCache
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.exchange import exchange
from miras.llm.records import Answered, Prompt
from miras.llm.replaying import from_cache
from miras.llm.wire import Request, texts

A = TypeVar("A", bound=BaseModel)
BYTES_PER_TOKEN = 4.0
TOKENS_PER_MESSAGE = 16  # roles and separators; upper estimate of them for OpenAI's and ChatML's forms
PICTURE_TOKENS = 85
TILE_TOKENS = 170
TILE_PX = 512
PATCH_PX = 28
ASSUMED_ANSWER_SHARE = 0.5  # of max_answer_tokens, assumed


class Estimate(Frozen):
    """Of prompts that were not asked."""

    prompts: int
    calls: int
    """First questions that are not in the cache; repairs are not foreseen."""
    cached: int
    """Prompts that the cache answers for nothing."""
    impossible: int
    """Prompts that cannot be asked: their picture is missing."""
    prompt_tokens: int
    answer_tokens: int
    """Of answers of a typical length; where none is known half of max_answer_tokens, which is assumed."""
    cost_usd: float
    most_usd: float
    """Upper estimate without repairs: what the budget would reserve."""

    def times(self, factor: float) -> Estimate:
        """Of so many times the prompts."""
        return Estimate(
            prompts=round(factor * self.prompts),
            calls=round(factor * self.calls),
            cached=round(factor * self.cached),
            impossible=round(factor * self.impossible),
            prompt_tokens=round(factor * self.prompt_tokens),
            answer_tokens=round(factor * self.answer_tokens),
            cost_usd=factor * self.cost_usd,
            most_usd=factor * self.most_usd,
        )


class Estimator:
    """Adds up what prompts would take; nothing is asked."""

    def __init__(self, model: ModelConfig, service: ServiceConfig, *, cache: Path | None) -> None:
        """`cache`: folder of paid answers; None: nothing is taken as paid."""
        self._model = model
        self._service = service
        self._answers = None if cache is None else AnswerCache(cache)
        self._count: Counter[str] = Counter()
        self._most_usd = 0.0

    def look(self, prompt: Prompt, *, typical: A | None = None) -> A | None:
        """The answer that is there already, else the typical one; None where it is known that there is none.

        Args:
            prompt: counted.
            typical: what a model may answer; its length is taken for that of the answer.
        """
        found = from_cache(exchange(prompt, self._model), self._answers)
        self._count["prompts"] += 1
        if isinstance(found, Request):
            self._call(found, typical)
            return typical
        is_possible = isinstance(found, Answered) or bool(found.raw)
        self._count["cached" if is_possible else "impossible"] += 1
        if not isinstance(found, Answered):
            return None
        assert typical is None or isinstance(found.value, type(typical))
        return cast(A, found.value)

    def estimate(self) -> Estimate:
        """Of all prompts so far."""
        tokens_in, tokens_out = self._count["prompt tokens"], self._count["answer tokens"]
        return Estimate(
            prompts=self._count["prompts"],
            calls=self._count["calls"],
            cached=self._count["cached"],
            impossible=self._count["impossible"],
            prompt_tokens=tokens_in,
            answer_tokens=tokens_out,
            cost_usd=price(tokens_in, tokens_out, self._service),
            most_usd=self._most_usd,
        )

    def _call(self, request: Request, typical: BaseModel | None) -> None:
        self._count["calls"] += 1
        self._count["prompt tokens"] += prompt_tokens(request)
        self._count["answer tokens"] += (
            round(ASSUMED_ANSWER_SHARE * self._model.max_answer_tokens)
            if typical is None
            else _likely_tokens(typical.model_dump_json())
        )
        self._most_usd += most_of(request, self._service).usd


def prompt_tokens(request: Request) -> int:
    """Likely tokens of a request."""
    text = sum(_likely_tokens(part) for part in texts(request))
    picture = 0 if request.picture is None else tile_tokens(request.picture.width, request.picture.height)
    return text + picture + TOKENS_PER_MESSAGE


def most_prompt_tokens(request: Request) -> int:
    """Upper estimate of the tokens of a request."""
    parts = texts(request)
    text = sum(len(_bytes(part)) for part in parts) + TOKENS_PER_MESSAGE * len(parts)
    if request.picture is None:
        return text
    patches = math.ceil(request.picture.width / PATCH_PX) * math.ceil(request.picture.height / PATCH_PX)
    return text + max(patches, PICTURE_TOKENS + 8 * TILE_TOKENS)


def tile_tokens(width: int, height: int) -> int:
    """Tokens of a picture of so many pixels, as GPT-4o counts them at high detail."""
    scale = min(1.0, 2048 / max(width, height))
    scale *= min(1.0, 768 / (min(width, height) * scale))
    tiles = math.ceil(width * scale / TILE_PX) * math.ceil(height * scale / TILE_PX)
    return PICTURE_TOKENS + TILE_TOKENS * tiles


def most_of(request: Request, service: ServiceConfig, *, factor: float = 1.0) -> Amount:
    """What a call may take at most.

    Args:
        request: of the call.
        service: with the prices.
        factor: by which the tokens of earlier prompts exceeded their upper estimate.
    """
    tokens = math.ceil(factor * most_prompt_tokens(request))
    return Amount(tokens + request.max_answer_tokens, price(tokens, request.max_answer_tokens, service))


def _likely_tokens(text: str) -> int:
    return math.ceil(len(_bytes(text)) / BYTES_PER_TOKEN)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")

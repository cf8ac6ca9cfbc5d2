"""What prompts will cost, before they are asked; and the upper estimate that a call reserves.

Tokens are approximated: no tokenizer of a served model is at hand. Text: one token for every four bytes of UTF-8, a
rule of thumb for English; its upper estimate is one for every byte, which no byte-level tokenizer exceeds. Pictures:
scaled into 2048 x 2048 pixels, then the shorter side to 768, then 85 tokens and 170 for every 512-pixel tile, as
OpenAI publishes for GPT-4o; upper estimate: the larger of this for 8 tiles and one token for every 28 x 28 pixels, as
Qwen2-VL takes them. Models that charge more are met by `Service`, which scales its reservations by what it sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from miras.dialogue.records import Frozen
from miras.llm.budget import Amount, price
from miras.llm.cache import AnswerCache
from miras.llm.config import ModelConfig, ServiceConfig
from miras.llm.exchange import exchange
from miras.llm.records import Prompt, Unanswered
from miras.llm.replaying import from_cache
from miras.llm.wire import Request, texts

BYTES_PER_TOKEN = 4.0
TOKENS_PER_MESSAGE = 16  # roles and separators; upper estimate of them for OpenAI's and ChatML's forms
PICTURE_TOKENS = 85
TILE_TOKENS = 170
TILE_PX = 512
PATCH_PX = 28
ASSUMED_ANSWER_SHARE = 0.5  # of max_answer_tokens, assumed


class Estimate(Frozen):
    """Of a run that was not made."""

    prompts: int
    calls: int
    """First questions that are not in the cache; repairs are not foreseen."""
    cached: int
    """Prompts that the cache answers for nothing."""
    impossible: int
    """Prompts that cannot be asked: their picture is missing."""
    prompt_tokens: int
    answer_tokens: int
    """Assumed: half of max_answer_tokens for each call."""
    cost_usd: float
    most_usd: float
    """Upper estimate without repairs."""


def prompt_tokens(request: Request) -> int:
    """Likely tokens of a request."""
    text = sum(math.ceil(len(_bytes(part)) / BYTES_PER_TOKEN) for part in texts(request))
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


def estimate(
    prompts: Iterable[Prompt], model: ModelConfig, service: ServiceConfig, *, cache: Path | None = None
) -> Estimate:
    """What asking will take; nothing is asked.

    Args:
        prompts: read one at a time.
        model: which is to be asked.
        service: with the prices.
        cache: folder of paid answers; None: nothing is taken as paid.
    """
    answers = None if cache is None else AnswerCache(cache)
    count = calls = cached = impossible = tokens_in = 0
    most = 0.0
    for prompt in prompts:
        count += 1
        request = from_cache(exchange(prompt, model), answers)
        if isinstance(request, Request):
            calls += 1
            tokens_in += prompt_tokens(request)
            most += most_of(request, service).usd
        elif isinstance(request, Unanswered) and not request.raw:
            impossible += 1
        else:
            cached += 1
    tokens_out = round(calls * model.max_answer_tokens * ASSUMED_ANSWER_SHARE)
    return Estimate(
        prompts=count,
        calls=calls,
        cached=cached,
        impossible=impossible,
        prompt_tokens=tokens_in,
        answer_tokens=tokens_out,
        cost_usd=price(tokens_in, tokens_out, service),
        most_usd=most,
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")

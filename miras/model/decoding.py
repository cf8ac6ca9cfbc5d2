"""Greedy decoding of token rows on top of the keys and values of what was read before.

A `Prefix` knows which tokens its keys and values belong to, so it can be used for any row that begins alike: the next
turn of a dialogue, the same dialogue with a turn undone, a branch of it. What does not match is read anew.
Letters: B rows, T tokens of the longest row, C cached tokens of the longest prefix, M new ones, W language width,
H heads, d their width.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Literal

import torch
from torch import Tensor

from miras.model.network import MirasNetwork
from miras.model.reading import Reading

MAX_NEW_TOKENS = 96  # of one answer; the longest answers of the data sets have about half of that


@dataclass(frozen=True)
class Prefix:
    """Keys and values of the first tokens of a row. Never changed in place: a branch shares them."""

    tokens: tuple[Hashable, ...]
    """What each token was: its id, and where it stands for a mask also which mask."""
    layers: tuple[tuple[Tensor, Tensor], ...]
    """Per layer keys and values [H, tokens, d]."""

    def common(self, tokens: Sequence[Hashable]) -> int:
        """How many tokens of a row it holds: the row's last one is always read anew, its state is asked for."""
        pairs = zip(self.tokens, tokens[:-1], strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    @property
    def num_bytes(self) -> int:
        """Memory it takes."""
        return sum(part.nbytes for layer in self.layers for part in layer)


@dataclass(frozen=True)
class Spoken:
    """What one row generated."""

    ids: list[int]
    """Without the token that ends an answer."""
    states: Tensor
    """[len(ids), W]: the state that predicted each id."""
    is_cut: bool
    """Whether it stopped before the end: at the longest length allowed, or nobody waited for it any more."""
    prefix: Prefix | None
    """Of the row with its answer, the last token chosen left out; None unless it was to be kept."""


@dataclass(frozen=True)
class PromptRow:
    """A row to be answered."""

    tokens: list[Hashable]
    """As in `Prefix`."""
    embedded: Tensor
    """[tokens, W]."""
    prefix: Prefix | None
    """Of an earlier answer about the same picture."""


Steps = Generator[list[int | None], Collection[int] | None, list[Spoken]]


@dataclass
class _Answer:
    """Of one row, in the making."""

    row: PromptRow
    known: int
    """How many of the row's tokens its prefix holds."""
    chosen: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    """[W] each: what chose it."""
    is_wanted: bool = True

    def goes_on(self, *, end_id: int, limit: int) -> bool:
        """Whether it needs another token."""
        return self.is_wanted and self.chosen[-1] != end_id and len(self.chosen) < limit

    def spoken(self, *, end_id: int, prefix: Prefix | None) -> Spoken:
        """As it is now."""
        is_cut = self.chosen[-1] != end_id
        count = len(self.chosen) - (not is_cut)
        return Spoken(self.chosen[:count], torch.stack(self.states)[:count], is_cut, prefix)


def generate(
    network: MirasNetwork, rows: Sequence[PromptRow], *, end_id: int, keep: bool = False, limit: int = MAX_NEW_TOKENS
) -> Steps:
    """Answers all rows together; yields after every step the token that each chose (None: it has ended).

    A row that has ended is not computed any more. Rows that nobody waits for can be sent in: they end there.

    Args:
        network: in evaluation mode.
        rows: what is asked.
        end_id: the token that ends an answer.
        keep: whether keys and values are handed back for the next turn.
        limit: longest answer, tokens.

    Returns:
        What each row said.

    Raises:
        ConfigError: the language model is no Llama.
    """
    answers = [_Answer(row, 0 if row.prefix is None else row.prefix.common(row.tokens)) for row in rows]
    cached, fresh = max(each.known for each in answers), max(len(each.row.tokens) - each.known for each in answers)
    reading, state = _opened(network, answers, cached=cached, fresh=fresh)
    lengths = torch.tensor([[len(row.tokens)] for row in rows], device=state.device)
    running, found = list(range(len(rows))), dict[int, Spoken]()
    embedding = network.language.get_input_embeddings()
    for step in count():
        best = network.text_output(state).argmax(dim=-1)
        for place, (number, token) in enumerate(zip(running, best.tolist(), strict=True)):
            answers[number].chosen.append(token)
            answers[number].states.append(state[place])
        gone = yield [answers[number].chosen[-1] if number in running else None for number in range(len(rows))]
        for number in gone or ():
            answers[number].is_wanted = False
        going = [place for place, number in enumerate(running) if answers[number].goes_on(end_id=end_id, limit=limit)]
        for place in sorted(set(range(len(running))) - set(going)):
            each, prefix = answers[running[place]], None
            if keep and each.is_wanted:
                new = len(each.row.tokens) - each.known
                places = [*range(cached - each.known, cached), *range(cached + fresh - new, cached + fresh + step)]
                prefix = Prefix((*each.row.tokens, *each.chosen[:-1]), reading.kept(place, places))
            found[running[place]] = each.spoken(end_id=end_id, prefix=prefix)
        if not going:
            break
        if len(going) < len(running):
            best, lengths, running = best[going], lengths[going], [running[place] for place in going]
            reading.only(going)
        state = reading.read(embedding(best[:, None]), lengths + step)
    return [found[number] for number in range(len(rows))]


def _opened(network: MirasNetwork, answers: Sequence[_Answer], *, cached: int, fresh: int) -> tuple[Reading, Tensor]:
    """The rows read to their ends, and the states [B, W] there.

    Rows are aligned at their ends, where answers begin: padding lies before the `cached` and before the `fresh` tokens.
    """
    embedded = [each.row.embedded[each.known :] for each in answers]
    device = embedded[0].device
    is_token = torch.zeros(len(answers), cached + fresh, dtype=torch.bool, device=device)
    positions = torch.zeros(len(answers), fresh, dtype=torch.long, device=device)
    for number, (each, new) in enumerate(zip(answers, embedded, strict=True)):
        is_token[number, cached - each.known : cached] = True
        is_token[number, cached + fresh - len(new) :] = True
        positions[number, fresh - len(new) :] = torch.arange(each.known, each.known + len(new), device=device)
    reading = Reading(network.language, is_token=is_token, dtype=embedded[0].dtype)
    if cached:
        reading.take(_joined(answers, cached))
    return reading, reading.read(torch.stack([_right_aligned(new, fresh) for new in embedded]), positions)


def finish(steps: Steps) -> list[Spoken]:
    """What `generate` returns, its steps unseen."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: list[Spoken] = end.value
            return found


def _right_aligned(rows: Tensor, length: int) -> Tensor:
    """[tokens, W] behind zeros, [length, W]."""
    return torch.nn.functional.pad(rows, (0, 0, length - len(rows), 0))


def _joined(answers: Sequence[_Answer], longest: int) -> list[tuple[Tensor, Tensor]]:
    """Per layer the known keys and values of all rows, [B, H, longest, d], aligned at their ends."""
    return [
        (_aligned(answers, number, 0, longest), _aligned(answers, number, 1, longest))
        for number in range(len(next(each.row.prefix for each in answers if each.row.prefix is not None).layers))
    ]


def _aligned(answers: Sequence[_Answer], layer: int, which: Literal[0, 1], longest: int) -> Tensor:
    known = [
        (number, each.known, each.row.prefix.layers[layer][which])
        for number, each in enumerate(answers)
        if each.row.prefix is not None and each.known
    ]
    part = known[0][2]
    joined = part.new_zeros(len(answers), part.shape[0], longest, part.shape[2])
    for number, count_known, part in known:
        joined[number, :, longest - count_known :] = part[:, :count_known]
    return joined

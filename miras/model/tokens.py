"""Dialogues into token rows: ids, labels and the positions of image tokens, `[SEG]` states and `[OBJ]` spans.

Every position comes out of the routine that writes the ids; nothing computes an offset. Text from people or
data is encoded with its special tokens split up, so a typed "[SEG]" or "<image>" never becomes a marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from miras.dialogue.records import TARGET_SLOT
from miras.dialogue.rendering import IMAGE, OBJ, SEG, split_groups
from miras.errors import DataError

IGNORED = -100


@dataclass(frozen=True)
class AnswerText:
    """An answer to encode: text with `{target}` slots, and the phrase of each slot."""

    text: str
    phrases: tuple[str, ...] = ()


@dataclass
class TokenRow:
    """One sequence for the language model."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """The id where it is to be learned, else -100; same length as ids."""
    image_start: int = 0
    """Position of the first image token; they are contiguous."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Per target (first, last): the states at [OBJ] ... the last word of its phrase; the state at `last`
    predicts [SEG] and is the mask prompt (LISA's convention, fact sheet 2.19)."""


class RowBuilder:
    """Writes token rows in LLaVA's form: `{system} USER: <image>...{question} ASSISTANT: {answer}</s>`."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        num_image_tokens: int,
        system_prompt: str,
        max_tokens: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.num_image_tokens = num_image_tokens
        self.max_tokens = max_tokens
        markers: Any = tokenizer.convert_tokens_to_ids([OBJ, SEG, IMAGE])
        self.obj_id, self.seg_id, self.image_id = markers
        self.end_id: int = tokenizer.eos_token_id
        self._pieces: dict[str, list[int]] = {}
        self._system = self.encode(system_prompt) if system_prompt else []
        self._user, self._assistant = self.encode("USER:"), self.encode("ASSISTANT:")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; markers in it are split into ordinary pieces."""
        found = self._pieces.get(text)
        if found is None:
            found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            if len(self._pieces) < 200_000:  # templates and phrases repeat; bounds the memory for long runs
                self._pieces[text] = found
        return found

    def training_row(self, turns: Sequence[tuple[str, AnswerText]], *, where: str) -> TokenRow:
        """A row with every answer supervised.

        Args:
            turns: question and answer of each turn.
            where: names the sample in messages.

        Raises:
            DataError: the row is longer than `max_tokens`; it is never cut.
        """
        row = self._start()
        for number, (question, answer) in enumerate(turns):
            self._add_question(row, question, first=number == 0)
            self._add_answer(row, answer)
        self._check_length(row, where)
        return row

    def prompt_row(self, history: Sequence[tuple[str, str]], question: str, *, where: str) -> TokenRow:
        """A row that ends where the answer begins.

        Args:
            history: (question, rendered answer) of earlier turns; markers in answers are the model's own.
            question: what is asked now.
            where: names the sample in messages.

        Raises:
            DataError: as `training_row`.
        """
        row = self._start()
        for number, (earlier, answer) in enumerate(history):
            self._add_question(row, earlier, first=number == 0)
            self._add_answer(row, AnswerText(*split_groups(answer)))
        self._add_question(row, question, first=not history)
        self._check_length(row, where)
        return row

    def _start(self) -> TokenRow:
        start = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        row = TokenRow()
        _append(row, start + self._system, learned=False)
        return row

    def _add_question(self, row: TokenRow, question: str, *, first: bool) -> None:
        _append(row, self._user, learned=False)
        if first:
            row.image_start = len(row.ids)
            _append(row, [self.image_id] * self.num_image_tokens, learned=False)
        _append(row, self.encode(question), learned=False)
        _append(row, self._assistant, learned=False)

    def _add_answer(self, row: TokenRow, answer: AnswerText) -> None:
        parts = answer.text.split(TARGET_SLOT)
        if len(parts) != len(answer.phrases) + 1:
            raise DataError(f"answer {answer.text!r} has {len(parts) - 1} slots for {len(answer.phrases)} targets.")
        for number, part in enumerate(parts):
            if number:
                first = len(row.ids)
                _append(row, [self.obj_id, *self.encode(answer.phrases[number - 1])], learned=True)
                row.spans.append((first, len(row.ids) - 1))
                _append(row, [self.seg_id], learned=True)
            if part.strip():
                _append(row, self.encode(part.strip()), learned=True)
        _append(row, [self.end_id], learned=True)

    def _check_length(self, row: TokenRow, where: str) -> None:
        if len(row.ids) > self.max_tokens:
            raise DataError(
                f"{where}: {len(row.ids)} tokens ({self.num_image_tokens} of them for the picture), but "
                f"network.max_tokens is {self.max_tokens}. Raise it or shorten the dialogue."
            )


def _append(row: TokenRow, ids: Sequence[int], *, learned: bool) -> None:
    row.ids.extend(ids)
    row.labels.extend(ids if learned else [IGNORED] * len(ids))

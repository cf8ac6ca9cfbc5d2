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
from miras.dialogue.rendering import BOX, IMAGE, MASK, OBJ, REF, SEG
from miras.errors import DataError
from miras.model.config import MemoryKind, NetworkConfig

IGNORED = -100
MAX_KEPT_TEXT = 100  # characters of a text whose ids are kept: a server's memory must not fill with what people ask


@dataclass(frozen=True)
class TurnText:
    """A turn to encode."""

    question: str
    answer: str = ""
    """Text with `{target}` slots; unused in the last turn of a prompt."""
    phrases: tuple[str, ...] = ()
    """One per slot."""
    references: int = 0
    """How many masks the question speaks of."""


@dataclass
class TokenRow:
    """One sequence for the language model: a shared prefix, then dialogues that do not see each other."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """The id where it is to be learned, else -100; same length as ids."""
    parts: list[int] = field(default_factory=list)
    """Per token: 0 in the prefix, k in the k-th dialogue. Same length as ids."""
    positions: list[int] = field(default_factory=list)
    """Per token its place in the dialogue read alone: each dialogue goes on from the prefix."""
    image_start: int = -1
    """Position of the first image token; they are contiguous. -1 without picture."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Per target (first, last): the states at [OBJ] ... the last word of its phrase; the state at `last`
    predicts [SEG] and is the mask prompt (LISA's convention)."""
    references: list[int] = field(default_factory=list)
    """Per target the position of its [REF], -1 where its question speaks of no mask."""
    memory: list[tuple[int, int]] = field(default_factory=list)
    """Per mask that a question speaks of, in order: positions of its mask token and its box token, -1 without."""


class RowBuilder:
    """Writes token rows in LLaVA's form: `{system} USER: <image>...{question} ASSISTANT: {answer}</s>`.

    With mask memory a question that speaks of masks is `<mask><box>...{question}` and the targets of its answer are
    `[REF][OBJ]phrase[SEG]`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        num_image_tokens: int,
        system_prompt: str,
        max_tokens: int,
        mask_memory: MemoryKind,
    ) -> None:
        self.tokenizer = tokenizer
        self.num_image_tokens = num_image_tokens
        self.max_tokens = max_tokens
        markers: Any = tokenizer.convert_tokens_to_ids([OBJ, SEG, REF, IMAGE, MASK, BOX])
        self.obj_id, self.seg_id, self.ref_id, self.image_id, self.mask_id, self.box_id = markers
        self.end_id: int = tokenizer.eos_token_id
        self.has_mask_token, self.has_box_token = mask_memory in ("mask", "both"), mask_memory in ("box", "both")
        self.has_memory = mask_memory != "off"
        self._pieces: dict[str, list[int]] = {}
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self._start = start + (self.encode(system_prompt) if system_prompt else []) + self.encode("USER:")
        self._user, self._assistant = self.encode("USER:"), self.encode("ASSISTANT:")

    @classmethod
    def of(cls, config: NetworkConfig, tokenizer: PreTrainedTokenizerBase, *, num_image_tokens: int) -> RowBuilder:
        """The builder of a network's rows."""
        return cls(
            tokenizer,
            num_image_tokens=num_image_tokens,
            system_prompt=config.system_prompt,
            max_tokens=config.max_tokens,
            mask_memory=config.mask_memory,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; markers in it are split into ordinary pieces."""
        found = self._pieces.get(text)
        if found is None:
            found = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            if len(text) <= MAX_KEPT_TEXT and len(self._pieces) < 200_000:  # templates and phrases repeat
                self._pieces[text] = found
        return found

    def training_row(
        self, dialogues: Sequence[Sequence[TurnText]], *, names: Sequence[str], has_picture: bool = True
    ) -> TokenRow:
        """A row with every answer supervised.

        Args:
            dialogues: each the turns of one dialogue about the same picture.
            names: of the dialogues, for messages.
            has_picture: whether image tokens open the row.

        Raises:
            DataError: a dialogue read alone is longer than `max_tokens`; it is never cut.
        """
        row = self._prefix(has_picture)
        for number, (turns, name) in enumerate(zip(dialogues, names, strict=True), 1):
            for place, turn in enumerate(turns):
                self._add_question(row, turn, part=number, is_first=place == 0)
                self._add_answer(row, turn, part=number, where=name)
            self._check_length(row, name)
        return row

    def prompt_row(self, turns: Sequence[TurnText], *, where: str) -> TokenRow:
        """A row that ends where the answer to the last of `turns` begins; the earlier ones are its history.

        Raises:
            DataError: as `training_row`.
        """
        row = self._prefix(has_picture=True)
        for place, turn in enumerate(turns):
            self._add_question(row, turn, part=1, is_first=place == 0)
            if place < len(turns) - 1:
                self._add_answer(row, turn, part=1, where=where)
        self._check_length(row, where)
        return row

    def _prefix(self, has_picture: bool) -> TokenRow:
        row = TokenRow()
        _append(row, self._start, part=0)
        if has_picture:
            row.image_start = len(row.ids)
            _append(row, [self.image_id] * self.num_image_tokens, part=0)
        return row

    def _add_question(self, row: TokenRow, turn: TurnText, *, part: int, is_first: bool) -> None:
        if not is_first:
            _append(row, self._user, part=part)
        for _ in range(turn.references if self.has_memory else 0):
            mask_at = box_at = -1
            if self.has_mask_token:
                mask_at = len(row.ids)
                _append(row, [self.mask_id], part=part)
            if self.has_box_token:
                box_at = len(row.ids)
                _append(row, [self.box_id], part=part)
            row.memory.append((mask_at, box_at))
        _append(row, self.encode(turn.question), part=part)
        _append(row, self._assistant, part=part)

    def _add_answer(self, row: TokenRow, turn: TurnText, *, part: int, where: str) -> None:
        pieces = turn.answer.split(TARGET_SLOT)
        if len(pieces) != len(turn.phrases) + 1:
            raise DataError(
                f"{where}: answer {turn.answer!r} has {len(pieces) - 1} slots for {len(turn.phrases)} targets."
            )
        for number, piece in enumerate(pieces):
            if number:
                self._add_group(row, turn.phrases[number - 1], part=part, refers=turn.references > 0)
            if piece.strip():
                _append(row, self.encode(piece.strip()), part=part, learned=True)
        _append(row, [self.end_id], part=part, learned=True)

    def _add_group(self, row: TokenRow, phrase: str, *, part: int, refers: bool) -> None:
        row.references.append(len(row.ids) if refers and self.has_memory else -1)
        if refers and self.has_memory:
            _append(row, [self.ref_id], part=part, learned=True)
        first = len(row.ids)
        _append(row, [self.obj_id, *self.encode(phrase)], part=part, learned=True)
        row.spans.append((first, len(row.ids) - 1))
        _append(row, [self.seg_id], part=part, learned=True)

    def _check_length(self, row: TokenRow, where: str) -> None:
        length = row.positions[-1] + 1
        if length > self.max_tokens:
            raise DataError(
                f"{where}: {length} tokens ({self.num_image_tokens} of them for the picture), but "
                f"network.max_tokens is {self.max_tokens}. Raise it or shorten the dialogue."
            )


def _append(row: TokenRow, ids: Sequence[int], *, part: int, learned: bool = False) -> None:
    if not row.parts or row.parts[-1] == part:
        start = row.positions[-1] + 1 if row.positions else 0
    else:  # a dialogue opens: it goes on from the prefix
        start = row.parts.count(0)
    row.ids.extend(ids)
    row.labels.extend(ids if learned else [IGNORED] * len(ids))
    row.parts.extend([part] * len(ids))
    row.positions.extend(range(start, start + len(ids)))

"""Answers cut into pieces."""

from __future__ import annotations

import pytest

from miras.chat.pieces import Piece, pieces_of
from miras.dialogue.rendering import plain_text


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It is [OBJ]the cup[SEG].", [("It is ", None), ("the cup", 0), (".", None)]),
        ("[OBJ] red mug [SEG] and [OBJ]it[SEG] .", [("red mug", 0), (" and ", None), ("it", 1), (".", None)]),
        ("[REF][OBJ]handle[SEG]", [("handle", 0)]),
        ("the cup [SEG] here", [("the cup ", None), ("", 0), (" here", None)]),
        ("[OBJ]a [OBJ]b[SEG]", [("a ", None), ("b", 0)]),
        ("[SEG][SEG]", [("", 0), ("", 1)]),
        ("no mask at all", [("no mask at all", None)]),
        ("", []),
    ],
)
def test_there_is_a_piece_for_every_mask_and_together_they_are_the_text(
    answer: str, expected: list[tuple[str, int | None]]
) -> None:
    found = pieces_of(answer)
    assert found == tuple(Piece(*item) for item in expected)
    assert sum(piece.target is not None for piece in found) == answer.count("[SEG]")
    assert "".join(piece.text for piece in found).split() == plain_text(answer).split()

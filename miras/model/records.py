"""What goes into a model and comes out of it: light records, no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    """A question to answer about a stored picture."""

    image_id: str
    history: tuple[tuple[str, str], ...]
    """Earlier turns as (question, answer); answers are rendered, with `[OBJ]phrase[SEG]` markers."""
    question: str
    references: tuple[tuple[np.ndarray, ...], ...] = ()
    """Per question, earlier ones first, the masks it speaks of: boolean (h, w) in pixels of the picture, none empty.
    Empty when no question speaks of any."""
    kept: object = None
    """What the answer to the turn before left (`Response.kept`), so that it need not be read again; None: nothing."""


@dataclass(frozen=True)
class Group:
    """One `[OBJ]phrase[SEG]` group of an answer, with the mask it points at."""

    phrase: str
    mask: np.ndarray
    """Boolean (h, w), in pixels of the stored picture; may be empty."""
    score: float = 0.0
    """How sure the model is of it, 0 to 1: mean probability of the mask's pixels; 0 of an empty one."""


@dataclass(frozen=True)
class Response:
    """An answer with its masks."""

    answer: str
    """As generated, markers included."""
    groups: tuple[Group, ...]
    """In the order of the answer."""
    seconds: float
    """Wall time, an equal share of its batch's."""
    is_cut: bool = False
    """Whether the answer reached the longest length allowed before it ended."""
    kept: object = None
    """For the request of the next turn; None: nothing."""
    raw: str = ""
    """What the model wrote, where `answer` was read out of it."""
    error: str = ""
    """Why there is no answer (a model behind a server)."""

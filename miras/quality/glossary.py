"""What the words mean that cards, Data Docs and galleries use, for those who see them for the first time."""

from __future__ import annotations

from collections.abc import Mapping

KIND_TEXTS: Mapping[str, str] = {
    "prist": "several turns of reasoning that lead to one mask in the last turn",
    "mrseg": "turns that speak of, or point at, masks of earlier turns",
    "referring": "a question that names one thing by what sets it apart, or one that is not there",
    "semantic": "a question that asks for all things of a class, or for one that is not there",
    "vqa": "questions and answers in words alone",
    "caption": "a description of the picture",
}
"""Kind of dialogue -> what it is, in the order in which pages list them."""

WORDS: Mapping[str, str] = {
    "dialogue": "turns about one picture; its kind says how they are made",
    "turn": "a question and its answer",
    "region": "something in a picture that can be pointed at: an object, a part, a piece of lettering",
    "phrase": "what a region is called, such as “handle of the left mug”",
    "mask": "the pixels that belong to a region",
    "target": "a region that an answer points at, with its mask",
    "focus": "the phrase of what a dialogue leads to",
    "fine, medium, coarse": "masks of less than 2,621 pixels, of less than 23,593, and larger ones, on a canvas of "
    "1024 × 1024 (51.2² and 153.6²; the PRIST paper's classes)",
    "quarantine": "records that broke a rule: no later stage sees them, and none is thrown away",
}

"""The Great Expectations suites: every rule once, with its words for people and its expectation.

Importing this module imports Great Expectations (4 to 8 seconds): only the stages that check do so.
"""

from __future__ import annotations

from dataclasses import dataclass

import great_expectations.expectations as gxe
from great_expectations.expectations.row_conditions import Column

from miras.dialogue.rendering import OBJ, SEG
from miras.quality.config import CheckConfig

# Comparisons of a GX column build conditions: the rows an expectation is limited to.
IS_TARGET = Column("is_target") == True  # noqa: E712
IS_SPOKEN = Column("is_spoken") == True  # noqa: E712
IS_PRIST = Column("kind") == "prist"
IS_MRSEG = Column("kind") == "mrseg"
IS_QUERY = Column("kind").is_in(["semantic", "referring", "caption"])
MAX_MRSEG_TURNS = 19  # the longest of SegLLM's public data set


UNWANTED_WORDS = "No text holds an e-mail address, a telephone number or a word of the list, as far as each is refused."


@dataclass(frozen=True)
class Rule:
    """One expectation and how it is told."""

    name: str
    """Key in summaries."""
    says: str
    """What is expected, in plain words."""
    reason: str
    """What is wrong with a row that fails; `{column}` stands for the row's value."""
    expectation: gxe.Expectation


@dataclass(frozen=True)
class Suite:
    """The rules of one table."""

    name: str
    title: str
    rules: tuple[Rule, ...]


def _no_value(column: str) -> gxe.Expectation:
    """For columns that name a problem where there is one."""
    return gxe.ExpectColumnValuesToBeNull(column=column)


def region_suite() -> Suite:
    """What every region must be, with or without a mask."""
    return Suite(
        name="regions",
        title="Regions",
        rules=(
            Rule(
                "region_id_unique",
                "No two regions have the same id.",
                "the id {record_id} is used more than once",
                _no_value("id_used_again"),
            ),
            Rule(
                "region_picture_exists",
                "The picture of the region is in the data set.",
                "its picture {unknown_picture} is not in the table of pictures",
                _no_value("unknown_picture"),
            ),
            Rule(
                "phrase_present",
                "A region that an answer calls by its phrase has one.",
                "its phrase is empty, and an answer calls it by it",
                gxe.ExpectColumnValuesToBeBetween(column="phrase_words", min_value=1, row_condition=IS_SPOKEN),
            ),
            Rule(
                "phrase_without_markers",
                f"The phrase holds no {OBJ}, {SEG} or other marker: the renderer alone writes them.",
                "its phrase holds the marker {typed_markers}",
                _no_value("typed_markers"),
            ),
            Rule(
                "target_has_mask",
                "A region that a dialogue asks for has a mask, unless the source is text only.",
                "it has no mask, and a dialogue asks for it",
                _no_value("target_without_mask"),
            ),
            Rule(
                "phrase_unique_in_picture",
                "A phrase that an answer uses names no other region of the picture.",
                'its phrase "{phrase}" also names {same_phrase_as} of the same picture',
                _no_value("same_phrase_as"),
            ),
            Rule(
                "parent_exists",
                "The region that it is part of is another region of the same picture.",
                "its parent {parent_problem}",
                _no_value("parent_problem"),
            ),
            Rule(
                "parent_passed",
                "The region that it is part of passed the checks.",
                "it is part of {bad_parent}, which is in quarantine",
                _no_value("bad_parent"),
            ),
            Rule(
                "phrase_without_unwanted_words",
                UNWANTED_WORDS,
                "its phrase holds: {unwanted_words}",
                _no_value("unwanted_words"),
            ),
        ),
    )


def mask_suite(check: CheckConfig) -> Suite:
    """What every mask must be; regions without a mask are not in this table."""
    return Suite(
        name="masks",
        title="Masks",
        rules=(
            Rule(
                "mask_readable",
                "The run lengths can be read and cover the mask exactly.",
                "its mask is broken: {mask_fault}",
                _no_value("mask_fault"),
            ),
            Rule(
                "mask_height_fits",
                "The mask is as high as its picture.",
                "its mask is {height_px} px high, the picture {picture_height_px} px",
                _equal("height_px", "picture_height_px"),
            ),
            Rule(
                "mask_width_fits",
                "The mask is as wide as its picture.",
                "its mask is {width_px} px wide, the picture {picture_width_px} px",
                _equal("width_px", "picture_width_px"),
            ),
            Rule(
                "mask_not_empty",
                "The mask has at least one pixel.",
                "its mask is empty",
                gxe.ExpectColumnValuesToBeBetween(column="area_px", min_value=1),
            ),
            Rule(
                "target_large_enough",
                f"A region that a dialogue asks for has at least {check.min_area_canvas_px} pixels "
                "on a canvas of 1024 x 1024.",
                "too small to be a target: {area_canvas_px:.0f} px on the 1024 canvas, at least "
                f"{check.min_area_canvas_px} expected",
                gxe.ExpectColumnValuesToBeBetween(
                    column="area_canvas_px", min_value=check.min_area_canvas_px, row_condition=IS_TARGET
                ),
            ),
        ),
    )


def _equal(column: str, other: str) -> gxe.Expectation:
    return gxe.ExpectColumnPairValuesToBeEqual(column_A=column, column_B=other, ignore_row_if="either_value_is_missing")


def dialogue_suite(check: CheckConfig) -> Suite:
    """What every dialogue must be."""
    return Suite(
        name="dialogues",
        title="Dialogues",
        rules=(
            *_shape_rules(check),
            *_text_rules(check),
            *_marker_rules(),
            *_target_rules(),
            *_prist_rules(),
            *_progress_rules(check),
        ),
    )


def _shape_rules(check: CheckConfig) -> tuple[Rule, ...]:
    bounds = f"{check.min_turns} to {check.max_turns}"
    return (
        Rule(
            "dialogue_id_unique",
            "No two dialogues have the same id.",
            "the id {record_id} is used more than once",
            _no_value("id_used_again"),
        ),
        Rule(
            "dialogue_picture_exists",
            "The picture of the dialogue is in the data set.",
            "its picture {unknown_picture} is not in the table of pictures",
            _no_value("unknown_picture"),
        ),
        Rule(
            "turns_alternate",
            "Question and answer alternate and none is empty (q a q a ...).",
            'a question or answer is empty: its texts go "{turn_pattern}", expected "qa" once or more',
            gxe.ExpectColumnValuesToMatchRegex(column="turn_pattern", regex="^(?:qa)+$"),
        ),
        Rule(
            "prist_turn_count",
            f"A PRIST dialogue has {bounds} turns.",
            f"has {{turns}} turns, a PRIST dialogue has {bounds}",
            gxe.ExpectColumnValuesToBeBetween(
                column="turns",
                min_value=check.min_turns,
                max_value=check.max_turns,
                row_condition=IS_PRIST,
            ),
        ),
        Rule(
            "mrseg_turn_count",
            f"An MRSeg dialogue has 1 to {MAX_MRSEG_TURNS} turns.",
            f"has {{turns}} turns, an MRSeg dialogue has 1 to {MAX_MRSEG_TURNS}",
            gxe.ExpectColumnValuesToBeBetween(
                column="turns", min_value=1, max_value=MAX_MRSEG_TURNS, row_condition=IS_MRSEG
            ),
        ),
        Rule(
            "query_turn_count",
            "A dialogue of kind semantic, referring or caption has one turn.",
            "has {turns} turns, a dialogue of kind {kind} has 1",
            gxe.ExpectColumnValuesToBeInSet(column="turns", value_set=[1], row_condition=IS_QUERY),
        ),
    )


def _text_rules(check: CheckConfig) -> tuple[Rule, ...]:
    return (
        Rule(
            "text_length",
            f"No question or answer is longer than {check.max_words_per_turn} words.",
            f"its longest text has {{longest_text_words}} words, at most {check.max_words_per_turn} expected",
            gxe.ExpectColumnValuesToBeBetween(column="longest_text_words", max_value=check.max_words_per_turn),
        ),
        Rule(
            "text_tidy",
            "No text begins or ends with a blank or holds control characters.",
            "untidy text: {untidy_text}",
            _no_value("untidy_text"),
        ),
        Rule(
            "not_repeated",
            "No dialogue repeats an earlier one of its picture in the same or nearly the same words.",
            "says the same as {repeats}",
            _no_value("repeats"),
        ),
        Rule(
            "text_without_unwanted_words",
            UNWANTED_WORDS,
            "its texts hold: {unwanted_words}",
            _no_value("unwanted_words"),
        ),
    )


def _marker_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "no_typed_markers",
            f"No text holds {OBJ}, {SEG}, <image> or another marker: the renderer alone writes them.",
            "a text holds the marker {typed_markers}",
            _no_value("typed_markers"),
        ),
        Rule(
            "slots_only_in_answers",
            "Only answers name targets: no question holds a {target} slot.",
            "its questions hold {slots_in_questions} target slots, expected none",
            gxe.ExpectColumnValuesToBeInSet(column="slots_in_questions", value_set=[0]),
        ),
        Rule(
            "one_slot_per_target",
            "Every answer has exactly one {target} slot for each of its targets.",
            "{slot_mismatch}",
            _no_value("slot_mismatch"),
        ),
    )


def _target_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "targets_exist",
            "Every target is a region of the data set.",
            "no such region: {unknown_targets}",
            _no_value("unknown_targets"),
        ),
        Rule(
            "targets_in_picture",
            "Every target is in the dialogue's own picture.",
            "a target is in another picture: {targets_elsewhere}",
            _no_value("targets_elsewhere"),
        ),
        Rule(
            "targets_passed",
            "Every target passed the checks of regions and masks.",
            "a target is in quarantine: {bad_targets}",
            _no_value("bad_targets"),
        ),
        Rule(
            "references_go_back",
            "A turn refers only to earlier turns that have a mask.",
            "{wrong_references}",
            _no_value("wrong_references"),
        ),
        Rule(
            "mrseg_refers_to_masks",
            "An MRSeg dialogue of one turn is about a mask that the person points at.",
            'its only question speaks of no mask: "{speaks_of_no_mask}"',
            _no_value("speaks_of_no_mask"),
        ),
    )


def _prist_rules() -> tuple[Rule, ...]:
    return (
        Rule(
            "prist_target_last",
            "A PRIST dialogue leads to one target, in its last turn.",
            'has targets per turn "{targets_per_turn}", expected none but one in the last turn',
            gxe.ExpectColumnValuesToMatchRegex(column="targets_per_turn", regex="^(?:0 )*1$", row_condition=IS_PRIST),
        ),
        Rule(
            "prist_last_answer_renders",
            f"Rendered, the last answer of a PRIST dialogue has exactly its {OBJ}phrase{SEG} groups.",
            'its last answer renders to the phrases "{rendered_phrases}", expected "{target_phrases}"',
            gxe.ExpectColumnPairValuesToBeEqual(
                column_A="rendered_phrases",
                column_B="target_phrases",
                ignore_row_if="either_value_is_missing",
                row_condition=IS_PRIST,
            ),
        ),
        Rule(
            "prist_focus_present",
            "A PRIST dialogue has a focus.",
            "its focus is empty",
            gxe.ExpectColumnValuesToNotBeNull(column="focus_key", row_condition=IS_PRIST),
        ),
        Rule(
            "prist_focus_is_target",
            "The focus of a PRIST dialogue is the phrase of its target.",
            'its focus reads "{focus_key}", its target "{target_phrase_key}"',
            gxe.ExpectColumnPairValuesToBeEqual(
                column_A="focus_key",
                column_B="target_phrase_key",
                ignore_row_if="either_value_is_missing",
                row_condition=IS_PRIST,
            ),
        ),
    )


def _progress_rules(check: CheckConfig) -> tuple[Rule, ...]:
    return (
        Rule(
            "prist_focus_named",
            f"Before the request, a PRIST dialogue has named at least {check.min_focus_named:.0%} of the content words "
            "of its focus.",
            "its turns before the request name {focus_named:.0%} of the words of its focus, at least "
            f"{check.min_focus_named:.0%} expected",
            gxe.ExpectColumnValuesToBeBetween(
                column="focus_named", min_value=check.min_focus_named, row_condition=IS_PRIST
            ),
        ),
        Rule(
            "prist_turns_build_on_earlier",
            f"At least {check.min_turns_linked:.0%} of a PRIST dialogue's later turns take up a content word of "
            "earlier ones.",
            "only {turns_linked:.0%} of its later turns take up a word of earlier ones, at least "
            f"{check.min_turns_linked:.0%} expected",
            gxe.ExpectColumnValuesToBeBetween(
                column="turns_linked", min_value=check.min_turns_linked, row_condition=IS_PRIST
            ),
        ),
    )

from __future__ import annotations

import pytest

from miras.evaluate.text_metrics import distinct_share, same_phrases, score_texts


def test_markers_are_stripped_before_texts_are_compared() -> None:
    found = score_texts(
        answers=["Here is [OBJ]the red mug[SEG] on its old shelf."],
        references=["Here is the red mug on its old shelf."],
    )
    assert found.bleu4 == pytest.approx(100.0)
    assert found.rouge_l == pytest.approx(100.0)


def test_the_bleu_signature_states_tokenizer_and_version() -> None:
    signature = score_texts(answers=["a b c d e"], references=["a b c d f"]).bleu_signature
    assert "tok:13a" in signature
    assert "version:" in signature


def test_distinct_words_are_counted_over_the_whole_list() -> None:
    assert distinct_share(["a cup", "A cup", "a jug"], length=1) == pytest.approx(3 / 6)
    assert distinct_share(["a cup", "A cup", "a jug"], length=2) == pytest.approx(2 / 3)


def test_pairs_do_not_cross_from_one_answer_to_the_next() -> None:
    assert distinct_share(["cup", "jug"], length=2) == 0.0


def test_rouge_compares_stems_in_order() -> None:
    found = score_texts(answers=["mugs stand"], references=["a mug stands"])
    assert found.rouge_l == pytest.approx(100 * 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3))


def test_phrases_match_apart_from_case_article_and_order() -> None:
    answer = "[OBJ]the Red mug[SEG] and [OBJ]lamp[SEG]"
    assert same_phrases(answer=answer, targets=["lamp", "red mug"])
    assert not same_phrases(answer=answer, targets=["red mug"])
    assert not same_phrases(answer="the red mug", targets=["red mug"])

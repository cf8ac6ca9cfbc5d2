"""Text metrics against values made by hand, those that the libraries document, and the formulas in plain loops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import pytest
import sacrebleu

from miras.errors import DataError
from miras.evaluate import text_metrics
from miras.evaluate.text_metrics import TextScores, distinct_share, same_phrases, score_texts
from miras.evaluate.wordnet import open_wordnet

ANSWERS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him.", "A red mug stands there."]
REFERENCES = [
    "The dog bit the man.",
    "It was not unexpected.",
    "The man bit him first.",
    "The red mug stands on a shelf.",
]


def score(answer: str, reference: str) -> TextScores:
    return score_texts(answers=[answer], references=[reference])


@pytest.fixture
def has_wordnet() -> None:
    try:
        open_wordnet()
    except DataError as error:
        pytest.skip(str(error))


# --- BLEU


def grams(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def plain_bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Papineni et al. 2002, 4-grams, of texts split at whitespace."""
    logs = []
    for length in range(1, 5):
        hits = total = 0
        for answer, reference in zip(answers, references, strict=True):
            found = grams(answer.split(), length)
            hits += sum((found & grams(reference.split(), length)).values())
            total += sum(found.values())
        logs.append(math.log(hits / total))
    written, expected = (sum(len(text.split()) for text in texts) for texts in (answers, references))
    return 100 * math.exp(sum(logs) / 4 + min(0.0, 1 - expected / written))


def test_corpus_bleu_is_that_of_the_formula_and_of_sacrebleu() -> None:
    answers = ["the cat sat on the old mat", "a man holds a big sign up", "x y"]
    references = ["the cat sat on the new mat today", "a man holds a big sign", "y x z"]
    found = score_texts(answers=answers, references=references)
    assert found.bleu4 == pytest.approx(plain_bleu(answers, references))
    found = score_texts(answers=ANSWERS, references=REFERENCES)
    assert found.bleu4 == pytest.approx(sacrebleu.corpus_bleu(ANSWERS, [REFERENCES]).score)


def test_corpus_bleu_is_not_the_mean_of_sentences() -> None:
    found = score_texts(answers=["a b c d e", "x y z w"], references=["a b c d e", "p q r s"])
    assert found.sentence_bleu4 == pytest.approx(50.0)
    # 5 + 0 of 9 words, 4 of 7, 3 of 5, 2 of 3
    assert found.bleu4 == pytest.approx(100 * (5 / 9 * 4 / 7 * 3 / 5 * 2 / 3) ** 0.25)


def test_the_bleu_signature_states_tokenizer_and_version() -> None:
    signature = score("a b c d e", "a b c d f").bleu_signature
    assert "tok:13a" in signature
    assert "version:" in signature


def test_sentence_bleu_smooths_absent_grams_by_a_tenth() -> None:
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, 0.1 of 1
    assert score("a b c x", "a b c d").sentence_bleu4 == pytest.approx(100 * (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25)
    assert score("a b c d", "a b c d e f").sentence_bleu4 == pytest.approx(100 * math.exp(1 - 6 / 4))


def test_punctuation_is_a_word_of_its_own_for_bleu_and_meteor(has_wordnet: None) -> None:
    joined, apart = score("Red mug, old shelf.", "Red mug , old shelf ."), score("a, b", "a b")
    assert (joined.sentence_bleu4, joined.bleu4) == pytest.approx((100.0, 100.0))
    assert joined.meteor == pytest.approx(100 * (1 - 0.5 / 6**3))
    assert apart.meteor is not None
    assert apart.meteor < 90


# --- ROUGE, Dist


def test_rouge_is_the_longest_common_subsequence_of_its_manuals_sentences() -> None:
    found = score("The quick brown dog jumps on the log.", "The quick brown fox jumps over the lazy dog")
    assert found.rouge_l == pytest.approx(100 * 2 * 5 / (8 + 9))  # the quick brown jumps the


def test_rouge_compares_stems_in_order() -> None:
    found = score("mugs stand", "a mug stands")
    assert found.rouge_l == pytest.approx(100 * 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3))


def test_distinct_words_are_counted_over_the_whole_list() -> None:
    assert distinct_share(["a cup", "A cup", "a jug"], length=1) == pytest.approx(3 / 6)
    assert distinct_share(["a cup", "A cup", "a jug"], length=2) == pytest.approx(2 / 3)


def test_pairs_do_not_cross_from_one_answer_to_the_next() -> None:
    assert distinct_share(["cup", "jug"], length=2) == 0.0


# --- METEOR


def test_meteor_is_the_value_of_nltks_manual(has_wordnet: None) -> None:
    found = score(
        "It is a guide to action which ensures that the military always obeys the commands of the party",
        "It is a guide to action that ensures that the military will forever heed Party commands",
    )
    assert found.meteor == pytest.approx(69.44, abs=0.005)
    assert found.missing == {}
    assert "nltk:" in found.meteor_signature
    assert "wordnet:3.0" in found.meteor_signature


def test_meteor_counts_synonyms_as_the_real_wordnet_has_them(has_wordnet: None) -> None:
    found = score("the auto is red", "the car is crimson").meteor
    assert found == pytest.approx(100 * (1 - 0.5 / 4**3))


def test_meteor_is_the_mean_over_answers(has_wordnet: None) -> None:
    single = [score(*pair).meteor for pair in zip(ANSWERS, REFERENCES, strict=True)]
    found = score_texts(answers=ANSWERS, references=REFERENCES).meteor
    assert found == pytest.approx(sum(value for value in single if value is not None) / len(single))


def test_without_wordnet_meteor_is_empty_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here() -> None:
        raise DataError("METEOR needs WordNet: install it")

    monkeypatch.setattr(text_metrics, "open_wordnet", none_here)
    found = score_texts(answers=ANSWERS, references=REFERENCES)
    assert (found.meteor, found.meteor_signature) == (None, "")
    assert found.missing == {"meteor": "METEOR needs WordNet: install it"}
    assert found.bleu4 > 0
    assert found.rouge_l > 0


# --- all


def test_markers_are_stripped_before_texts_are_compared() -> None:
    plain = "Here is the red mug on its old shelf."
    marked = "Here is [OBJ]the red mug[SEG] on its old shelf."
    found = score(marked, plain)
    assert (found.bleu4, found.sentence_bleu4, found.rouge_l) == pytest.approx((100.0, 100.0, 100.0))
    assert asdict(found) == asdict(score(plain, plain)) == asdict(score(plain, marked))


def test_an_empty_answer_scores_zero_and_counts() -> None:
    found = score_texts(answers=["", "a b c d"], references=["p q r s", "a b c d"])
    assert found.answers == 2
    assert found.sentence_bleu4 == found.rouge_l == pytest.approx(50.0)
    nothing = score("[SEG]", "a b c d")
    assert (nothing.bleu4, nothing.sentence_bleu4, nothing.rouge_l, nothing.dist1, nothing.dist2) == (0, 0, 0, 0, 0)
    assert nothing.meteor in (0, None)


def test_lists_of_different_length_are_a_fault() -> None:
    with pytest.raises(ValueError, match="shorter"):
        score_texts(answers=["a", "b"], references=["a"])


def test_phrases_match_apart_from_case_article_and_order() -> None:
    answer = "[OBJ]the Red mug[SEG] and [OBJ]lamp[SEG]"
    assert same_phrases(answer=answer, targets=["lamp", "red mug"])
    assert not same_phrases(answer=answer, targets=["red mug"])
    assert not same_phrases(answer="the red mug", targets=["red mug"])

"""Made-up lineages for tests of gates, promotion and lineage."""

from __future__ import annotations

from tasks.registry.lineage import BenchmarkData, Lineage, Score, Settings

CIOU, PRECISION, ABSENT = "dialogues_own_ciou", "dialogues_own_precision_at_50", "queries_no_target_accuracy"
BENCHMARKS = {CIOU: "dialogues", PRECISION: "dialogues", ABSENT: "queries"}


def lineage(scores: dict[str, float], *, dialogues: str = "d", queries: str = "q") -> Lineage:
    """A lineage with these scores; `dialogues` and `queries` tell the test data apart."""
    return Lineage(
        commit="c" * 40,
        is_dirty=False,
        data="f" * 64,
        inputs={"data/split": "1.dir"},
        params=Settings(sha256="a" * 64, preset="tiny", changes={"stage2.steps": (900, 50)}, network="miras"),
        checkpoint_sha256="b" * 64,
        model_hash="e" * 64,
        test_data={
            "dialogues": BenchmarkData(sha256=dialogues, questions=3),
            "queries": BenchmarkData(sha256=queries, questions=2),
        },
        scores={name: Score(value=value, benchmark=BENCHMARKS[name]) for name, value in scores.items()},
    )

"""Where every stage's result lies. This class owns the file names; `params.yaml: paths` owns the folders."""

from __future__ import annotations

from pathlib import Path

from miras.config import Section


class Paths(Section):
    """One folder (or file) per stage, relative to the workspace."""

    ingest: str
    """Pictures and regions as read from the source."""
    generate: str
    """Dialogues as the teacher wrote them."""
    annotate: str
    """Regions and dialogues after people have drawn and corrected; as they were where none were asked."""
    check: str
    """Dialogues and regions that passed the checks, and the quarantine."""
    data_docs: str
    """The checks' reports as HTML."""
    split: str
    """Dialogues of each split."""
    card: str
    """The data set card with statistics and figures, for people."""
    backbones: str
    """Pinned or mini-trained public weights."""
    features: str
    """Outputs of the frozen encoders."""
    stage1: str
    """Weights after mask-text alignment."""
    stage2: str
    """Weights after dialogue tuning."""
    evaluate: str
    """Predictions and scores."""
    report: str
    """The report a person reads."""
    receipt: str
    """What was registered, and as which version (a JSON file)."""

    @property
    def pictures(self) -> Path:
        """Folder of picture files, upright RGB, named `<image_id>.<png|jpg>`."""
        return Path(self.ingest) / "pictures"

    @property
    def picture_table(self) -> Path:
        """JSONL of `Picture`."""
        return Path(self.ingest) / "pictures.jsonl"

    @property
    def region_table(self) -> Path:
        """JSONL of `Region`, as ingested."""
        return Path(self.ingest) / "regions.jsonl"

    @property
    def rejected_table(self) -> Path:
        """JSONL of source records that could not be read, each with its reason."""
        return Path(self.ingest) / "rejected.jsonl"

    @property
    def source_dialogues(self) -> Path:
        """JSONL of `Dialogue` that the sources came with."""
        return Path(self.ingest) / "dialogues.jsonl"

    @property
    def source_originals(self) -> Path:
        """JSONL of `Original`: source records of those dialogues whose export needs them."""
        return Path(self.ingest) / "originals.jsonl"

    @property
    def generated_dialogues(self) -> Path:
        """JSONL of `Dialogue`, as generated."""
        return Path(self.generate) / "dialogues.jsonl"

    @property
    def generated_regions(self) -> Path:
        """JSONL of `Region` without masks: what a teacher's dialogues lead to and nobody has drawn yet."""
        return Path(self.generate) / "regions.jsonl"

    @property
    def annotated_dialogues(self) -> Path:
        """JSONL of `Dialogue`, corrected by people."""
        return Path(self.annotate) / "dialogues.jsonl"

    @property
    def annotated_regions(self) -> Path:
        """JSONL of `Region`, ingested and generated ones."""
        return Path(self.annotate) / "regions.jsonl"

    @property
    def checked_dialogues(self) -> Path:
        """JSONL of `Dialogue` that passed."""
        return Path(self.check) / "dialogues.jsonl"

    @property
    def checked_regions(self) -> Path:
        """JSONL of `Region` that passed."""
        return Path(self.check) / "regions.jsonl"

    @property
    def quarantine(self) -> Path:
        """JSONL of failed records: table, record id, reasons, record."""
        return Path(self.check) / "quarantine.jsonl"

    @property
    def check_summary(self) -> Path:
        """JSON: rows in, passed, quarantined, per rule."""
        return Path(self.check) / "summary.json"

    def split_dialogues(self, split: str) -> Path:
        """JSONL of `Dialogue` of one split: train, val or test."""
        return Path(self.split) / f"{split}.jsonl"

    @property
    def split_summary(self) -> Path:
        """JSON: pictures, dialogues and turns per split."""
        return Path(self.split) / "summary.json"

    @property
    def questions(self) -> Path:
        """JSONL of `Question`: every benchmark's turns with their truth."""
        return Path(self.evaluate) / "questions.jsonl"

    @property
    def predictions(self) -> Path:
        """JSONL of `Prediction`: every benchmark, model and history mode."""
        return Path(self.evaluate) / "predictions.jsonl"

    @property
    def scores(self) -> Path:
        """JSON: the metrics file DVC shows; headline numbers flat, tables nested."""
        return Path(self.evaluate) / "scores.json"

    @property
    def public_evaluations(self) -> Path:
        """Folder with an evaluation per public data set."""
        return Path(self.evaluate) / "benchmarks"

    @property
    def report_page(self) -> Path:
        """The report, one HTML file that opens offline."""
        return Path(self.report) / "report.html"

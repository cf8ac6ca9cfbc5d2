"""The registered model as MLflow loads it (models-from-code: MLflow stores this file, not a pickle).

Self-contained but for the package `miras`, which travels with the model.

Input, one row per picture: `image`, the picture file's bytes in base64; `questions`, a JSON list of the turns
of one dialogue; optionally `refers_to`, a JSON list with, for each question, the indices of earlier ones whose masks
it speaks of (networks with mask memory). Output: `answers`, a JSON list of plain texts; `masks`, a JSON list with,
for each answer, a list of `{"phrase": ..., "rle": {"size": [height, width], "counts": ...}}` (COCO run lengths,
pixels of the upright picture).
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from miras.dialogue.masks import encode
from miras.dialogue.rendering import plain_text
from miras.errors import DataError, MirasError
from miras.open_dialogue import check_question


class MirasModel(PythonModel):
    """Answers the questions of a dialogue about a picture, with masks."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the exported model; torch is imported only here."""
        from miras.pretrained import Miras

        self.model = Miras.from_pretrained(context.artifacts["model"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of answers and masks per row of picture and questions."""
        references = model_input.get("refers_to", pd.Series([None] * len(model_input)))
        rows = zip(model_input["image"], model_input["questions"], references, strict=True)
        found = []
        for number, (image, questions, refers_to) in enumerate(rows):
            try:
                found.append(self._respond(image, questions, refers_to))
            except MirasError as error:  # anything else MLflow answers with a traceback
                raise MlflowException(f"row {number}: {error}", error_code=INVALID_PARAMETER_VALUE) from None
        return pd.DataFrame(found, columns=["answers", "masks"])

    def _respond(self, image: str, questions: str, refers_to: str | None) -> tuple[str, str]:
        try:
            picture = base64.b64decode(image, validate=True)
        except ValueError:
            raise DataError("image: not base64. Send the bytes of a picture file in base64.") from None
        asked = [check_question(text) for text in _list_in(questions, "questions")]
        references = _list_in(refers_to, "refers_to") if isinstance(refers_to, str) else []
        _check_references(references, len(asked))
        responses = self.model.ask(picture, asked, refers_to=references)
        answers = [plain_text(response.answer) for response in responses]
        masks = [
            [{"phrase": group.phrase, "rle": encode(group.mask).model_dump()} for group in response.groups]
            for response in responses
        ]
        return json.dumps(answers), json.dumps(masks)


def _list_in(text: str, name: str) -> list[Any]:
    """The JSON list in a column."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise DataError(f"{name}: expected a JSON list, found {text[:80]!r}.")
    return found


def _check_references(references: list[Any], count: int) -> None:
    """Raises DataError unless there is, for each of `count` questions, a list of earlier ones; none at all is fine."""
    is_sound = len(references) in (0, count) and all(
        isinstance(earlier, list) and all(type(place) is int and 0 <= place < number for place in earlier)
        for number, earlier in enumerate(references)
    )
    if not is_sound:
        raise DataError(
            f"refers_to: expected for each of the {count} questions a list of earlier ones, counted from 0, such as "
            "[[], [0]]."
        )


set_model(MirasModel())

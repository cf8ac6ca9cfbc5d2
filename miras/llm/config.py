"""Which model is asked, and where. The first decides answers and belongs in params.yaml, the second does not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from miras.config import Section, parse_sections, read_yaml

SERVICE = Path("infra/teacher.yaml")


class ModelConfig(Section):
    """All that changes an answer."""

    provider: Literal["openai", "replay"]
    """openai: any server that speaks OpenAI's chat completions; replay: answers recorded before, never the network."""
    model: str = Field(min_length=1)
    """Name as the server knows it, such as "gpt-4o-2024-08-06"; with a date, so that it stays the same model."""
    temperature: float | None = Field(ge=0, le=2)
    """0: the likeliest answer; null: not sent, for models that refuse it."""
    seed: int | None
    """Sent with each call; servers treat it as a wish. null: not sent."""
    max_answer_tokens: int = Field(gt=0)
    """Longest answer; one that is cut off is asked once more with twice as many."""
    max_repairs: int = Field(ge=0)
    """How often a faulty answer is asked again before it goes to quarantine."""
    schema_support: Literal["json_schema", "json_object", "none"]
    """What the server can promise: answers of our schema, any JSON object, or nothing. Unless it is json_schema, the
    schema stands in the text."""
    recorded: str = ""
    """Folder that `replay` answers from: the cache folder of an earlier run."""

    @model_validator(mode="after")
    def _replay_has_a_folder(self) -> ModelConfig:
        if (self.provider == "replay") != bool(self.recorded):
            raise ValueError("recorded must name a folder for provider replay, and be empty for any other")
        return self


class ServiceConfig(Section):
    """Where and how the model is asked; no answer depends on it."""

    base_url: str = ""
    """Address of the server's API, such as "http://localhost:8000/v1"; empty: OpenAI's own."""
    api_key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; empty for servers without one. The key stands nowhere else."""
    concurrency: int = Field(default=16, ge=1, le=1000)
    """Calls under way at a time; with use_batch_api: batches."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Of a whole call."""
    max_retries: int = Field(default=6, ge=0)
    """Of a call that failed for a passing reason."""
    budget_usd: float | None = Field(default=None, ge=0)
    """Most that may ever be spent on one cache folder, over all runs; null: no limit."""
    budget_tokens: int | None = Field(default=None, ge=0)
    """The same in tokens, of prompts and answers together."""
    usd_per_million_prompt_tokens: float = Field(default=0.0, ge=0)
    """Price; with use_batch_api that of the batch service."""
    usd_per_million_answer_tokens: float = Field(default=0.0, ge=0)
    """Price; with use_batch_api that of the batch service."""
    use_batch_api: bool = False
    """Submit files of requests that are answered within a day, usually at half the price."""

    @model_validator(mode="after")
    def _budget_has_prices(self) -> ServiceConfig:
        if self.budget_usd is not None and not (
            self.usd_per_million_prompt_tokens or self.usd_per_million_answer_tokens
        ):
            raise ValueError("budget_usd needs usd_per_million_prompt_tokens and usd_per_million_answer_tokens")
        return self


def read_service(path: Path = SERVICE) -> ServiceConfig:
    """Where and how language models are asked; raises ConfigError naming every mistake in the file."""
    found: ServiceConfig = parse_sections({"teacher": read_yaml(path)}, {"teacher": ServiceConfig}, source=str(path))[
        "teacher"
    ]
    return found

"""Encoding for the feature store: what each table holds of a row, and the work shared out over processes.

A process alone: `python -m miras.model.feature_encoding plan.json 0 2` makes every second shard of the plan.
Letters: B rows, S encoder input side, N image tokens, g SAM embedding side, Cl Ch D channels.
"""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel
from torch import Tensor
from tqdm import tqdm

from miras.dialogue import masks
from miras.dialogue.records import Rle
from miras.errors import DataError
from miras.files import write_json
from miras.launch.job import JobSpec, refuse_job_elsewhere, run_job
from miras.launch.process import share_main, something_is_kept
from miras.launch.profiles import Launch, open_place
from miras.model import vision
from miras.model.allocator import keep_freed_memory
from miras.model.devices import cpu_threads
from miras.model.feature_shards import shard_name, write_shard
from miras.model.memory import encode_regions, region_crop
from miras.model.vision import VisionEncoders
from miras.model.weights import Backbones
from miras.progress import progress

Table = Literal["pictures", "sam", "regions"]
TABLES: tuple[Table, ...] = ("pictures", "sam", "regions")


class Row(BaseModel):
    """One thing to encode."""

    key: str
    """Hash of its content: the picture file's sha256, or for a region that and its mask."""
    file_name: str
    sha256: str
    """Of the picture file."""
    mask: Rle | None = None
    """Of a region."""


class Job(BaseModel):
    """One shard to make."""

    table: Table
    folder: str
    rows: list[Row]

    @property
    def path(self) -> Path:
        """Of the shard; once it exists, the job is done."""
        return Path(self.folder) / shard_name([row.key for row in self.rows])


class Plan(BaseModel):
    """All that is to be encoded in one run of the stage."""

    backbones: str
    pictures: str
    """Folder of the picture files."""
    batch_size: int
    jobs: list[Job]


def table_version(table: Table, fingerprint: str) -> str:
    """Hash of all that decides a table's values besides the row: the encoders and the code around them."""
    code = [inspect.getsource(vision), inspect.getsource(ENCODE[table])]
    if table == "regions":
        code += [inspect.getsource(region_crop), inspect.getsource(encode_regions)]
    return hashlib.sha256("\n".join([fingerprint, *code]).encode()).hexdigest()[:16]


def encode(plan: Plan, *, work: Path, launch: Launch) -> None:
    """Makes every shard of the plan, here or in as many processes as the launch profile says, where it says.

    Each computes on one thread unless the profile says otherwise: torch's sums depend on it, and so the same bytes come
    out whatever the number of processes.

    Raises:
        DataError: a picture is missing or is not the one that was ingested, or a value is too large for float16.
        MirasError: a process failed; its own message stands above.
    """
    processes = min(launch.number_of_shares(), len(plan.jobs))
    if not processes:
        return
    threads = launch.threads or 1
    with progress(total=sum(len(job.rows) for job in plan.jobs), name="features", unit="row") as bar:
        if launch.place == "local" and processes == 1:
            refuse_job_elsewhere(work, here="local")
            with cpu_threads(threads):
                encode_share(plan, share=0, processes=1, done=bar.update)
            return
        request = work / "plan.json"
        write_json(request, plan.model_dump())
        stores = {Path(job.folder) for job in plan.jobs}
        reads = (*Backbones(Path(plan.backbones)).places(), Path(plan.pictures), *stores)
        spec = JobSpec("features", __spec__.name, request, "shares", processes, threads, reads)
        run_job(spec, open_place(launch), watch=lambda: _show_finished(plan, bar))


def encode_share(plan: Plan, *, share: int, processes: int, done: Callable[[int], object]) -> None:
    """Makes the shards of one process; `done` hears of every batch how many rows it had."""
    keep_freed_memory()
    torch.set_flush_denormal(True)
    encoders = Backbones(Path(plan.backbones)).encoders()
    if torch.cuda.is_available():
        encoders.to(f"cuda:{share % torch.cuda.device_count()}")
    for job in plan.jobs[share::processes]:
        if job.path.exists():  # this share was started again
            done(len(job.rows))
            continue
        batches = []
        for start in range(0, len(job.rows), plan.batch_size):
            rows = job.rows[start : start + plan.batch_size]
            batches.append(_encode_batch(encoders, job.table, rows, folder=Path(plan.pictures)))
            done(len(rows))
        parts = {part: torch.cat([batch[part] for batch in batches]) for part in batches[0]}
        write_shard(Path(job.folder), [row.key for row in job.rows], parts)
        something_is_kept()


def _encode_batch(encoders: VisionEncoders, table: Table, rows: Sequence[Row], *, folder: Path) -> dict[str, Tensor]:
    """Part -> float16 [B, ...] on the CPU."""
    pictures = [open_rgb(folder / row.file_name, sha256=row.sha256) for row in rows]
    parts = {part: value.half().cpu() for part, value in ENCODE[table](encoders, pictures, rows).items()}
    for part, value in parts.items():
        if not value.isfinite().all():
            raise DataError(
                f"{folder}: an encoder gave a value of {part} that float16 cannot hold, for one of "
                f"{', '.join(row.file_name for row in rows)}. Remove that picture, or use other encoders."
            )
    return parts


def open_rgb(path: Path, *, sha256: str | None = None) -> Image.Image:
    """A stored picture, upright RGB as `ingest` left it.

    Args:
        path: of the file.
        sha256: what its bytes must hash to; None: not looked at.

    Raises:
        DataError: it is missing, or its hash is another.
    """
    remedy = "Run `dvc repro --force --single-item ingest`."
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. {remedy}") from None
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(f"{path}: not the picture that was ingested: sha256 {found[:12]}, not {sha256[:12]}. {remedy}")
    with Image.open(io.BytesIO(content)) as opened:
        return opened.convert("RGB")


def _encode_pictures(
    encoders: VisionEncoders, pictures: Sequence[Image.Image], rows: Sequence[Row]
) -> dict[str, Tensor]:
    """`clip` [B, N, Cl] and, with a second encoder, `high` [B, Ch, grid, grid]."""
    del rows
    clip, high = encoders.language_side(pictures)
    return {"clip": clip} if high is None else {"clip": clip, "high": high}


def _encode_sam(encoders: VisionEncoders, pictures: Sequence[Image.Image], rows: Sequence[Row]) -> dict[str, Tensor]:
    """`sam` [B, D, g, g]."""
    del rows
    return {"sam": encoders.mask_side(pictures)}


def _encode_regions(
    encoders: VisionEncoders, pictures: Sequence[Image.Image], rows: Sequence[Row]
) -> dict[str, Tensor]:
    """`region` [B, Cl], CLIP's CLS vectors of the blacked-out crops."""
    return {"region": encode_regions(encoders, pictures, [_mask(row) for row in rows])}


def _mask(row: Row) -> np.ndarray:
    assert row.mask is not None
    return masks.decode(row.mask)


ENCODE: dict[Table, Callable[[VisionEncoders, Sequence[Image.Image], Sequence[Row]], dict[str, Tensor]]] = {
    "pictures": _encode_pictures,
    "sam": _encode_sam,
    "regions": _encode_regions,
}


def _show_finished(plan: Plan, bar: tqdm) -> None:
    bar.update(sum(len(job.rows) for job in plan.jobs if job.path.exists()) - bar.n)


def make_share(path: Path, share: int, processes: int) -> None:
    """Makes one process's share of a stored plan."""
    plan = Plan.model_validate_json(path.read_text("utf-8"))
    encode_share(plan, share=share, processes=processes, done=lambda rows: None)


if __name__ == "__main__":
    share_main(make_share)

"""Names by which several workspaces share one Prefect server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.servers import services
from tasks.workspace_name import SUFFIX_VARIABLE, workspace_name


def test_two_folders_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for place in ("a/My Clone (1)", "b/My Clone (1)", "c/日本"):
        (tmp_path / place).mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        names.append(workspace_name())
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)  # what Prefect takes as a key
    assert names[0].startswith("my-clone-1-")


def test_on_its_own_server_a_workspace_has_plain_names(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_PORT", "4711")
    monkeypatch.setenv("PWD", "/elsewhere")  # `make -C`
    assert services.deploy_variables()[SUFFIX_VARIABLE] == ""
    assert services.deploy_variables()["PWD"] == str(workspace)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4711/api/")  # what `make deploy` says to export
    variables = services.deploy_variables()
    assert variables[SUFFIX_VARIABLE] == ""
    assert variables["PREFECT_API_URL"] == "http://127.0.0.1:4711/api"


def test_on_a_shared_server_names_queues_and_the_worker_are_its_own(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    monkeypatch.setenv(services.POOL_VARIABLE, "slurm-login")
    variables = services.deploy_variables()
    suffix = variables[SUFFIX_VARIABLE]
    assert suffix == f"-{workspace_name()}"
    assert variables["PREFECT_API_URL"] == "http://prefect.example:4200/api"
    command = " ".join(services.worker(variables).command)
    assert command.endswith(
        f"--pool slurm-login --work-queue workspace{suffix} --work-queue beside{suffix} --name slurm-login{suffix}"
    )

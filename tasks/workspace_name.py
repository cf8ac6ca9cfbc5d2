"""How the deployments of several workspaces live side by side on one Prefect server.

On the server of its own (`make deploy`) a workspace has deployments with plain names. On a shared one (PREFECT_API_URL
is set) each name, and the work queue that runs one at a time, end in the workspace's own name.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from pathlib import Path

SUFFIX_VARIABLE = "MIRAS_DEPLOY_SUFFIX"
"""Told to prefect.yaml, to the worker and so to each run; empty on the workspace's own server."""


def workspace_name() -> str:
    """A name that no other folder of any machine has: the folder's, then a short hash. Only a-z, 0-9 and dashes."""
    here = Path.cwd()
    readable = re.sub(r"[^a-z0-9]+", "-", here.name.lower()).strip("-")
    identity = hashlib.sha256(f"{platform.node()}:{here}".encode()).hexdigest()[:6]
    return f"{readable}-{identity}" if readable else identity


def suffix() -> str:
    """What the names of this process's deployments end in."""
    return os.environ.get(SUFFIX_VARIABLE, "")

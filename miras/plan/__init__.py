"""`miras plan`: what a run needs in parameters, memory, time and disk, before anything starts."""

from miras.plan.planning import Plan, plan
from miras.plan.table import render

__all__ = ["Plan", "plan", "render"]

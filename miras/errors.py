"""The errors miras raises for what a user, a file, the network or a cluster can cause.

Every message says where, what was found, what was expected and what to do. A command prints the message
alone; a traceback means a fault of ours.
"""


class MirasError(Exception):
    """Base of all errors with a message meant for the user."""

    can_retry = False  # whether running the same again can help


class ConfigError(MirasError):
    """params.yaml, a preset or a launch profile is wrong."""


class DataError(MirasError):
    """A picture, an annotation, a dialogue or a stored artifact is wrong."""


class TrainingDivergedError(MirasError):
    """The loss is not finite."""


class WorkspaceBusyError(MirasError):
    """Another run holds this workspace."""


class DiskFullError(MirasError):
    """No space left; what was finished is kept."""


class ServiceUnavailableError(MirasError):
    """MLflow, Prefect or another server does not answer."""

    can_retry = True


class JobFailedError(MirasError):
    """A job on a cluster or in the cloud failed, was cancelled or was lost."""


class StoppedEarlyError(MirasError):
    """A process of a job saved its state and stopped, as it was asked to; the job goes on later."""


class StarterGoneError(KeyboardInterrupt):
    """Who started this stage is gone: the stage ends, a job of its own on a cluster goes on."""

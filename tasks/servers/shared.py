"""The servers that a group shares, on one host without containers: PostgreSQL, MLflow and Prefect, with passwords.

    python -m tasks.servers.shared secrets    make infra/shared/servers.env with strong passwords
    python -m tasks.servers.shared start      start what does not run yet, and wait until it answers
    python -m tasks.servers.shared status     what runs, and where
    python -m tasks.servers.shared stop       stop what was started here, and nothing else

The S3 store is somebody else's: AWS, or a server of your own. Everything is said in docs/shared-services.md.
"""

from __future__ import annotations

import argparse
import configparser
import fcntl
import importlib.util
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from miras.errors import ConfigError, MirasError, ServiceUnavailableError
from miras.files import finished_file
from tasks import environment
from tasks.servers import postgres
from tasks.servers.services import Service, answers, start, stop

SETTINGS = Path("infra") / "shared" / "servers.env"
EXAMPLE = SETTINGS.with_name("servers.env.example")
MADE = (  # settings that `secrets` fills with random text
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "PREFECT_SERVER_API_AUTH_STRING",
    "POSTGRES_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",  # of the compose file's own store; another store has given you one
)
DATABASES = ("mlflow", "mlflow_users", "prefect")

_SECRET_BYTES = 24
_STOP_S = 20.0


@dataclass(frozen=True)
class Settings:
    """What servers.env says."""

    values: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """A setting that has to be there.

        Raises:
            ConfigError: it is missing or empty.
        """
        value = self.values.get(name, "")
        if not value:
            raise ConfigError(
                f"{SETTINGS}: {name} is empty. Fill it in; `python -m tasks.servers.shared secrets` makes a whole file."
            )
        return value

    @property
    def folder(self) -> Path:
        """Database, logs and numbers of the processes."""
        return Path(self["SERVERS_FOLDER"]).expanduser().resolve()

    @property
    def socket(self) -> Path:
        """Folder of PostgreSQL's socket: the one way to it, for this user alone."""
        return self.folder / "postgres"

    def address(self, port: str) -> str:
        """Where a server answers on this host."""
        host = self["SERVERS_HOST"]
        return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self[port]}"

    def database(self, name: str, driver: str) -> str:
        """SQLAlchemy's address of a database; without a password."""
        return f"postgresql+{driver}:///{name}?host={self.socket}"


@dataclass(frozen=True)
class SharedService(Service):
    """A server whose files lie in the folder of the shared servers."""

    folder: Path = Path()
    takes_calls: Callable[[], bool] | None = None
    """Whether it is ready, where HTTP does not tell."""

    @property
    def process_file(self) -> Path:
        """JSON: which process it is."""
        return self.folder / f"{self.name}.json"

    @property
    def log_file(self) -> Path:
        """What it prints."""
        return self.folder / f"{self.name}.log"

    def is_ready(self) -> bool:
        """Whether our process runs and answers."""
        return super().is_ready() and (self.takes_calls is None or self.takes_calls())


def read_settings(file: Path = SETTINGS) -> Settings:
    """The settings of the shared servers.

    Raises:
        ConfigError: there is no such file, or others may read it.
    """
    if not file.exists():
        raise ConfigError(f"{file}: not there. `python -m tasks.servers.shared secrets` makes it.")
    if file.stat().st_mode & 0o077:
        raise ConfigError(f"{file}: others on this machine can read the passwords in it. Run `chmod 600 {file}`.")
    return Settings({name: value or "" for name, value in dotenv_values(file, interpolate=False).items()})


def make_secrets(file: Path = SETTINGS) -> None:
    """Writes the settings with new passwords; a file that is there stays as it is.

    Raises:
        ConfigError: there is one already, or this is not the repository's folder.
    """
    if file.exists():
        raise ConfigError(f"{file}: there already, and left as it is. Move it away first to make new passwords.")
    if not EXAMPLE.exists():
        raise ConfigError(f"{EXAMPLE}: not there. Run this in the folder of the repository.")
    lines = []
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        name = line.partition("=")[0]
        lines.append(f"{name}={_new_secret(name)}" if name in MADE else line)
    with finished_file(file) as aside:
        aside.touch(mode=0o600)
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _new_secret(name: str) -> str:
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    return f"miras:{secret}" if name == "PREFECT_SERVER_API_AUTH_STRING" else secret


def database_server(settings: Settings) -> SharedService:
    """The database of both servers. It listens on no port, only on a socket in its own folder."""
    place = settings.socket
    command = postgres.server_command(place)
    return SharedService("postgres", command, folder=settings.folder, takes_calls=lambda: postgres.is_ready(place))


def mlflow_server(settings: Settings) -> SharedService:
    """MLflow, asking for name and password."""
    url = settings.address("MLFLOW_PORT")
    where = ("--host", settings["SERVERS_HOST"], "--port", settings["MLFLOW_PORT"])
    command = (sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", *where)
    return SharedService("mlflow", command, url, f"{url}/health", folder=settings.folder)


def prefect_server(settings: Settings) -> SharedService:
    """Prefect, asking for name and password."""
    url = settings.address("PREFECT_PORT")
    where = ("--host", settings["SERVERS_HOST"], "--port", settings["PREFECT_PORT"])
    command = (sys.executable, "-m", "prefect", "server", "start", *where, "--analytics-off")
    return SharedService("prefect", command, url, f"{url}/api/health", folder=settings.folder)


def mlflow_variables(settings: Settings) -> dict[str, str]:
    """What MLflow's server needs; passwords go by environment, since command lines are seen by all."""
    return {
        **_store_variables(settings),
        "MLFLOW_BACKEND_STORE_URI": settings.database("mlflow", "psycopg2"),
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{settings['S3_BUCKET']}/mlflow",
        "MLFLOW_AUTH_CONFIG_PATH": str(settings.folder / "mlflow_users.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": settings["MLFLOW_AUTH_ADMIN_USERNAME"],
        "MLFLOW_AUTH_ADMIN_PASSWORD": settings["MLFLOW_AUTH_ADMIN_PASSWORD"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": settings["MLFLOW_FLASK_SERVER_SECRET_KEY"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": settings["MLFLOW_SERVER_ALLOWED_HOSTS"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a second process of 235 MB that we have no use for
        "MLFLOW_TRACKING_URI": settings.address("MLFLOW_PORT"),
    }


def prefect_variables(settings: Settings) -> dict[str, str]:
    """What Prefect's server needs."""
    return {
        "PREFECT_HOME": str(settings.folder / "prefect_home"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": settings.database("prefect", "asyncpg"),
        "PREFECT_SERVER_API_AUTH_STRING": settings["PREFECT_SERVER_API_AUTH_STRING"],
        "PREFECT_API_AUTH_STRING": settings["PREFECT_SERVER_API_AUTH_STRING"],  # its own services ask the API, too
        "PREFECT_API_URL": f"{settings.address('PREFECT_PORT')}/api",
        "PREFECT_SERVER_UI_API_URL": settings["PREFECT_UI_API_URL"],
    }


def _store_variables(settings: Settings) -> dict[str, str]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")
    found = {name: settings.values.get(name, "") for name in names}
    if found["AWS_ENDPOINT_URL"]:
        found["AWS_EC2_METADATA_DISABLED"] = "true"  # a store of one's own has no roles to ask for
    return {name: value for name, value in found.items() if value}


def start_all(settings: Settings) -> None:
    """Starts what does not run yet, the database first.

    Raises:
        ConfigError: a setting or a package is missing.
        ServiceUnavailableError: a server did not start, or the store does not answer.
    """
    if importlib.util.find_spec("flask_wtf") is None:
        raise ConfigError("MLflow asks for passwords only with Flask-WTF: `pip install -c constraints.txt flask-wtf`.")
    for_mlflow, for_prefect = mlflow_variables(settings), prefect_variables(settings)
    make_bucket(settings)
    settings.folder.mkdir(parents=True, exist_ok=True)
    with _alone(settings):
        postgres.make_folder(settings.socket)
        _start(database_server(settings), {})
        postgres.make_databases(settings.socket, DATABASES)
        _write_users_file(settings)
        _start(mlflow_server(settings), for_mlflow)
        _start(prefect_server(settings), for_prefect)
    print(_for_people(settings))


def _start(service: SharedService, variables: Mapping[str, str]) -> None:
    began = time.monotonic()
    _refuse_taken_port(service)
    if service.is_ready():
        print(f"{service.name} runs already")
        return
    start(service, variables)
    print(f"{service.name} answers after {time.monotonic() - began:.1f} s")


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Two people who start or stop at the same moment do it one after the other."""
    with (settings.folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_bucket(settings: Settings) -> None:
    """Makes the bucket where it is missing.

    Raises:
        ServiceUnavailableError: the store does not answer, or does not let us in.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket = settings["S3_BUCKET"]
    variables = _store_variables(settings)
    store = boto3.client(
        "s3",
        endpoint_url=variables.get("AWS_ENDPOINT_URL"),
        region_name=variables.get("AWS_DEFAULT_REGION"),
        aws_access_key_id=variables.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=variables.get("AWS_SECRET_ACCESS_KEY"),
    )
    try:
        if bucket not in {found["Name"] for found in store.list_buckets()["Buckets"]}:
            store.create_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        where = variables.get("AWS_ENDPOINT_URL", "AWS")
        raise ServiceUnavailableError(
            f"The S3 store ({where}) does not give the bucket {bucket}: {error}\n"
            f"Look at AWS_... and S3_BUCKET in {SETTINGS}."
        ) from error


def _write_users_file(settings: Settings) -> None:
    """MLflow reads where its users stand, and what each may do, from a file alone."""
    parser = configparser.ConfigParser(interpolation=None)
    parser["mlflow"] = {
        "default_permission": "EDIT",  # a group works on one experiment and one registered model
        "database_uri": settings.database("mlflow_users", "psycopg2"),
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    with finished_file(settings.folder / "mlflow_users.ini") as aside, aside.open("w", encoding="utf-8") as file:
        parser.write(file)


def _refuse_taken_port(service: SharedService) -> None:
    if service.health and service.owner() is None and answers(service.health):
        raise ServiceUnavailableError(
            f"{service.url} is taken by another program; {service.name} needs it. "
            f"Set {service.name.upper()}_PORT in {SETTINGS} to a free port."
        )


def stop_all(settings: Settings) -> None:
    """Stops what was started here, the database last."""
    if not settings.folder.exists():
        return
    with _alone(settings):
        stop(prefect_server(settings))
        stop(mlflow_server(settings))
        database = database_server(settings)
        owner = database.owner()
        if owner:
            print(f"stopping {database.name} (process {owner.pid})", file=sys.stderr)
            os.kill(owner.pid, signal.SIGINT)  # "fast": it writes everything and waits for no client
            end = time.monotonic() + _STOP_S
            while owner.is_alive() and time.monotonic() < end:
                time.sleep(0.1)
        stop(database)


def show_status(settings: Settings) -> bool:
    """Says of each server whether it answers; whether all do."""
    servers = (database_server(settings), mlflow_server(settings), prefect_server(settings))
    for service in servers:
        owner = service.owner()
        state = "answers" if service.is_ready() else "does not answer" if owner else "does not run"
        print(f"{service.name:10} {state:16} {service.url or settings.socket}   log: {service.log_file}")
    return all(service.is_ready() for service in servers)


def _for_people(settings: Settings) -> str:
    return f"""
What everybody sets in their shell (the passwords stand in {SETTINGS}):
  export MLFLOW_TRACKING_URI={settings.address("MLFLOW_PORT")}
  export MLFLOW_TRACKING_USERNAME={settings["MLFLOW_AUTH_ADMIN_USERNAME"]} MLFLOW_TRACKING_PASSWORD=...
  export PREFECT_API_URL={settings.address("PREFECT_PORT")}/api PREFECT_API_AUTH_STRING=...
  dvc remote add --local --default shared s3://{settings["S3_BUCKET"]}/dvc     and AWS_... for the store"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts, stops or shows the shared servers; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.servers.shared", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("secrets", "start", "status", "stop"))
    parser.add_argument("--settings", type=Path, default=SETTINGS, help=f"default: {SETTINGS}")
    options = parser.parse_args(arguments)
    os.environ.update({**environment.NO_TELEMETRY, "MLFLOW_LOGGING_LEVEL": "WARNING"})
    try:
        if options.action == "secrets":
            make_secrets(options.settings)
            print(f"{options.settings} is there, with new passwords. Now set the store in it.")
            return 0
        settings = read_settings(options.settings)
        if options.action == "start":
            start_all(settings)
        elif options.action == "stop":
            stop_all(settings)
        else:
            return 0 if show_status(settings) else 1
    except MirasError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

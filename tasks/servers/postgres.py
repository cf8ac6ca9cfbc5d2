"""PostgreSQL in a folder of its own, for one host: no port and no password, only a socket.

The users of the operating system are its users; the folder (mode 700) decides who reaches it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from miras.errors import ConfigError, ServiceUnavailableError

_DEBIAN = Path("/usr/lib/postgresql")  # one folder per version; Debian keeps the programs off PATH
_SUPERUSER = "postgres"  # of Debian's package: PostgreSQL does not run as root
_MAX_SOCKET_CHARACTERS = 107


def server_command(place: Path) -> tuple[str, ...]:
    """What runs the server of this folder in the foreground."""
    return (*_as_database_user(), _program("postgres", place), "-D", str(_data(place)), "-k", str(place), "-h", "")


def is_ready(place: Path) -> bool:
    """Whether the server of this folder takes connections."""
    done = subprocess.run([_program("pg_isready", place), "-q", "-h", str(place)], check=False)
    return done.returncode == 0


def make_folder(place: Path) -> None:
    """Makes the data folder, once.

    Raises:
        ConfigError: PostgreSQL is not installed, or the path is too long for a socket.
        ServiceUnavailableError: `initdb` failed.
    """
    if len(str(place / ".s.PGSQL.5432")) > _MAX_SOCKET_CHARACTERS:
        raise ConfigError(f"{place} is too long a path for PostgreSQL's socket. Name a shorter SERVERS_FOLDER.")
    if _data(place).exists():
        return
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _as_database_user():
        shutil.chown(place, _SUPERUSER, _SUPERUSER)
    aside = place / "data.partial"
    shutil.rmtree(aside, ignore_errors=True)
    _call(place, "initdb", "-D", str(aside), "--auth=peer", "--encoding=UTF8", "--locale=C.UTF-8")
    os.replace(aside, _data(place))


def make_databases(place: Path, names: Iterable[str]) -> None:
    """Makes the databases that are missing; the server has to run.

    Raises:
        ServiceUnavailableError: it does not take them.
    """
    if _as_database_user() and not _ask(place, "SELECT 1 FROM pg_roles WHERE rolname = 'root'"):
        _ask(place, "CREATE ROLE root LOGIN SUPERUSER")
    for name in names:
        if not _ask(place, f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            _ask(place, f"CREATE DATABASE {name}")


def _data(place: Path) -> Path:
    return place / "data"


def _ask(place: Path, statement: str) -> str:
    return _call(place, "psql", "-h", str(place), "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-Atc", statement)


def _call(place: Path, program: str, *words: str) -> str:
    command = [*_as_database_user(), _program(program, place), *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        hint = ""
        if _as_database_user():
            hint = f"\nAs root, PostgreSQL runs as the user {_SUPERUSER}, who must be able to enter {place.parent}."
        raise ServiceUnavailableError(f"PostgreSQL's `{program}` failed:\n{done.stdout}{done.stderr}{hint}")
    return done.stdout.strip()


def _as_database_user() -> tuple[str, ...]:
    """Words before a command of PostgreSQL's: root hands it to the user of Debian's package."""
    if os.getuid() != 0:
        return ()
    return ("setpriv", f"--reuid={_SUPERUSER}", f"--regid={_SUPERUSER}", "--clear-groups")


def _program(name: str, place: Path) -> str:
    """A program of the version that made the folder, else of the newest.

    Raises:
        ConfigError: it is not installed.
    """
    marker = _data(place) / "PG_VERSION"
    version = marker.read_text(encoding="ascii").strip() if marker.exists() else ""
    versions = sorted(_DEBIAN.glob(f"{version or '*'}/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if not found:
        package = f"postgresql-{version}" if version else "postgresql"
        raise ConfigError(f"PostgreSQL's `{name}` is not installed. Debian, Ubuntu: apt-get install {package}")
    return found

"""Whether Prefect's server lets us in: asked before anything starts, since its health page answers everybody."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

from miras.errors import ConfigError
from tasks.environment import shown_address

_TIMEOUT_S = 20.0
_REFUSED = (401, 403)


def check_prefect_access(api_url: str) -> None:
    """Asks the server for something that needs the password.

    Args:
        api_url: the address of the API, as in PREFECT_API_URL.

    Raises:
        ConfigError: the server does not take our password, or wants one and there is none.
    """
    if PREFECT_API_KEY.value():  # of a server that we did not set up, which knows other ways in
        return
    request = urllib.request.Request(f"{api_url}/admin/version")
    password = PREFECT_API_AUTH_STRING.value()
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(password.encode()).decode("ascii"))
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        if error.code not in _REFUSED:
            return
        found = "does not take the name and password of PREFECT_API_AUTH_STRING" if password else "asks for a password"
        raise ConfigError(
            f"The Prefect server at {shown_address(api_url)} {found}. `export PREFECT_API_AUTH_STRING=NAME:PASSWORD` "
            "with those of the server (whoever runs it has them in infra/shared/servers.env), or "
            "`unset PREFECT_API_URL` to run without a server."
        ) from None
    except OSError:
        return  # that it is away is found, and said, by whoever uses it

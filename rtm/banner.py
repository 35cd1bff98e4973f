"""What the terminal shows when the port accepts connections: with demo data, commands to copy and paste."""

import json
import sys

from rtm.demo.credentials import Credentials
from rtm.tls import Certificate
from rtm.versions import STABLE


def show(base_url: str, credentials: Credentials | None, certificate: Certificate | None) -> None:
    """Print the address and, for the demo license, a first request over HTTP and over a socket."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False, markup=True)
    console.print(f"[bold]rtm[/bold] serves [bold]{base_url}[/bold] (Ctrl+C to stop)")
    if credentials is None:
        return
    authority = certificate.authority if certificate is not None else None
    token = credentials.agents[0].access_token
    login = json.dumps({"action": "login", "payload": {"token": f"Bearer {token}"}})
    console.print(f"\nList the demo license's chats as {credentials.agents[0].id}:\n")
    console.print(_curl(base_url, token, authority is not None and str(authority)), markup=False)
    console.print("\nOpen a socket, then paste the second line into it:\n")
    console.print(f"  {_socket(base_url, authority is not None)}", markup=False)
    console.print(f"  {login}\n", markup=False)


def _curl(base_url: str, token: str, authority: str | bool) -> str:
    trust = f" --cacert {authority}" if authority else ""
    return (
        f"  curl -s{trust} {base_url}/v{STABLE}/agent/action/list_chats"
        f" -H 'Content-Type: application/json' -H 'Authorization: Bearer {token}' -d '{{}}'"
    )


def _socket(base_url: str, self_signed: bool) -> str:
    insecure = " --insecure" if self_signed else ""
    return f"{sys.executable} -m websockets{insecure} ws{base_url.removeprefix('http')}/v{STABLE}/agent/rtm/ws"

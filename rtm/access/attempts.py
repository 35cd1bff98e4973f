"""How often somebody may try to log in.

Nobody guesses 256 random bits. What attempts cost is a look-up in the database each, and a log-in its snapshot. So the
limits are there for clients that go round in circles, or mean harm, and they are two:

**Refused tokens of an address**, of all processes. Only failures count: a thousand agents behind one address log in as
one does. A token counts once a minute, so that a client that repeats a dead one uses up nobody's limit but its own.
Past the limit the address may go on with tokens that were good lately; others are not looked up until the minute is
over. IPv6 addresses count by their /64, within which a client chooses freely.

**Attempts with a token**, of this process: every log-in of a socket, and the Web API's requests that are refused. Its
requests with a good token are never counted here.
"""

from ipaddress import IPv6Address, IPv6Network, ip_address

from rtm.access.quota import Quota

_GOOD_TOKENS = 10_000


class Attempts:
    """Counts attempts; a token is given by its digest, and an address that is not known is None."""

    def __init__(self, refused_of_address: Quota, with_token: Quota) -> None:
        self._refused_of_address = refused_of_address
        self._with_token = with_token
        self._refused = Quota(1, "refusals")
        self._good: dict[bytes, None] = {}
        """The last to have been good, the oldest first."""

    def begin(self, address: str | None, token: bytes, *, login: bool) -> None:
        """Before the token is looked up. Raises TooManyRequests."""
        if login:
            self._with_token.spend(token)
        if token in self._good:
            return
        if not login:
            self._with_token.check(token)
        if address is not None:
            self._refused_of_address.check(origin(address))

    def succeeded(self, token: bytes) -> None:
        """It is good."""
        if token not in self._good:
            self._good[token] = None
            if len(self._good) > _GOOD_TOKENS:
                del self._good[next(iter(self._good))]

    def failed(self, address: str | None, token: bytes, *, login: bool) -> None:
        """It is not. Raises TooManyRequests if others that failed meanwhile have reached a limit."""
        self._good.pop(token, None)
        if not login:
            self._with_token.spend(token)
        if address is not None and self._refused.used(token) == 0:
            self._refused.spend(token)
            self._refused_of_address.spend(origin(address))


def origin(address: str) -> str:
    """What counts as one address."""
    if ":" not in address:
        return address[:64]  # a proxy may have named anything
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))

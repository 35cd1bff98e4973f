"""Every setting, from flags and environment, with its default and the reason for it.

`rtm serve --port 80` is `RTM_PORT=80`; a grouped one is `RTM_LIMITS__LOGIN_TIMEOUT_S=10`. A flag wins over the
environment. Units are in the names: `_s` seconds, `_bytes` bytes.
"""

from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from sqlalchemy import URL

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
REGION = "[a-z][a-z0-9-]{1,15}"
"""What the name of a region looks like."""


class Limits(BaseModel):
    """What one client may cost the others; 0 turns a limit off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    message_size_bytes: Count = Field(
        1 << 20, description="Largest socket message, before the log-in 64 KiB; a larger one is closed with 1009."
    )
    body_size_bytes: Count = Field(1 << 20, description="Largest HTTP request body.")
    upload_size_bytes: Count = Field(10 << 20, description="Largest file to upload.")  # the contract's 10 MB
    unused_upload_bytes: Count = Field(
        1 << 30, description="Files of one license that no event shows yet; the oldest are deleted after a day."
    )
    upload_timeout_s: Seconds = Field(120, description="Longest time for an upload to arrive.")
    # A client that stops reading holds at most this much of our memory, and then loses its connection.
    send_buffer_bytes: Count = Field(1 << 20, description="Unread bytes after which a slow connection is cut.")
    login_timeout_s: Seconds = Field(30, description="Time to log in after connecting.")  # the contract's 30 s
    ping_timeout_s: Seconds = Field(30, description="Longest silence without a ping.")  # the contract's 30 s
    request_timeout_s: Seconds = Field(15, description="Longest time to answer a request.")  # the contract's 15 s
    connections_per_agent: Count = Field(1000, description="Sockets one agent may hold at once, on all processes.")
    connections_per_agent_policy: Literal["evict", "refuse"] = Field(
        "evict", description="What gives way past it: the agent's oldest socket (evict) or the newest (refuse)."
    )
    unauthorized_connections_per_address: Count = Field(
        6000, description="Sockets of one IP address that have not logged in yet, on each process."
    )
    # A flood then has a sixth of a CPU, whatever it asks for. Nothing is refused: TCP holds the client back.
    messages_per_second: Count = Field(
        2000, description="Messages that are read from one socket, 4 KiB counting as one; more have to wait."
    )
    # The reference's service takes 10. Here answers wait for the disk: of one socket, a commit would store no more.
    pending_requests: Count = Field(128, description="Unanswered requests of one socket.")
    requests_per_minute: Count = Field(600_000, description="Requests of one license, over all processes.")
    # What is refused costs a look-up each: this many take 1 % of a CPU. An office of a thousand may be out of date.
    refused_tokens_per_minute: Count = Field(
        2000, description="Refused tokens of one IP address; past it only tokens accepted lately are looked at."
    )
    # Several times the sockets an agent may hold: they may all come back at once, and more than once.
    logins_per_minute: Count = Field(6000, description="Log-ins with one token, per process.")


class SummaryEndpoint(BaseModel):
    """Who writes the summaries of threads; without a URL they are what customer and agent said first and last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(
        None,
        pattern=r"^https?://[!-~]+$",
        description="Endpoint of OpenAI's form that writes summaries, such as https://api.openai.com/v1; "
        "what customers and agents have said is sent there.",
    )
    model: str | None = Field(None, min_length=1, max_length=256, description="Model to ask.")
    key: str | None = Field(
        None,
        pattern=r"^[!-~]+$",
        repr=False,
        description="Bearer token for the endpoint. Best set by environment.",
    )
    timeout_s: Annotated[float, Field(gt=0, le=300)] = Field(30, description="Longest time for a summary.")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.url is None) != (self.model is None):
            raise ValueError("--summary-url and --summary-model need each other")
        return self


class Settings(BaseSettings):
    """What `rtm serve` and the other commands run with."""

    model_config = SettingsConfigDict(
        env_prefix="RTM_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every network.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    data_dir: Path = Field(Path("rtm-data"), description="Directory of the SQLite file and of generated secrets.")
    database_url: str | None = Field(
        None, description="postgresql://user:password@host/name; without it, rtm.sqlite3 in the data directory."
    )
    redis_url: str | None = Field(
        None,
        description="Lets several processes on one PostgreSQL form one system: redis://host:6379/0, "
        "redis+sentinel://host1:26379,host2:26379/mymaster or redis+cluster://host1:6379,host2:6379; "
        "rediss, rediss+sentinel and rediss+cluster over TLS.",
    )
    heartbeat_limit_s: float = Field(
        10, ge=0.5, le=600, description="Time within which the agents of a process that dies go offline; needs Redis."
    )
    workers: int = Field(1, ge=1, le=256, description="Processes; more than 1 takes PostgreSQL and Redis.")
    disconnect_grace_s: Seconds = Field(
        60, description="Time for an agent who has lost the last connection to come back before chats go to others."
    )
    # A wave of log-ins costs the other processes more than a few seconds cost anybody.
    drain_s: Seconds = Field(5, description="Time over which a stop tells sockets to go; 0 for all at once.")
    tls_cert: Path | None = Field(None, description="PEM file with the certificate and its chain.")
    tls_key: Path | None = Field(None, description="PEM file with its unencrypted key, if it is not in --tls-cert.")
    tls_self_signed: bool = Field(
        False, description="Serve TLS with a certificate made at the first start and kept in the data directory."
    )
    http2: bool = Field(False, description='HTTP/2 for the Web API; needs `pip install "rtm[http2]"`.')
    trusted_proxies: str = Field(
        "127.0.0.1",
        description="Addresses and networks, with commas, whose X-Forwarded-For and X-Forwarded-Proto are believed; "
        "* for everybody's.",
    )
    public_url: str | None = Field(
        None,
        description="Where clients reach this server, for the URLs of files: https://chat.example.com; "
        "without it, by the name that each uploader has for it.",
    )
    region: str = Field(
        "dal",
        pattern=f"^{REGION}$",
        description="Prefix of the tokens minted here; a token of another region is turned away.",
    )
    outbox_keep_s: Seconds = Field(
        60,
        description="How long stored pushes are kept that every process has delivered; covers what clocks differ by.",
    )
    # A process that is further behind has lost its sockets anyway: each has missed its pings.
    outbox_max_age_s: Seconds = Field(
        300,
        description="Longest time stored pushes wait for a process that has not delivered them.",
    )
    errors_as_200: bool = Field(False, description="Answer errors of the Web API with HTTP status 200.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least important lines to log.")
    metrics_token: str | None = Field(
        None,
        min_length=16,
        max_length=256,
        pattern=r"^[!-~]+$",
        repr=False,
        description="Bearer token that may read /metrics; unset, nobody may. Best set by environment.",
    )
    # Compression costs memory and time for every connection, and messages are small.
    permessage_deflate: bool = Field(False, description="Offer compression of socket messages.")
    demo: bool = Field(False, description="Create, once, a license with agents, customers and a chat to try.")
    demo_agents: int = Field(0, ge=0, le=100_000, description="Further demo agents: agent1@example.com, ...")
    credentials: Path | None = Field(
        None, description="Write the demo license's ids and tokens to this file when the port accepts connections."
    )
    limits: Limits = Limits()
    summary: SummaryEndpoint = SummaryEndpoint()

    @field_validator("data_dir")
    @classmethod
    def _is_a_directory(cls, path: Path) -> Path:
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is no directory")
        return path

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: str | None) -> str | None:
        if url is not None:
            _async_url(url)
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        """uvicorn takes anything else for a name, which no address has."""
        for each in text.split(",") if text not in ("", "*") else ():
            try:
                ip_network(each.strip())
            except ValueError as error:
                raise ValueError(f"expected addresses and networks, with commas, or *; {error}") from None
        return text

    @field_validator("public_url")
    @classmethod
    def _is_public(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or len(url) > 256:
            raise ValueError("expected a URL such as https://chat.example.com")
        return url.rstrip("/")

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: str | None) -> str | None:
        if url is not None:
            from rtm.redis_client import RedisUrl

            RedisUrl.parse(url)
        return url

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.workers > 1 and (self.database_url is None or self.redis_url is None or not self._is_postgresql):
            raise ValueError("more than one worker needs PostgreSQL (--database-url) and Redis (--redis-url)")
        if self.tls_key and not self.tls_cert:
            raise ValueError("--tls-key needs --tls-cert")
        if self.tls_self_signed and self.tls_cert:
            raise ValueError("--tls-self-signed and --tls-cert exclude each other")
        if (self.credentials or self.demo_agents) and not self.demo:
            raise ValueError("--credentials and --demo-agents need --demo")
        if self.outbox_max_age_s < self.outbox_keep_s:
            raise ValueError("--outbox-max-age-s must not be less than --outbox-keep-s")
        return self

    @property
    def database(self) -> "URL":
        """The URL of the database in effect, with the asynchronous driver that is used for it."""
        from sqlalchemy import URL

        if self.database_url is not None:
            return _async_url(self.database_url)
        return URL.create("sqlite+aiosqlite", database=str(self.data_dir / "rtm.sqlite3"))

    @property
    def tls(self) -> bool:
        """Whether the port speaks TLS."""
        return self.tls_self_signed or self.tls_cert is not None

    @property
    def _is_postgresql(self) -> bool:
        return self.database.get_backend_name() == "postgresql"


def _async_url(text: str) -> "URL":
    """`text` with our driver for its database, whatever driver it names. Raises ValueError."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError("expected a URL such as postgresql://user:password@host/name") from None
    match url.drivername.partition("+")[0]:
        case "postgresql" | "postgres":
            return url.set(drivername="postgresql+asyncpg")
        case "sqlite" if url.database and url.database != ":memory:" and not url.query:
            return url.set(drivername="sqlite+aiosqlite")
        case "sqlite":
            raise ValueError("a SQLite database must be a file: sqlite:///path/to/file")
        case other:
            raise ValueError(f"expected a postgresql:// or sqlite:// URL, not {other}://")

"""Where a setting comes from, and which ones are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from rtm.settings import Settings


def test_a_setting_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTM_PORT", "9000")
    monkeypatch.setenv("RTM_LIMITS__REQUESTS_PER_MINUTE", "0")
    monkeypatch.setenv("RTM_HOST", "")  # as a compose file leaves it

    settings = Settings()

    assert (settings.port, settings.limits.requests_per_minute, settings.host) == (9000, 0, "127.0.0.1")
    assert settings.limits.pending_requests == 128
    assert Settings(port=1).port == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RTM_PORT", "65536"),
        ("RTM_LIMITS__LOGIN_TIMEOUT_S", "-1"),
        ("RTM_LIMITS__LOGIN_TIMEOUT_S", "nan"),
        ("RTM_LIMITS__NO_SUCH_LIMIT", "1"),
        ("RTM_LIMITS__CONNECTIONS_PER_AGENT_POLICY", "drop"),
        ("RTM_REGION", "D:al"),
        ("RTM_PUBLIC_URL", "chat.example.com"),
        ("RTM_PUBLIC_URL", "ftp://chat.example.com"),
        ("RTM_PUBLIC_URL", "https://chat.example.com?a=b"),
        ("RTM_TRUSTED_PROXIES", "proxy"),
        ("RTM_TRUSTED_PROXIES", "10.0.0.5/8"),
        ("RTM_TRUSTED_PROXIES", "*, 10.0.0.0/8"),
        ("RTM_TRUSTED_PROXIES", "10.0.0.1,"),
        ("RTM_DATABASE_URL", "mysql://host/name"),
        ("RTM_DATABASE_URL", "sqlite://"),
        ("RTM_DATABASE_URL", "sqlite:///file:name?uri=true"),
        ("RTM_DATABASE_URL", "words"),
        ("RTM_REDIS_URL", "http://host"),
        ("RTM_SUMMARY__URL", "ftp://host"),
        ("RTM_SUMMARY__TIMEOUT_S", "0"),
    ],
)
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("text", ["*", "", "10.0.0.5", "10.0.0.0/8, fd00::/8,::1"])
def test_proxies_are_addresses_and_networks(text: str) -> None:
    assert Settings(trusted_proxies=text).trusted_proxies == text


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("postgresql://me@host/name", "postgresql+asyncpg://me@host/name"),
        ("postgres://me@host/name", "postgresql+asyncpg://me@host/name"),
        ("postgresql+psycopg://me@host/name", "postgresql+asyncpg://me@host/name"),
        ("postgresql://host/name?sslmode=require", "postgresql+asyncpg://host/name?sslmode=require"),
        ("sqlite:///there/file", "sqlite+aiosqlite:///there/file"),
    ],
)
def test_any_form_of_a_database_url_gets_our_driver(text: str, used: str) -> None:
    assert Settings(database_url=text).database.render_as_string() == used


def test_without_a_url_the_database_is_a_file_in_the_data_directory() -> None:
    assert Settings(data_dir=Path("/somewhere")).database.database == "/somewhere/rtm.sqlite3"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"workers": 2}, "needs PostgreSQL"),
        ({"workers": 2, "database_url": "sqlite:///file", "redis_url": "redis://host"}, "needs PostgreSQL"),
        ({"workers": 2, "database_url": "postgresql://host/name"}, "needs PostgreSQL"),
        ({"tls_key": "key.pem"}, "--tls-key needs --tls-cert"),
        ({"tls_self_signed": True, "tls_cert": "cert.pem"}, "exclude each other"),
        ({"credentials": "file"}, "need --demo"),
        ({"demo_agents": 3}, "need --demo"),
        ({"summary": {"url": "https://host/v1"}}, "need each other"),
        ({"summary": {"model": "small"}}, "need each other"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Settings.model_validate(settings)

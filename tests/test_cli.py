"""The command line as people use it: real processes, what they print, how they end."""

import asyncio
import json
import shlex
import shutil
import socket
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

import rtm
from rtm import tls
from rtm.settings import Limits, Settings, SummaryEndpoint
from rtm.store import lock
from rtm.store.database import connect, migrate
from tests.running import PATIENCE_S, run, serving


def refusal(*arguments: str | Path, **environment: str) -> str:
    """The one line with which the command refuses."""
    ended = run(*arguments, **environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("rtm: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def lines(output: str) -> dict[str, str]:
    """What `rtm init` and `rtm token` print."""
    return dict(line.split(maxsplit=1) for line in output.splitlines())


def list_chats(
    base_url: str, authorization: str, verify: ssl.SSLContext | bool = True, action: str = "list_chats"
) -> httpx2.Response:
    return httpx2.post(
        f"{base_url}/v3.6/agent/action/{action}", headers={"Authorization": authorization}, json={}, verify=verify
    )


def mode(path: Path) -> int:
    """Who may do what with it."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    issued = trustme.CA().issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    return cert, key


# What it prints


def test_the_version_comes_at_once() -> None:
    ended = run("--version")
    assert ended.stdout == f"rtm {rtm.__version__}\n"
    slow = {"httpx2", "sqlalchemy", "alembic", "uvicorn", "rich", "redis", "asyncpg", "starlette"}
    imported = "import sys, rtm.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True, check=True)
    assert not slow & set(modules.stdout.split())


def test_help_lists_every_setting_with_its_default_and_variable() -> None:
    text = " ".join(run("serve", "--help").stdout.split())
    for name, field in Settings.model_fields.items():
        if name not in ("limits", "summary"):
            assert f"--{name.replace('_', '-')}" in text
            assert f"[env var: RTM_{name.upper()}; default: " in text, field
    limits = [name.replace("_", "-") for name in Limits.model_fields]
    assert f"Those from --{limits[0]} to --{limits[-1]} are limits" in text
    for name, field in Limits.model_fields.items():
        assert f"[env var: RTM_LIMITS__{name.upper()}; default: {field.default}" in text
    for name in SummaryEndpoint.model_fields:
        assert f"--summary-{name.replace('_', '-')}" in text
        assert f"[env var: RTM_SUMMARY__{name.upper()}; default: " in text


def test_the_catalogue_as_json() -> None:
    rows = json.loads(run("actions", "--json").stdout)
    assert {row["version"] for row in rows} == {"3.4", "3.5", "3.6", "3.7"}
    row = next(row for row in rows if row["action"] == "send_event" and row["transport"] == "web")
    assert row["api"] == "agent"
    assert "chats--access:rw" in row["scopes"]
    assert "event" in row["parameters"]


def test_the_catalogue_for_programs_of_the_shell() -> None:
    rows = [line.split("\t") for line in run("actions").stdout.splitlines()]
    found = {name: rest for name, *rest in rows}
    assert len(found) == len(rows)
    assert found["create_customer"] == ["3.4 3.5", "rtm web", "customers:rw"]
    assert "chats--access:rw" in found["send_event"][2].split(" ")
    assert found["login"] == ["3.4 3.5 3.6 3.7", "rtm", ""]


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serve", "--port", "words"], "--port"),
        (["serve", "--port", "70000"], "rtm: --port: "),
        (["serve", "--no-such-option"], "--no-such-option"),
        (["serve", "--workers", "2"], "needs PostgreSQL"),
        (["serve", "--database-url", "mysql://host/name"], "postgresql://"),
        (["serve", "--login-timeout-s", "-1"], "rtm: --login-timeout-s: "),
        (["serve", "--summary-url", "ftp://host"], "rtm: --summary-url: "),
        (["serve", "--summary-url", "https://host"], "rtm: --summary-url and --summary-model need each other"),
        (["serve", "--data-dir", __file__], f"rtm: --data-dir: {__file__} is no directory"),
        (["no-such-command"], "no-such-command"),
        (["token"], "expected an agent"),
        (["init", "no address"], "expected an e-mail address"),
        (["init", "a @b"], "expected an e-mail address"),
        (["init", "a@b.c@d"], "expected an e-mail address"),
        (["init", "a@b.c", "--name", ""], "expected a --name"),
        (["init", "a@b.c", "--group", " "], "expected a --group"),
        (["init", "a@b.c", "--group", "Sales", "--group", "Sales"], "there would be two groups Sales"),
        (["init", "a@b.c", "--group", "General"], "there would be two groups General"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_argument_is_one_line(arguments: list[str], expected: str) -> None:
    assert expected in refusal(*arguments)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RTM_PORT", "words", "RTM_PORT"),
        ("RTM_LIMITS__PENDING_REQUESTS", "-1", "--pending-requests: "),
        ("RTM_LIMITS__NO_SUCH_LIMIT", "1", "RTM_LIMITS__NO_SUCH_LIMIT: "),
    ],
)
def test_a_wrong_variable_is_one_line(name: str, value: str, expected: str) -> None:
    assert expected in refusal("serve", **{name: value})


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal("serve", "--data-dir", tmp_path / "data", "--port", str(port))
    assert line == f"rtm: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.name.invalid", "a..b"])
def test_an_address_that_is_not_ours(tmp_path: Path, host: str) -> None:
    assert f"cannot listen on {host}:0: " in refusal("serve", "--data-dir", tmp_path, "--host", host, "--port=0")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("missing", "cannot read {key}: No such file or directory"),
        ("not PEM", "there is no certificate in {cert}: --tls-cert takes a PEM file with one"),
        ("swapped", "there is no certificate in {key}: --tls-cert takes a PEM file with one"),
        ("without its key", "there is no key in {cert}: --tls-key takes a PEM file with the certificate's"),
        ("another's key", "cannot use the certificate {cert} with {key}: the key does not belong to it"),
        ("encrypted", "cannot use the certificate {cert} with {key}: expected PEM, unencrypted"),
    ],
)
def test_an_unusable_certificate(tmp_path: Path, certificate: tuple[Path, Path], damage: str, expected: str) -> None:
    cert, key = certificate
    settings = Settings(tls_cert=cert, tls_key=key)
    match damage:
        case "missing":
            key.unlink()
        case "not PEM":
            cert.write_text("words")
        case "swapped":
            settings = Settings(tls_cert=key, tls_key=cert)
        case "without its key":
            settings = Settings(tls_cert=cert)
        case "another's key":
            trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(key)
        case "encrypted":
            key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(tls.CertificateError) as refused:
        tls.certificate(settings)
    assert str(refused.value) == expected.format(cert=cert, key=key)


def test_an_unusable_certificate_is_one_line(tmp_path: Path) -> None:
    line = refusal("serve", "--port=0", "--data-dir", tmp_path / "data", "--tls-cert", tmp_path / "nowhere.pem")
    assert line == f"rtm: cannot read {tmp_path / 'nowhere.pem'}: No such file or directory\n"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1"])
def test_a_redis_that_does_not_answer(tmp_path: Path, url: str) -> None:
    line = refusal("serve", "--port=0", "--data-dir", tmp_path, "--redis-url", url)
    assert line.startswith("rtm: Redis does not answer: ")


async def make_another_version(settings: Settings, revision: str) -> None:
    await migrate(settings)
    async with connect(settings) as database, database.engine.begin() as connection:
        await connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


def test_a_database_of_a_newer_schema(tmp_path: Path) -> None:
    asyncio.run(make_another_version(Settings(data_dir=tmp_path), "9999"))
    for name in ("serve", "migrate"):
        assert "newer version of rtm" in refusal(name, "--data-dir", tmp_path, RTM_PORT="0")


@pytest.mark.parametrize("command", [["migrate"], ["init", "boss@example.org"]], ids=["migrate", "init"])
def test_tables_are_not_changed_under_a_server(tmp_path: Path, command: list[str]) -> None:
    settings = Settings(data_dir=tmp_path)
    asyncio.run(make_another_version(settings, "0001"))
    with lock.serving(settings):
        line = refusal(*command, "--data-dir", tmp_path)
    assert line.startswith(f"rtm: another process serves {tmp_path / 'rtm.sqlite3'}")


def test_a_postgresql_that_does_not_answer(tmp_path: Path) -> None:
    line = refusal(
        "serve", "--port=0", "--data-dir", tmp_path, "--database-url", "postgresql://me:secret@127.0.0.1:1/x"
    )
    assert "cannot use the database postgresql://me:***@127.0.0.1:1/x: " in line


def test_a_postgresql_without_tables(tmp_path: Path, postgres_url: str) -> None:
    options = ["--data-dir", str(tmp_path), "--database-url", postgres_url]
    assert "run `rtm migrate`" in refusal("serve", "--port=0", *options)
    assert run("migrate", *options).returncode == 0
    assert "there is no agent nobody" in refusal("token", "nobody", *options)


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in refusal("serve", "--port=0", "--data-dir", tmp_path / "file" / "data")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("nowhere/credentials.json", "No such file or directory"),
        ("", "it is a directory"),
        ("/proc/credentials.json", "No such file or directory"),
    ],
)
def test_a_place_that_cannot_have_the_credentials(tmp_path: Path, place: str, expected: str) -> None:
    path = tmp_path / place
    line = refusal("serve", "--port=0", "--data-dir", tmp_path / "data", "--demo", "--credentials", path)
    assert line == f"rtm: cannot write to {path}: {expected}\n"
    assert not (tmp_path / "data").exists()


def test_credentials_that_cannot_be_written_after_all(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250)  # the file that is to take its place has a longer name
    options = ("--port=0", "--data-dir", tmp_path, "--demo", "--credentials", path)
    line = refusal("serve", *options, RTM_LOG_LEVEL="error")
    assert line == f"rtm: cannot write to {path}: File name too long\n"


# What it does


def test_a_license_of_ones_own(tmp_path: Path) -> None:
    made = run("init", "Boss@Example.org", "--group", "Sales", "--data-dir", tmp_path)
    assert made.returncode == 0, made.stderr
    owner = lines(made.stdout)
    assert owner["owner"] == "boss@example.org"
    assert "note" not in owner
    second = lines(run("init", "boss@example.org", "--data-dir", tmp_path).stdout)
    assert second["note"] == "a new license, beside 1 in this database"

    minted = run(
        "token",
        "boss@example.org",
        "--license",
        owner["license_id"],
        "--scope",
        "chats--all:ro",
        "--lifetime",
        "60",
        "--data-dir",
        tmp_path,
    )
    token = lines(minted.stdout)

    with serving(tmp_path) as server:
        assert list_chats(server.base_url, owner["authorization"]).json() == {"chats_summary": [], "found_chats": 0}
        assert token["authorization"] == f"Bearer {token['token']}"
        assert list_chats(server.base_url, token["authorization"]).status_code == 200
        assert run("token", "--revoke", token["token"], "--data-dir", tmp_path).returncode == 0
        assert list_chats(server.base_url, owner["authorization"]).status_code == 200
    assert "revoked already" in refusal("token", "--revoke", token["id"], "--data-dir", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nobody@example.com"], "there is no agent"),
        (["jones@example.com", "--scope", "chats--all:rw"], "for the role administrator, not for normal"),
        (["jones@example.com", "--scope", "chats"], "there is no scope chats"),
        (["jones@example.com", "--kind", "bot"], "no bot"),
        (["jones@example.com", "--license", "99"], "there is no agent"),
        (["--revoke", "dal:nothing"], "there is no such token"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value),
)
def test_a_token_that_makes_no_sense(demo_data: Path, arguments: list[str], expected: str) -> None:
    assert expected in refusal("token", *arguments, "--data-dir", demo_data)


@pytest.fixture(scope="module")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that a demo server has left."""
    folder = tmp_path_factory.mktemp("demo")
    with serving(folder, "--demo", "--demo-agents", "2", "--credentials", folder / "first.json"):
        pass
    return folder


def test_the_credentials_of_the_demo(demo_data: Path) -> None:
    path = demo_data / "first.json"
    assert mode(path) == 0o600
    credentials: dict[str, Any] = json.loads(path.read_bytes())

    names = "base_url organization_id license_id client_id client_secret agents bots groups customers"
    assert list(credentials) == names.split()
    assert [(agent["id"], agent["role"]) for agent in credentials["agents"]] == [
        ("owner@example.com", "owner"),
        ("smith@example.com", "administrator"),
        ("jones@example.com", "normal"),
        ("agent1@example.com", "normal"),
        ("agent2@example.com", "normal"),
    ]
    assert all(agent["account_id"] and agent["personal_access_token"] for agent in credentials["agents"])
    assert [list(bot) for bot in credentials["bots"]] == [["id", "access_token"]]
    assert [(group["id"], group["name"]) for group in credentials["groups"]] == [
        (0, "General"),
        (1, "Sales"),
        (2, "Support"),
    ]
    assert [customer["name"] for customer in credentials["customers"]] == ["Ada", "Grace"]


def test_a_second_start_has_the_same_demo_and_its_tokens_work(demo_data: Path) -> None:
    first = json.loads((demo_data / "first.json").read_bytes())

    with serving(demo_data, "--demo", "--credentials", demo_data / "second.json") as server:
        second = json.loads((demo_data / "second.json").read_bytes())
        assert second["base_url"] == server.base_url
        assert second | {"base_url": ""} == first | {"base_url": ""}
        bearer = list_chats(server.base_url, f"Bearer {first['agents'][0]['access_token']}")
        assert bearer.json()["found_chats"] == 1
        archives = list_chats(server.base_url, f"Bearer {first['agents'][0]['access_token']}", action="list_archives")
        assert archives.json()["found_chats"] == 2, "threads: yesterday's, too"
        for holder in (first["agents"][1]["access_token"], first["bots"][0]["access_token"]):
            assert list_chats(server.base_url, f"Bearer {holder}").status_code == 200


def test_the_terminal_shows_commands_that_work(tmp_path: Path) -> None:
    with serving(tmp_path, "--demo", "--tls-self-signed") as server:
        assert server.process.stdout is not None
        shown = [server.process.stdout.readline().strip() for _ in range(9)]
        curl, python, login = (line for line in shown if line.startswith(("curl ", sys.executable, "{")))

        if shutil.which("curl"):
            answer = subprocess.run(curl, shell=True, capture_output=True, timeout=PATIENCE_S, check=True)
            assert json.loads(answer.stdout)["found_chats"] == 1
        with subprocess.Popen(shlex.split(python), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(f"{login}\n")
            client.stdin.flush()
            answered = next(line for line in client.stdout if '"action":"login"' in line)
            client.stdin.close()
        assert '"success":true' in answered


def test_a_self_signed_certificate_stays_the_same(tmp_path: Path) -> None:
    kept: list[bytes] = []
    data = tmp_path / "new" / "data"
    for _ in range(2):
        with serving(data, "--tls-self-signed") as server:
            trust = ssl.create_default_context(cafile=data / "tls" / "authority.pem")
            assert list_chats(server.base_url, "Bearer dal:none", trust).status_code == 401
        kept.append((data / "tls" / "certificate.pem").read_bytes())
    assert kept[0] == kept[1]
    assert [mode(each) for each in (data, data / "tls", data / "tls" / "key.pem")] == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("host", ["127.0.0.2", "0:0::1:2", "Chat.example.org"])
def test_a_self_signed_certificate_is_made_again_for_another_host(tmp_path: Path, host: str) -> None:
    def made_for(host: str) -> bytes:
        found = tls.certificate(Settings(data_dir=tmp_path, tls_self_signed=True, host=host))
        assert found is not None
        return found.chain.read_bytes()

    first, second = made_for("127.0.0.1"), made_for(host)
    assert first != second
    assert second == made_for(host) == made_for("127.0.0.1")


def test_a_certificate_of_ones_own_and_http_2(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with serving(tmp_path / "data", "--tls-cert", cert, "--tls-key", key, "--http2") as server:
        host, port = server.address.split(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with socket.create_connection((host, int(port)), PATIENCE_S) as raw, context.wrap_socket(raw) as secured:
            assert secured.selected_alpn_protocol() == "h2"
        assert list_chats(server.base_url, "Bearer dal:none", context).status_code == 401


def test_one_sqlite_file_has_one_server(tmp_path: Path) -> None:
    with serving(tmp_path):
        line = refusal("serve", "--port=0", "--data-dir", tmp_path)
    assert line.startswith(f"rtm: another process serves {tmp_path / 'rtm.sqlite3'}")
    with serving(tmp_path):  # the first one has let go
        pass


def test_one_postgresql_without_redis_has_one_server(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    database, redis = ("--data-dir", tmp_path, "--database-url", postgres_url), ("--redis-url", redis_url)
    assert run("migrate", *database).returncode == 0
    with serving(tmp_path, *database) as alone:
        for options in (database, (*database, *redis)):
            line = refusal("serve", "--port=0", *options)
            assert line.startswith(f"rtm: another process serves {postgres_url}: ")
        alone.kill()
    with serving(tmp_path, *database, *redis), serving(tmp_path, *database, *redis):
        assert "--redis-url" in refusal("serve", "--port=0", *database)
    with serving(tmp_path, *database):  # they have let go
        pass


def test_two_workers_share_the_port(tmp_path: Path, postgres_url: str, redis_url: str) -> None:
    credentials = tmp_path / "credentials.json"
    options = ["--database-url", postgres_url, "--redis-url", redis_url, "--workers", "2"]
    with serving(tmp_path, "--demo", "--credentials", credentials, *options) as server:
        token = json.loads(credentials.read_bytes())["agents"][0]["access_token"]
        for _ in range(6):  # each on a connection of its own
            assert list_chats(server.base_url, f"Bearer {token}").json()["found_chats"] == 1

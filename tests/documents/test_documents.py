"""The documents about the API: right by their own specifications, whole, and as the server behaves."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from rtm import versions
from rtm.actions import agent, registry
from rtm.actions.registry import AGENT, RTM, WEB
from rtm.documents.asyncapi import asyncapi
from rtm.documents.openapi import error_types, openapi
from rtm.documents.samples import sample
from rtm.documents.schemas import Schemas, bundle
from rtm.documents.words import endings
from tests.documents.judge import complaints
from tests.world import Server

registry.load(agent)
SCHEMAS = {version: Schemas(AGENT, version) for version in versions.SERVED}

# The published schema of AsyncAPI 3.0.0, without `$id`s and white space: github.com/asyncapi/spec-json-schemas,
# Copyright The Linux Foundation, Apache License 2.0.
ASYNCAPI = Draft7Validator(orjson.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_bytes()))

every_version = pytest.mark.parametrize("version", versions.SERVED)


def actions(version: str, transport: str) -> set[str]:
    return {each.name for each in registry.served(AGENT, version) if transport in each.transports}


# By their specifications


@every_version
def test_the_openapi_document_is_one_and_has_every_method(version: str) -> None:
    document = openapi(SCHEMAS[version])
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert {operation["post"]["operationId"] for operation in document["paths"].values()} == actions(version, WEB)


@every_version
def test_the_asyncapi_document_is_one_and_has_every_method_and_push(version: str) -> None:
    document = asyncapi(SCHEMAS[version])
    assert [error.message for error in ASYNCAPI.iter_errors(document)] == []
    received = {name for name, operation in document["operations"].items() if operation["action"] == "receive"}
    sent = {name for name, operation in document["operations"].items() if operation["action"] == "send"}
    assert received == actions(version, RTM)
    told = {name for each in registry.served(AGENT, version) for name in each.pushes}
    assert {f"push_{name}" for name in told if versions.has_push(version, name)} <= sent
    assert all(versions.has_push(version, name.removeprefix("push_")) for name in sent)
    assert all(operation["summary"] for operation in document["operations"].values())


@every_version
def test_the_schemas_are_schemas(version: str) -> None:
    document = bundle(SCHEMAS[version])
    schemas = [*document["$defs"].values()]
    for kind in ("requests", "responses", "pushes"):
        schemas += document[kind].values()
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
    assert [name for name in document["$defs"] if "__" in name] == [], "two classes have one name"


def test_what_is_no_document_is_found() -> None:
    document, other = openapi(SCHEMAS["3.6"]), asyncapi(SCHEMAS["3.6"])
    del document["paths"]["/v3.6/agent/action/send_event"]["post"]["responses"]["200"]["description"]
    del other["operations"]["send_event"]["action"]
    assert not OpenAPIV31SpecValidator(document).is_valid()
    assert not ASYNCAPI.is_valid(other)


# What they say


def test_every_error_is_told_with_its_status() -> None:
    document = openapi(SCHEMAS["3.6"])
    responses = document["paths"]["/v3.6/agent/action/send_event"]["post"]["responses"]
    for error in (each for errors in error_types("web").values() for each in errors):
        told = document["components"]["responses"][responses[str(error.status.value)]["$ref"].rpartition("/")[2]]
        example = told["content"]["application/json"]["examples"][error.type]["value"]
        assert example == {"error": {"type": error.type, "message": error.default_message}}
    types = document["components"]["schemas"]["Error"]["properties"]["type"]["enum"]
    assert "limit_reached" in types
    assert "requester_suspended" not in types  # which only sockets have


def test_a_version_has_its_own_names() -> None:
    def fields(version: str, structure: str) -> set[str]:
        return set(SCHEMAS[version].structures[structure]["properties"])

    assert "active" in fields("3.6", "ChatsFilters")
    assert "include_active" not in fields("3.6", "ChatsFilters")
    for version in ("3.4", "3.5"):
        assert "include_active" in fields(version, "ChatsFilters")
        assert "active" not in fields(version, "ChatsFilters")
        assert "last_visit" in fields(version, "Customer")
        assert not {"visit", "carts", "tickets"} & fields(version, "Customer")
        assert "Cart" not in SCHEMAS[version].structures
        assert "SystemEvent" not in SCHEMAS[version].structures
    assert "push_notifications" in fields("3.4", "Login")
    assert "push_notifications" not in fields("3.5", "Login")
    assert "ChatSummary" not in SCHEMAS["3.7"].structures
    assert {"last_thread_info"} == fields("3.7", "ChatInfo") - fields("3.6", "ChatSummary")


@every_version
def test_a_version_has_its_own_reasons_to_end_a_connection(version: str) -> None:
    reason = SCHEMAS[version].structures["AgentDisconnected"]["properties"]["reason"]
    assert ("role_permissions_changed" in reason["enum"]) == (version in ("3.6", "3.7"))
    assert len(reason["enum"]) == 13 + (version in ("3.6", "3.7"))
    assert "Come back" in reason["description"]
    assert [*endings(SCHEMAS[version])] == reason["enum"]


@every_version
def test_fields_are_described(version: str) -> None:
    def told(structure: str, field: str) -> str:
        return str(SCHEMAS[version].structures[structure]["properties"][field].get("description", ""))

    assert "accents" in told("ArchivesFilters", "query")
    assert "next_page_id" in told("ListChats", "page_id")
    assert "at most" in told("ListThreads", "limit")
    assert "repeats" in told("Message", "custom_id")
    assert "active" in told("ChatsFilters", "active" if version in ("3.6", "3.7") else "include_active")
    for structure, fields in {
        "AddUserToChat": ("visibility", "ignore_requester_presence"),
        "Login": ("reconnect", "away", "customer_monitoring_level", "pushes"),
        "ResumeChat": ("active", "continuous"),
        "SendTypingIndicator": ("visibility",),
        "TransferChat": ("ignore_agents_availability", "ignore_requester_presence"),
        "ValuesFilter": ("require_every_value",),
    }.items():
        assert all(told(structure, field) for field in fields), structure


def test_a_schema_finds_what_is_wrong() -> None:
    assert (
        complaints("3.6", "requests", "send_event", {"chat_id": "P", "event": {"type": "message", "text": "a"}}) == []
    )
    assert complaints("3.6", "requests", "send_event", {"chat_id": "P", "event": {"type": "message"}})
    assert complaints("3.6", "responses", "send_event", {"event_id": "P_1"}) == []
    assert complaints("3.6", "responses", "send_event", {"event_id": 1})
    assert complaints("3.6", "responses", "send_event", {"event_id": "P_1", "thread_id": "P"})
    assert complaints("3.6", "responses", "follow_chat", {"chat_id": "P"})
    seen = {"user_id": "a", "chat_id": "P", "seen_up_to": "2026-01-01T00:00:00.000000Z"}
    assert complaints("3.6", "pushes", "events_marked_as_seen", seen) == []
    assert complaints("3.6", "pushes", "events_marked_as_seen", seen | {"seen_up_to": "yesterday"})


@every_version
def test_the_samples_of_requests_are_taken_and_those_of_answers_and_pushes_fit(version: str) -> None:
    schemas = SCHEMAS[version]

    def sampled(kind: str, name: str) -> Any:
        drawn = sample(schemas.of(kind, name), schemas.structures)
        assert complaints(version, f"{kind}es" if kind == "push" else f"{kind}s", name, drawn) == [], name
        return drawn

    for action in schemas.actions:
        request = sampled("request", action.name)
        if not action.takes_form:
            action.payload.parse(versions.request_from(version, action.payload, request))
        sampled("response", action.name)
    for name in schemas.pushes:
        sampled("push", name)


# Where they are


@pytest.fixture
async def http(_server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{_server.port}") as client:
        yield client


@every_version
@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json", "schemas.json"])
async def test_documents_are_served_and_kept_by_clients(http: httpx2.AsyncClient, version: str, name: str) -> None:
    answer = await http.get(f"/docs/v{version}/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-encoding"] == "gzip"
    plain = await http.get(f"/docs/v{version}/{name}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content
    kept = await http.get(f"/docs/v{version}/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (kept.status_code, kept.content) == (304, b"")
    assert (await http.head(f"/docs/v{version}/{name}")).headers["etag"] == answer.headers["etag"]


@pytest.mark.parametrize("path", ["/docs/v9.9/openapi.json", "/docs/v3.6/passwords.json", "/docs/v9.9", "/docs/v9.9/"])
async def test_there_are_no_others(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found")


@every_version
@pytest.mark.parametrize("door", [WEB, RTM])
async def test_a_page_tells_of_every_method_and_push_and_leads_nowhere_else(
    http: httpx2.AsyncClient, version: str, door: str
) -> None:
    answer = await http.get(f"/docs/v{version}/{door}")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    ids = re.findall(r' id="([^"]+)"', answer.text)
    assert len(ids) == len(set(ids))
    assert actions(version, door) <= set(ids)
    if door == RTM:
        assert {f"push-{name}" for name in SCHEMAS[version].pushes} <= set(ids)
    links = set(re.findall(r' (?:href|src)="([^"]+)"', answer.text))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    for link in {link.partition("#")[0] for link in links if not link.startswith("#")}:
        assert (await http.get(link)).status_code == 200, link


async def test_names_are_broken_between_their_words(http: httpx2.AsyncClient) -> None:
    page = (await http.get("/docs/v3.6/rtm")).text
    assert "<code>ignore_<wbr>requester_<wbr>presence</code>" in page
    assert '<a href="#send_event">send_<wbr>event</a>' in page
    assert 'href="#contents">Contents<' in page


@pytest.mark.parametrize("path", ["/", "/docs/", "/docs/v3.6", "/docs/v3.6/"])
async def test_the_server_s_address_leads_to_the_index(http: httpx2.AsyncClient, path: str) -> None:
    index = await http.get(path, follow_redirects=True)
    assert index.url.path == "/docs"
    for version in versions.SERVED:
        assert f'href="/docs/v{version}/web"' in index.text
    assert "default-src 'none'" in index.headers["content-security-policy"]


def test_a_process_that_is_never_asked_does_not_load_them() -> None:
    loaded = "import sys, rtm.app; sys.exit('rtm.documents' in sys.modules or 'jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0

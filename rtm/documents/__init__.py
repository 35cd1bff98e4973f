"""What the server says of its own API, made of the catalogue and the model; loaded when it is first asked for.

schemas.py   JSON Schemas of every request, response and push of a version
samples.py   a sample of what fits a schema
words.py     what the documents say in words
openapi.py   the OpenAPI document of the Web API
asyncapi.py  the AsyncAPI document of the sockets
pages.py     the same to read, as HTML (`templates/`)
"""

import orjson

from rtm.documents import pages
from rtm.documents.asyncapi import asyncapi
from rtm.documents.openapi import openapi
from rtm.documents.schemas import Schemas, bundle

_FOR_PROGRAMS = {"openapi.json": openapi, "asyncapi.json": asyncapi, "schemas.json": bundle}


def document(api: str, version: str, name: str) -> tuple[bytes, str]:
    """The document of that name about a version of an API, and its media type."""
    schemas = Schemas(api, version)
    if name in _FOR_PROGRAMS:
        return orjson.dumps(_FOR_PROGRAMS[name](schemas)), "application/json"
    if name == "style.css":
        return pages.style(), "text/css"
    return pages.page(schemas, name).encode(), "text/html"

"""Properties: namespace -> name -> value, on chats, threads and events.

Values are strings, integers and booleans; numbers with a fraction are let through. The reference states no bounds.

Source: the public reference, "Configuration API", "Properties".
"""

from typing import Annotated

from rtm.model.payload import AtMost, Expected, Text

MAX_STRING_LENGTH = 16 * 1024

PropertyName = Annotated[str, Text(128, least=1)]
PropertyValue = Annotated[
    Annotated[str, Text(MAX_STRING_LENGTH)] | bool | int | float,
    Expected(f"must be a boolean, a number or a string of at most {MAX_STRING_LENGTH} characters"),
]
Properties = Annotated[dict[PropertyName, Annotated[dict[PropertyName, PropertyValue], AtMost(100)]], AtMost(100)]

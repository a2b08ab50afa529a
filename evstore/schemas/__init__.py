"""Schema versions: what shape a type's bodies have, and how older ones become it.

What is stored never changes. Where the shape of a type's bodies changes, its schema
version grows by one, and an upcaster says what a body of the version before becomes:

    @evstore.upcaster("Dataplane", from_version=1)
    def dataplane_2(body):
        body["spec"]["address"] = body["spec"].pop("ip")
        return body

Upcasters are chained, and applied whenever an event is read. An event of a newer
version than a program knows is refused, unless its `Schema` says that it is readable.
"""

from .as_stored import AS_STORED
from .declared import Schema, Schemas
from .names import TYPE_CHARACTERS_MAX, check_free, check_type
from .upcasters import Upcaster, upcaster

__all__ = [
    "AS_STORED",
    "TYPE_CHARACTERS_MAX",
    "Schema",
    "Schemas",
    "Upcaster",
    "check_free",
    "check_type",
    "upcaster",
]

"""The JSON schema of a configuration, for editors and for whoever reads configurations elsewhere.

`python -m weight_atlas.settings.schema > schemas/config.schema.json`
"""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from weight_atlas.settings.configuration import Configuration


class _Generator(GenerateJsonSchema):
    """Without a title for each key, and with all that is asked of the keys of a mapping."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        values = self.generate_inner(schema.get("values_schema", core_schema.any_schema()))
        names = self.generate_inner(schema.get("keys_schema", core_schema.any_schema()))
        written: dict[str, Any] = {"type": "object", "additionalProperties": values}
        if names != {"type": "string"}:
            written["propertyNames"] = names
        if "min_length" in schema:
            written["minProperties"] = schema["min_length"]
        return written


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of all keys, with their defaults and descriptions."""
    schema = Configuration.model_json_schema(schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, **schema, "title": "weight-atlas configuration"}


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow a schema's $ref inside root; keys beside the reference win."""
    if "$ref" not in schema:
        return schema
    target: Any = root
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))

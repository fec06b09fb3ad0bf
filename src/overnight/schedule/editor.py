"""The JSON Schema with which an editor completes and checks schedule.yaml while it is written."""

from typing import Any

from overnight.schedule.job import TIMINGS
from overnight.schedule.model import Schedule


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of schedule.yaml."""
    schema = Schedule.model_json_schema(by_alias=True, mode="serialization")  # defaults as they stand in a file
    schema["patternProperties"] = {"^x-": {}}
    schema["$defs"]["JobSettings"]["oneOf"] = [{"required": [timing]} for timing in TIMINGS]
    schema["properties"]["jobs"]["propertyNames"] = {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "schedule.yaml of overnight"
    return schema

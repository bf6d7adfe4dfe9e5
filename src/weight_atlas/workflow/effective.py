"""The values of a configuration that hold: those that are written, then those of the effort and the seed, or defaults.

Steps are given these alone, so that another effort runs again only what it gives other values.
"""

from typing import Any

from pydantic.fields import FieldInfo

from weight_atlas.settings.base import Settings
from weight_atlas.settings.configuration import Configuration
from weight_atlas.settings.model_entries import OwnSettings

# Sections of entries by name of which a model has all, with the values of its own effort.
_BY_NAME = ("ablations", "tasks")


def effective(configuration: Configuration) -> dict[str, Any]:
    """All sections in plain values; every model's entry has whole sections of its own (OwnSettings) and its effort.

    What is written for a model wins over what is written for all, and that over what its effort says.
    """
    seed = configuration.seed
    complete = _filled(configuration, configuration.effort, seed)
    for name, model in configuration.models.items():
        entry, effort = complete["models"][name], model.effort or configuration.effort
        entry["effort"] = effort
        for section in OwnSettings.model_fields:
            general, own = (getattr(holder, section) for holder in (configuration, model))
            given = own.model_fields_set if own is not None else set()
            written = {key: value for key, value in _filled(own, effort, seed).items() if key in given} if given else {}
            entry[section] = _filled(general, effort, seed) | written
        entry |= {section: _filled(getattr(configuration, section), effort, seed) for section in _BY_NAME}
    return complete


def _filled(value: Any, effort: str, seed: int | None) -> Any:
    """Settings, and what they hold, as plain values."""
    if isinstance(value, Settings):
        fields = type(value).model_fields.items()
        return {name: _filled(_of_key(value, name, field, effort, seed), effort, seed) for name, field in fields}
    if isinstance(value, dict):
        return {key: _filled(each, effort, seed) for key, each in value.items()}
    return [_filled(each, effort, seed) for each in value] if isinstance(value, list) else value


def _of_key(settings: Settings, name: str, field: FieldInfo, effort: str, seed: int | None) -> Any:
    if name in settings.model_fields_set:
        return getattr(settings, name)
    if name == "seed" and seed is not None:
        return seed
    extra: Any = field.json_schema_extra or {}
    return extra["by_effort"][effort] if "by_effort" in extra else getattr(settings, name)

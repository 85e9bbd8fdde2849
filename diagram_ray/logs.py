"""Events in the log: a sentence for people and, where `--log-json` is asked for, the same in fields for machines."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

EVENT = 15
"""A level of the log below INFO: what happens all the time. JSON has it, people are spared."""

logging.addLevelName(EVENT, "EVENT")


def event(name: str, **fields: Any) -> dict[str, Any]:
    """The `extra` of a call to the log: the event's name and its fields (study, trial, fold, epoch, ...)."""
    return {"fields": {"event": name} | fields}


class JsonLines(logging.Formatter):
    """One JSON object a record: time (UTC), level, message and, of an event, its name and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """A line without its end."""
        fields = getattr(record, "fields", {"event": "log"})
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "message": record.getMessage()} | fields
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)

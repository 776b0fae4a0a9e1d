"""What a run prints in a terminal: progress and results, one line each, not every event."""

from __future__ import annotations

import logging
import sys

import dagster as dg


class Messages(logging.Filter):
    """Messages of steps, and failures; Dagster's own bookkeeping stays in the event log."""

    def filter(self, record: logging.LogRecord) -> bool:
        meta = getattr(record, "dagster_meta", None)
        event = (meta or {}).get("dagster_event") if isinstance(meta, dict) else getattr(meta, "dagster_event", None)
        return record.levelno >= logging.ERROR or (event is None and record.levelno >= logging.INFO)


class Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", None) or {}
        message = meta.get("orig_message") if isinstance(meta, dict) else None
        level = "" if record.levelno < logging.WARNING else f"{record.levelname}: "
        return f"{self.formatTime(record, '%H:%M:%S')}  {level}{message or record.getMessage()}"


@dg.logger({}, description="Progress lines and failures on standard error.")
def console(_: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.Logger("promptcot")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Messages())
    handler.setFormatter(Line())
    logger.addHandler(handler)
    return logger

# SPDX-License-Identifier: Apache-2.0
"""Log lines as OTLP records: the same document that stands in the file, with its trace."""

from __future__ import annotations

import logging

from opentelemetry._logs import Logger, LogRecord, SeverityNumber

from control_plane.logs import Thinning, document

_SEVERITY = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}
# The resource says which process it is; time, level and trace have fields of their own.
_ELSEWHERE = frozenset({"time", "level", "process", "message", "trace_id", "span_id"})


class Exported(logging.Handler):
    """Hands each record to OpenTelemetry. What exporters say stays in the file: it would feed them."""

    def __init__(self, logger: Logger) -> None:
        """Emit through this logger."""
        super().__init__()
        self._logger = logger
        self._thin = Thinning()

    def emit(self, record: logging.LogRecord) -> None:
        """Emit one record; never raises."""
        if record.name.startswith(("opentelemetry", "urllib3")) or self._thin.suppressed(record) is None:
            return
        try:
            told = document(record, "")
            attributes = {
                name if name == "logger" else f"qcos.{name}": ", ".join(value) if isinstance(value, list) else value
                for name, value in told.items()
                if name not in _ELSEWHERE
            }
            self._logger.emit(
                LogRecord(
                    timestamp=int(record.created * 1e9),
                    severity_text=told["level"],
                    severity_number=_SEVERITY.get(record.levelno, SeverityNumber.INFO),
                    body=told["message"],
                    attributes=attributes,
                )
            )
        except Exception:  # noqa: BLE001, S110 - a line that can't be told must not break what wrote it
            pass

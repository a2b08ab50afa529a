"""Statistics, counted where the log is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstore.log import open_log
from evstore.past.stats import stats as log_stats

if TYPE_CHECKING:
    from evstore.config import Config
    from evstore.past.history import At
    from evstore.past.stats import Stats


async def stats(
    config: Config, *, since: At | None = None, until: At | None = None
) -> Stats:
    """Return statistics of the events between two moments, both included.

    They are counted where the log is, in one pass over that range.

    Raises:
        InvalidError: a moment is none.
        SchemaError: the database is not at the version that this program needs.
        UnavailableError: the log cannot be read.
    """
    async with open_log(config) as log:
        return await log_stats(log, since=since, until=until)

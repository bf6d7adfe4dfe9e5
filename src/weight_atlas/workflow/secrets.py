"""Keep what the environment holds secret out of what Snakemake says.

Executors print what they start, and some of them their whole environment, where a run is verbose; that is kept in log
files which others may read.
"""

import logging
import re
from collections.abc import Mapping

_NAMED = re.compile(r"(TOKEN|PASSWORD|SECRET|SECRET_KEY|ACCESS_KEY|API_KEY)$", re.IGNORECASE)
_LEAST = 8  # characters; what is shorter stands in texts by chance


class WithoutSecrets(logging.Filter):
    """Takes the values of an environment's variables that are named as secrets are out of records of a logger."""

    def __init__(self, environment: Mapping[str, str]):
        super().__init__()
        found = {value for name, value in environment.items() if _NAMED.search(name) and len(value) >= _LEAST}
        longest = sorted(found, key=len, reverse=True)  # one may be part of another
        self._secrets = re.compile("|".join(map(re.escape, longest))) if found else None

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record where it holds a secret, and let it pass."""
        if self._secrets is not None and self._secrets.search(said := record.getMessage()):
            record.msg, record.args = self._secrets.sub("***", said), ()
        return True

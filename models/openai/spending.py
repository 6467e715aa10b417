"""What the replies of a command have cost, and the limit."""

from __future__ import annotations

import threading

from evalkit.clients.connection import ChatReply
from evalkit.errors import ModelUnavailable

from .settings import Price


class Spending:
    """Adds up dollars; may be used from many threads. `limit`: dollars; None sets no limit."""

    def __init__(self, price: Price, limit: float | None) -> None:
        self.price, self.limit = price, limit
        self.dollars = 0.0
        self._uncounted = False
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise ModelUnavailable where nothing more may be spent."""
        if self.limit is None:
            return
        if self._uncounted:
            raise ModelUnavailable(
                "The endpoint does not say how many tokens a reply took, so model.max_dollars cannot be kept: leave it "
                "out, and limit the command by model.max_calls.",
                "unavailable",
            )
        if self.dollars >= self.limit:
            raise ModelUnavailable(
                f"The replies of this command have cost ${self.dollars:.4g}, and model.max_dollars is {self.limit:g}. "
                "They are kept: raise model.max_dollars, or run the same command again to spend as much once more.",
                "unavailable",
            )

    def add(self, reply: ChatReply) -> float | None:
        """Count a reply. Returns its dollars; None where no price is set or the endpoint gives no token counts."""
        if not reply.prompt_tokens:
            self._uncounted = True
            return None
        dollars = self.price.dollars(reply.prompt_tokens, reply.completion_tokens)
        with self._lock:
            self.dollars += dollars or 0.0
        return dollars

"""How many threads numeric libraries use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


class Threads:
    """Holds numeric libraries to a number of threads, process-wide.

    Looking for loaded libraries takes milliseconds, so that is done again only where something has been imported since.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._modules = 0
        self._controller: ThreadpoolController | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, no library that is loaded uses more."""
        if self._controller is None or self._modules != len(sys.modules):
            self._controller, self._modules = ThreadpoolController(), len(sys.modules)
        with self._controller.limit(limits=self._number):
            yield

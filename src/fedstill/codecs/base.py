"""What a codec is: releases to bytes and back."""

from __future__ import annotations

from typing import Protocol

from fedstill.labels import Release


class Codec(Protocol):
    """Turns a release into bytes and back; what comes back may be coarser, never malformed."""

    def encode(self, release: Release) -> bytes:
        """Encode a release."""
        ...

    def decode(self, payload: bytes | memoryview) -> Release:
        """Decode a release; what comes out may look at the payload. Raises WireError where the bytes are not one."""
        ...

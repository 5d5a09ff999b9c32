"""What can be wrong with a signed action or its signature.

MalformedAction          2  the action cannot be hashed: names the key and what stands there
BadSignature             2  r, s and v are no signature, or nobody can be recovered from them
KeyStaysHere             3  something tried to copy or store a key
"""

from __future__ import annotations

from slipstream.errors import SafetyRefusal, UsageError


class MalformedAction(UsageError):
    """An action, or the envelope around it, has not the form its signature is taken over."""


class BadSignature(UsageError):
    """A signature is outside the curve's ranges, or recovers nobody."""


class KeyStaysHere(SafetyRefusal):
    """A signer was to be pickled or copied, which would spread its key."""

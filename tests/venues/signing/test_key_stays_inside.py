"""A signer never shows its key."""

from __future__ import annotations

import copy
import logging
import pickle
import secrets
import traceback

import pytest

from slipstream.venues.hyperliquid.signing import ORDER_OF_CURVE, Signer
from slipstream.venues.hyperliquid.signing_errors import KeyStaysHere, MalformedAction


@pytest.fixture
def secret():
    return secrets.token_bytes(32)


def shows(text, secret):
    return secret.hex() in text.lower() or repr(secret) in text or str(int.from_bytes(secret)) in text


def test_printing_a_signer_shows_its_address_only(secret):
    signer = Signer(secret)
    for text in (repr(signer), str(signer), f"{signer}", f"{[signer]}", "%s" % signer):  # noqa: UP031 - as old code logs
        assert not shows(text, secret)
        assert signer.address in text
    assert not hasattr(signer, "__dict__")


def test_logging_a_signer_shows_its_address_only(secret, caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("somebody").debug("signer %s %r", Signer(secret), [Signer(secret)])
    assert caplog.text
    assert not shows(caplog.text, secret)


@pytest.mark.parametrize("spread", [*(lambda s, p=p: pickle.dumps(s, p) for p in range(6)), copy.copy, copy.deepcopy])
def test_a_signer_is_neither_pickled_nor_copied(secret, spread):
    with pytest.raises(KeyStaysHere, match="not pickled or copied"):
        spread(Signer(secret))


@pytest.mark.parametrize(
    "wrong", [b"", bytes(32), bytes([255]) * 32, ORDER_OF_CURVE.to_bytes(32), bytes([7]) * 31, "7" * 32, None]
)
def test_a_wrong_key_is_refused_without_repeating_it(wrong):
    with pytest.raises(MalformedAction, match="a private key is 32 bytes") as caught:
        Signer(wrong)
    assert caught.value.__cause__ is None
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    inside = told.stack[-1]
    assert inside.name == "__init__"
    assert "key" not in (inside.locals or {})


def test_a_traceback_with_local_variables_does_not_show_the_key(secret):
    try:
        Signer(secret).sign_l1({"type": "noop", "x": 1.5}, 1, None)
    except MalformedAction as refused:
        told = traceback.TracebackException.from_exception(refused, capture_locals=True)
        ours = "".join(str(frame.locals) for frame in told.stack if "slipstream" in frame.filename)
        assert ours
        assert not shows(ours, secret)
    else:
        pytest.fail("a float was signed")

"""Whose account pays, and in which region to ask: what ``aws configure`` wrote, or the AWS_* variables.

Looked up in the order of Amazon's own tools: the environment, then the profile (``AWS_PROFILE``, else ``default``) in
the shared credentials and configuration files (``~/.aws``, or where ``AWS_SHARED_CREDENTIALS_FILE`` and
``AWS_CONFIG_FILE`` say). A secret is handed to the store and shown nowhere.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slipstream.errors import UsageError

_KEYS = ("aws_access_key_id", "aws_secret_access_key")
_PROVIDED = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""Where one of these is set, the store's library fetches short-lived keys by itself."""


class NoAccount(UsageError):
    """No credentials, or no region, are configured."""


@dataclass(frozen=True)
class Account:
    """How to reach S3.

    Attributes:
        region: of the requests.
        endpoint: of an S3-compatible store; None for Amazon's own.
        access_key_id, secret_access_key, session_token: None where the environment provides short-lived keys.
    """

    region: str
    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


def account(
    environment: Mapping[str, str], home: Path, *, region: str | None = None, endpoint: str | None = None
) -> Account:
    """The account to use.

    Args:
        environment: the process's variables.
        home: the user's folder, where ``.aws`` lies.
        region: overrides the configured one.
        endpoint: overrides ``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL``.

    Raises:
        NoAccount: there are no keys, half a pair of keys, or no region; the message says where they are looked for.
        UsageError: one of the files cannot be read.
    """
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    credentials_file = Path(
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials"
    ).expanduser()
    config_file = Path(environment.get("AWS_CONFIG_FILE") or home / ".aws" / "config").expanduser()
    configured = _section(config_file, "default" if profile == "default" else f"profile {profile}")
    where = f"{credentials_file} and {config_file} (profile {profile})"
    found = region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or configured.get("region")
    if not found:
        raise NoAccount(
            f'no AWS region is configured: pass --region, set AWS_REGION, or run "aws configure"; looked in {where}. '
            "Requests that cross regions fail, so name the bucket's"
        )
    reached = endpoint or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    key, secret, token = _keys(environment, {**configured, **_section(credentials_file, profile)})
    if key and secret:
        return Account(found, reached, key, secret, token)
    if key or secret:
        raise NoAccount(f"one of the two AWS keys is missing: {' and '.join(_KEYS)} belong together; looked in {where}")
    if any(environment.get(name) for name in _PROVIDED):
        return Account(found, reached)
    raise NoAccount(
        f'no AWS credentials: run "aws configure", or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with single '
        f'sign-on: eval "$(aws configure export-credentials --format env)"); looked in {where}. The archive is paid '
        "for by whoever reads it"
    )


def _keys(environment: Mapping[str, str], held: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """Key, secret and token, all from one source: a token belongs to its key."""
    if environment.get("AWS_ACCESS_KEY_ID") or environment.get("AWS_SECRET_ACCESS_KEY"):
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        key, secret, token = (environment.get(name) or None for name in names)
    else:
        key, secret, token = (held.get(name) or None for name in (*_KEYS, "aws_session_token"))
    return key, secret, token


def _section(file: Path, name: str) -> dict[str, str]:
    """One section of an AWS file; empty if the file or the section is absent."""
    parser = configparser.RawConfigParser()
    try:
        with file.open(encoding="utf-8") as stream:
            parser.read_file(stream)
    except FileNotFoundError:
        return {}
    except (configparser.Error, OSError, UnicodeDecodeError) as problem:
        # the parser quotes the line it stumbled over, and that may be a secret
        raise UsageError(
            f"{file}: cannot be read ({type(problem).__name__}); write it anew with aws configure"
        ) from None
    return dict(parser[name]) if parser.has_section(name) else {}

"""A bucket of the archive: what is there and how large, and the bytes of an object as a stream. The reader pays.

What the store answers becomes one of four: an object that is not there, a refusal (wrong keys, wrong region: nothing
else will work either), a fault that may pass, or bytes. Messages carry the store's code and never what was sent.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slipstream.errors import SlipstreamError, UsageError
from slipstream.ingest.archive.credentials import Account

if TYPE_CHECKING:
    from obstore.store import S3Store

CHUNK_BYTES = 256 << 10
_PAGE = 1000
_PROBE_S = 10.0
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>")
_REDIRECTED = (
    "redirect without LOCATION",
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
)


class ObjectAbsent(SlipstreamError):
    """The store has no object of this key."""


class AccessRefused(UsageError):
    """The store will not serve this account as it asks: going on would meet the same answer."""


class StoreFault(SlipstreamError):
    """The store failed or could not be reached, after retries."""


class Bucket:
    """One bucket, safe to use from many threads."""

    def __init__(self, name: str, account: Account, *, retries: int) -> None:
        from obstore.store import S3Store

        self.name = name
        self._account = account
        keys = {
            "access_key_id": account.access_key_id,
            "secret_access_key": account.secret_access_key,
            "session_token": account.session_token,
            "endpoint": account.endpoint,
        }
        self._store: S3Store = S3Store(
            name,
            region=account.region,
            request_payer=True,
            client_options={
                "allow_http": (account.endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=15),
                "read_timeout": timedelta(seconds=60),
                "timeout": timedelta(hours=1),
            },
            retry_config={"max_retries": retries, "retry_timeout": timedelta(minutes=5)},
            **{name: value for name, value in keys.items() if value is not None},  # type: ignore[arg-type]
        )

    def url(self, key: str) -> str:
        """How an object is called in messages."""
        return f"s3://{self.name}/{key}"

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of every object below a folder (``name/``), by key. Only lists; fetches nothing.

        Raises:
            AccessRefused, StoreFault: see there.
        """
        import obstore
        from obstore.exceptions import BaseError

        try:
            pages = obstore.list(self._store, prefix=folder, chunk_size=_PAGE)
            return {held["path"]: held["size"] for page in pages for held in page}
        except (BaseError, FileNotFoundError) as problem:
            raise self._error(problem, folder) from None

    def chunks(self, key: str) -> Iterator[bytes]:
        """An object's bytes, a piece at a time.

        Raises:
            ObjectAbsent: there is no such object.
            AccessRefused, StoreFault: see there.
        """
        import obstore
        from obstore.exceptions import BaseError

        try:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except (BaseError, FileNotFoundError) as problem:
            raise self._error(problem, key) from None

    def _error(self, problem: Exception, key: str) -> SlipstreamError:
        text = str(problem)
        status, code, region = (match[1] if (match := p.search(text)) else None for p in (_STATUS, _CODE, _REGION))
        what = f"{status or 'no answer'}{f' {code}' if code else ''}"
        if code == "NoSuchBucket":
            return AccessRefused(f"s3://{self.name}: there is no such bucket at {self._where()}; check --endpoint-url")
        if status == "404":
            return ObjectAbsent(f"{self.url(key)}: not there")
        if region or status in ("301", "307", "400") or any(mark in text for mark in _REDIRECTED):
            found = region or self._home_region()
            if found and found != self._account.region:
                return AccessRefused(
                    f"s3://{self.name} lies in region {found}; the requests went to {self._account.region} ({what}). "
                    f"Pass --region {found}"
                )
        if status in ("401", "403"):
            return AccessRefused(
                f"{self.url(key)}: access refused ({what}). The keys are wrong or expired, the clock is off, or the "
                'account may not read buckets whose reader pays; check "aws sts get-caller-identity", then run again: '
                "what is done stays done"
            )
        reason = text.split(" in ", 1)[0].splitlines()[0] if status is None else what
        return StoreFault(f"{self.url(key)}: the store at {self._where()} did not deliver ({reason}); run again later")

    def _where(self) -> str:
        return self._account.endpoint or f"region {self._account.region}"

    def _home_region(self) -> str | None:
        """The region a bucket says it lies in, asked without signature; None if it does not say."""
        place = urlsplit(self._account.endpoint or "https://s3.amazonaws.com")
        secure = place.scheme != "http"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        link = kind(place.hostname or "", place.port, timeout=_PROBE_S)
        try:
            link.request("HEAD", f"/{self.name}")
            return link.getresponse().getheader("x-amz-bucket-region")
        except (OSError, http.client.HTTPException):
            return None  # the answer only improves a message about another fault
        finally:
            link.close()

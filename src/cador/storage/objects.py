"""The shared store: a bucket (S3, Google, Azure) or a shared folder, through ``obstore``, which is loaded only here.

Keys are paths. What the store says in many lines is told in one, and never with credentials.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from cador.domain.errors import CadorError

CONNECT_S: Final = 3.0
READ_S: Final = 5.0
"""Longest a reader waits for one part of an object."""
WRITE_S: Final = 120.0
"""Longest one request of an upload takes; large objects take several."""
KEY_BYTES: Final = 1_000
"""Longest key: S3 takes 1,024 bytes, prefix included."""
_PART_BYTES: Final = 8 << 20
_FOLDER: Final = "file"
_REGIONS: Final = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION"})
KINDS: Final = ("s3", "gs", "az", _FOLDER)


class StoreAway(OSError):
    """The store cannot be used right now; try again later."""


class StoreRefuses(OSError):
    """The store will never take this object."""


class CannotUseStore(CadorError):
    """The settings of the store do not fit; one line that says why and what to do."""


@dataclass(frozen=True, slots=True)
class Stored:
    """``key``; ``size`` in bytes; ``stored_at``: Unix seconds."""

    key: str
    size: int
    stored_at: float


class Objects:
    """Objects under keys. A key is there completely or not at all.

    ``put`` and ``delete`` are for the event loop and can be cancelled; the others block and are called in threads.
    Every method raises StoreAway when the store cannot be used.
    """

    def __init__(self, reading: Any, writing: Any, *, mounted: Callable[[], bool] = lambda: True) -> None:
        """Two clients of one store, with time limits for either use. *mounted*: a shared folder is there. See
        :func:`open_objects`."""
        self._mounted = mounted
        import obstore
        from obstore import exceptions

        self._obstore: Any = obstore
        self._never = (exceptions.InvalidPathError, exceptions.NotSupportedError, ValueError)
        self._errors = (exceptions.BaseError, OSError)
        self._reading, self._writing = reading, writing

    async def put(self, key: str, data: bytes | Path) -> None:
        """Store bytes or a local file. Raises: FileNotFoundError: no such file. StoreRefuses."""
        if len(key.encode()) > KEY_BYTES:
            raise StoreRefuses(f"its name has more than {KEY_BYTES} bytes")
        self._need_mounted()
        # A file is opened here, so that only it can be what is not found.
        file = await asyncio.to_thread(data.open, "rb") if isinstance(data, Path) else None
        try:
            await self._obstore.put_async(
                self._writing, key, data if file is None else file, chunk_size=_PART_BYTES, max_concurrency=2
            )
        except self._never as error:
            raise StoreRefuses(_first_line(error)) from error
        except self._errors as error:
            raise StoreAway(_first_line(error)) from error
        finally:
            if file is not None:
                file.close()

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        self._need_mounted()
        for key in keys:
            try:
                await self._obstore.delete_async(self._writing, key)
            except FileNotFoundError:
                continue
            except self._errors as error:
                raise StoreAway(_first_line(error)) from error

    def get(self, key: str) -> bytes:
        """Raises: FileNotFoundError."""
        return bytes(self._read(lambda: self._obstore.get(self._reading, key).bytes(), key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Part of an object, all of it within the object. Raises: FileNotFoundError."""
        if length <= 0:
            return b""
        return bytes(self._read(lambda: self._obstore.get_range(self._reading, key, start=start, length=length), key))

    def size(self, key: str) -> int:
        """Raises: FileNotFoundError."""
        size: int = self._read(lambda: self._obstore.head(self._reading, key), key)["size"]
        return size

    def list(self, prefix: str) -> Iterator[Stored]:
        """All objects below *prefix*, a whole path, in any order."""
        stream = self._read(lambda: self._obstore.list(self._reading, prefix, chunk_size=1_000), prefix)
        while True:
            try:
                page = self._read(lambda: next(stream, None), prefix)
            except FileNotFoundError:
                return
            if page is None:
                return
            for one in page:
                yield Stored(one["path"], one["size"], one["last_modified"].timestamp())

    def _need_mounted(self) -> None:
        """A folder that is gone would be made anew, on the disk below the share."""
        if not self._mounted():
            raise StoreAway("the shared folder is not there")

    def _read(self, ask: Any, key: str) -> Any:
        self._need_mounted()
        try:
            return ask()
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise StoreAway("the bucket does not exist") from error
            raise FileNotFoundError(key) from error
        except self._never as error:
            raise FileNotFoundError(key) from error
        except self._errors as error:
            raise StoreAway(_first_line(error)) from error


def open_objects(
    url: str, *, endpoint: str = "", region: str = "", access_key_id: str = "", secret_access_key: str = ""
) -> Objects:
    """Open the store at *url*: ``s3://bucket/prefix``, ``gs://...``, ``az://container/...`` or ``file:///folder``.

    Nothing is asked of it yet. *endpoint*: of a store of S3's kind that is not Amazon's; the bucket is then part of the
    path. What is empty is taken from the environment, as the tools of each cloud do.

    Raises: CannotUseStore.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in KINDS or parts.username or parts.query or parts.fragment:
        raise CannotUseStore(
            "store.url: write s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
        )
    try:
        from obstore import exceptions
        from obstore.store import AzureStore, GCSStore, LocalStore, S3Store
    except ImportError:
        raise CannotUseStore("store.url needs the package obstore: pip install 'cador[s3]'") from None
    prefix = unquote(parts.path).strip("/")
    if parts.scheme == _FOLDER:
        if parts.netloc or not prefix:
            raise CannotUseStore("store.url: a shared folder is written file:///path/of/the/folder")
        folder = Path("/") / prefix
        if not folder.is_dir():  # never made here: it may be a share that is not mounted
            raise CannotUseStore(f"store.url: there is no folder {folder}: make it, or mount it")
        store = LocalStore(prefix=folder)
        found = folder.stat()

        def mounted() -> bool:
            try:
                now = folder.stat()
            except OSError:
                return False
            return (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino)

        return Objects(store, store, mounted=mounted)
    if not parts.netloc:
        raise CannotUseStore(f"store.url: the bucket is missing in {url}")
    options: dict[str, Any] = {}
    if parts.scheme == "s3":
        named = {
            "endpoint": endpoint,
            "region": region or ("us-east-1" if endpoint and not _REGIONS & os.environ.keys() else ""),
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
        options = {name: value for name, value in named.items() if value}
        if endpoint:
            options["virtual_hosted_style_request"] = False
    elif parts.scheme == "az":
        named = {"account_name": access_key_id, "account_key": secret_access_key, "endpoint": endpoint}
        options = {name: value for name, value in named.items() if value}

    def client(seconds: float, retries: int) -> Any:
        limits: dict[str, Any] = {
            "client_options": {
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=seconds),
            },
            # Uploads are repeated by who asked for them, and readers look elsewhere.
            "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=seconds)},
        }
        if parts.scheme == "s3":
            return S3Store(parts.netloc, prefix=prefix or None, **options, **limits)
        if parts.scheme == "gs":
            return GCSStore(parts.netloc, prefix=prefix or None, **limits)
        return AzureStore(parts.netloc, prefix=prefix or None, **options, **limits)

    try:
        return Objects(client(READ_S, 1), client(WRITE_S, 0))
    except (exceptions.BaseError, ValueError, TypeError) as error:
        raise CannotUseStore(f"store: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(": <?xml")[0][:300]

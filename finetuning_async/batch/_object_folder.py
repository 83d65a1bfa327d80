"""A batch whose files go to an object store, such as S3, by obstore.

The folder on this machine holds the journal, unfinished downloads and copies of the
outputs. An object is written by one request, so it appears whole or not at all, and
never in the place of another one: the store itself refuses that. If a run is killed
after an upload and before the journal has it, the next run finds the same bytes there.

Needs the extra ``objects``. Credentials, region and endpoint are those of the
environment, as for other tools of the store: ``AWS_ACCESS_KEY_ID``, ``AWS_REGION``,
``AWS_ENDPOINT``, for a slow network ``AWS_TIMEOUT`` (30 s for one file), and so on.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import uuid
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from finetuning_async._constants import POSTGRES_SCHEMES
from finetuning_async._errors import APIConnectionError, InvalidRequestError
from finetuning_async._runtime import state_folder
from finetuning_async.batch._folder import Folder
from finetuning_async.journal import (
    BatchError,
    BatchLockedError,
    other_names,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from finetuning_async.journal import JournalStore

SCHEMES: Final = ("s3", "s3a", "gs", "az", "abfs", "abfss")
OWNER: Final = "batch-journal.json"
"""The object that says which journal the batch belongs to."""

_LOCATION: Final = "a path, or a URL such as s3://bucket/album/, without a login"
_RETRIES: Final[dict[str, Any]] = {"max_retries": 3}
"""Of one request; a run tries a file again by itself. The store's other options are
those of the environment, which `client_options` would replace."""


def folder_of(
    location: str | os.PathLike[str], journal: str | os.PathLike[str] | None = None
) -> Folder:
    """The folder of a batch.

    Args:
        location: Where its files go: a path, or the URL of an object store.
        journal: For a URL, where its journal is: a folder, or a ``postgresql://`` URL;
            `None` for one in the user's state directory.

    Raises:
        InvalidRequestError: One of them is not valid; a URL is not shown.
    """
    given = os.fspath(location)
    if "://" not in given:
        if journal is not None:
            raise InvalidRequestError.hidden(
                "journal", "given for an object store only; a folder has its own"
            )
        return Folder(Path(given))
    url = urlsplit(given)
    hidden = url.query or url.fragment or url.username or url.password
    if url.scheme not in SCHEMES or not url.netloc or hidden:
        raise InvalidRequestError.hidden("folder", _LOCATION)
    is_database = str(journal).startswith(POSTGRES_SCHEMES)
    database = _checked_url(str(journal)) if is_database else None
    place = None if journal is None or database else Path(journal)
    return ObjectFolder(given.rstrip("/") + "/", place, database)


class ObjectFolder(Folder):
    """The objects under a URL, and the folder that holds what belongs to them.

    Args:
        url: Where the files go, with a slash at the end.
        place: The folder; `None` for one in the user's state directory.
        database: The PostgreSQL that holds the journal, if it is not in the folder.
    """

    def __init__(self, url: str, place: Path | None, database: str | None) -> None:
        super().__init__(place or _default_place(url))
        self.location = url
        self.audio = None
        self._database = database
        self._runner_lock: Any = None
        self._objects, self._errors = _connect(url)

    def open(self) -> None:
        """As `Folder.open`; reads the outputs that an earlier run left in the store."""
        super().open()
        try:
            with self._as_batch_error("listed"):  # whether it can be used at all
                next(iter(self._objects.list()), None)  # one page of it
            for output in (self.results, self.errors):
                self._fetch(output)
        except BaseException:
            self.remove_if_new()
            self.close()
            raise

    def open_store(self, *, take_over: bool = False) -> JournalStore:
        """As `Folder.open_store`; notes in the store which journal the batch has."""
        store = self._open_store()
        try:
            self._claim(store, take_over=take_over)
        except BaseException:
            store.close()
            raise
        return store

    def _open_store(self) -> JournalStore:
        if self._database is None:
            return super().open_store()
        lock = _postgres().RunnerLock(self._database, self._journal_name)
        if not lock.acquire():
            raise BatchLockedError(
                f"another runner is working on {self.location}; wait until it has"
                " ended, or stop it"
            )
        self._runner_lock = lock
        store: JournalStore = self.read_store()
        return store

    def read_store(self) -> JournalStore:
        """As `Folder.read_store`."""
        if self._database is None:
            return super().read_store()
        store: JournalStore = _postgres().PostgresStore(
            self._database, journal=self._journal_name
        )
        return store

    @property
    def _journal_name(self) -> str:
        return f"batch {self.location}"

    @property
    def is_batch(self) -> bool:
        """Whether there is a journal of it."""
        if self._database is None:
            return super().is_batch
        store = self.read_store()
        try:
            return bool(store.summary().total)
        finally:
            store.close()

    def close(self) -> None:
        """Release the lock."""
        lock, self._runner_lock = self._runner_lock, None
        if lock is not None:
            lock.close()
        super().close()

    def sizes(self) -> dict[str, int]:
        """The size in bytes of each object directly under the URL, by its name."""
        with self._as_batch_error("listed"):
            rows = self._objects.list_with_delimiter()["objects"]
            return {row["path"]: row["size"] for row in rows}

    def location_of(self, name: str) -> str:
        """As `Folder.location_of`."""
        return self.location + name

    def publish(self, output: Path) -> None:
        """Copy an output to the store; it replaces the last copy.

        Raises:
            OSError: It cannot be written.
        """
        try:
            self._put(output.name, output.read_bytes(), "application/jsonl")
        except self._errors as error:
            place = self.location_of(output.name)
            text = f"{place} was not written: {_first_line(error)}"
            raise OSError(text) from None

    def store_as(self, wanted: str, key: str, body: bytes, plain: bytes) -> str:
        """Write a file under a name that no other object has, and return the name.

        Args:
            wanted: The name it should have.
            key: The item's; other names are made from it.
            body: The file.
            plain: The same without tags.

        Raises:
            APIConnectionError: The store could not be reached, or refused.
        """
        names = chain([wanted], other_names(wanted, key))
        try:
            return next(name for name in names if self._put_new(name, body, plain))
        except self._errors as error:
            raise APIConnectionError(
                f"{self.location_of(wanted)} was not written: {_first_line(error)}",
                safe_to_retry=True,
            ) from None

    def _put_new(self, name: str, body: bytes, plain: bytes) -> bool:
        """Write an object, unless another one has the name.

        One with the same bytes is ours: a run that was killed has left it.
        """
        taken = import_module("obstore.exceptions").AlreadyExistsError
        try:
            self._put(name, body, "audio/mpeg", mode="create")
        except taken:
            found = bytes(self._objects.get(name).bytes())
            if found != body and found == plain:  # left by a run without tags
                self._put(name, body, "audio/mpeg")
            return found in (body, plain)
        return True

    def _put(self, name: str, body: bytes, kind: str, mode: Any = "overwrite") -> None:
        attributes = {"Content-Type": kind}
        self._objects.put(
            # One request: a multipart upload that is killed leaves its parts for ever.
            name, body, mode=mode, use_multipart=False, attributes=attributes
        )  # fmt: skip

    def _fetch(self, output: Path) -> None:
        """Make the copy of an output the same as in the store, or absent as there."""
        with self._as_batch_error("read"):
            try:
                body = bytes(self._objects.get(output.name).bytes())
            except FileNotFoundError:
                output.unlink(missing_ok=True)
                return
        output.write_bytes(body)

    def _claim(self, store: JournalStore, *, take_over: bool) -> None:
        """Note in the store which journal this batch has; refuse another one's.

        Two journals would both pay for what is still to be made.

        Raises:
            BatchError: The batch belongs to another journal.
        """
        known = store.read_note(OWNER)
        mine = known or str(uuid.uuid4())
        if known is None:
            store.write_note(OWNER, mine)
        where = f"{platform.node()}:{self.path.absolute()}"
        place = where if self._database is None else "PostgreSQL"
        owner = {"journal": mine, "at": place}
        body = json.dumps(owner).encode()
        taken = import_module("obstore.exceptions").AlreadyExistsError
        # Once the store may name this journal, it stays, even if nothing is added: the
        # next run would have another one, and be refused.
        was_new, self._is_new = self._is_new, False
        with self._as_batch_error("written"):
            try:
                self._put(OWNER, body, "application/json", mode="create")
            except taken:
                found = _owner(bytes(self._objects.get(OWNER).bytes()))
                if found.get("journal") != mine and not take_over:
                    self._is_new = was_new
                    raise self._owned_error(found) from None
                if found != owner:
                    self._put(OWNER, body, "application/json")

    def _owned_error(self, found: dict[str, Any]) -> BatchError:
        return BatchError(
            f"{self.location} belongs to a batch whose journal is at"
            f" {found.get('at', 'another place')}, so its rows would be charged again."
            " Nothing was sent. Run it there, or with that journal (--journal). If it"
            ' is lost, choose: --adopt (in Python existing="adopt") counts rows with'
            ' results there as done; --anew (existing="anew") makes them again, under'
            " other names"
        )

    @contextmanager
    def _as_batch_error(self, verb: str) -> Generator[None]:
        """Raise what the store refuses as an error of the batch."""
        try:
            yield
        except self._errors as error:
            raise BatchError(
                f"{self.location} cannot be {verb}: {_first_line(error)}. Check the"
                " bucket, and the credentials and endpoint in the environment (such as"
                " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT)"
            ) from None


def _connect(url: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A store of obstore, and what its methods raise.

    Raises:
        BatchError: The extra is missing, or the store cannot be configured.
    """
    try:
        stores = import_module("obstore.store")
        errors = (import_module("obstore.exceptions").BaseError, OSError)
    except ImportError:
        raise BatchError(
            "an object store needs obstore: pip install 'finetuning-async[objects]'"
        ) from None
    try:
        return stores.from_url(url, retry_config=_RETRIES), errors
    except (*errors, ValueError) as error:
        raise BatchError(f"{url} cannot be used: {_first_line(error)}") from None


def _checked_url(url: str) -> str:
    """A PostgreSQL URL that can be parsed.

    Raises:
        InvalidRequestError: It cannot; the error of libpq would show its password.
    """
    try:
        _postgres().check_conninfo(url)
    except InvalidRequestError as error:
        raise InvalidRequestError.hidden("journal", error.allowed) from None
    return url


def _postgres() -> Any:
    """The layer beside this one, which needs an extra: so it is imported by name.

    Raises:
        BatchError: The extra is missing.
    """
    try:
        return import_module("finetuning_async.postgres")
    except ImportError as missing:
        raise BatchError(str(missing)) from None


def _default_place(url: str) -> Path:
    """The folder of a batch in the user's state directory."""
    hashed = hashlib.sha256(url.encode()).hexdigest()[:16]
    return state_folder("journal") / "batches" / hashed


def _owner(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _first_line(error: Exception) -> str:
    """The text of an error; obstore's go on with the state of its structures."""
    return str(error).partition("\n")[0].strip()

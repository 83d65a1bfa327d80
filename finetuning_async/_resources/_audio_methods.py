"""The client's methods for audio: to a file, or passed on.

A base class of `TrackMethods`, for the same reasons.
"""

from __future__ import annotations

import logging
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from finetuning_async import _api
from finetuning_async._errors import (
    APIResponseError,
    APITimeoutError,
    ClientClosedError,
    InvalidRequestError,
)
from finetuning_async._resources._account_methods import AccountMethods

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from finetuning_async._api import Generation, SoundEffect
    from finetuning_async._downloads import AudioStream, Download
    from finetuning_async._session import Session

logger = logging.getLogger("finetuning_async")


class AudioMethods(AccountMethods):
    """Download, and open audio; see `AsyncClient`."""

    async def download(
        self,
        generation_or_url: Generation | SoundEffect | str,
        path: str | os.PathLike[str],
        *,
        on_progress: Callable[[int, int | None], object] | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        metadata: bool | Mapping[str, object] = False,
        check: bool = False,
    ) -> Path:
        """Download a track to a file, completely or not at all.

        Up to eight downloads of an account run at a time; others wait. An existing file
        is replaced, with its mode and owner kept; of a symbolic link, the target is
        replaced. A pipe or a device is written once the track is complete; a pipe waits
        for its reader.

        Args:
            generation_or_url: A completed track, or its `audio_url`.
            path: The file; missing folders are made. In an existing folder the file
                gets the service's default name, with letters of all scripts kept.
            on_progress: Called with the bytes received and the total, if known; plain
                or async.
            timeout: Seconds for the whole call, waiting for other downloads included;
                `None` for no limit.
            max_retries: How often a broken download is resumed, at least 0; `None` for
                the client's number.
            metadata: Whether to write what is known of the track into the file, as ID3
                tags: title, prompt, bpm, key, seed, id. A mapping with some of these
                names or ``lyrics`` is written too, or in their place.
            check: Whether to check that the file is whole, as long as was asked for (to
                a second), and not silent. One that is not is kept all the same.

        Returns:
            The path.

        Raises:
            InvalidRequestError: The track has no audio, its URL is not on a public
                host, or the path cannot be written.
            APIStatusError: The media host responded with an error status.
            APIConnectionError: The download broke too often, or a redirect led to an
                address that is not allowed.
            APIResponseError: The response is not audio, but a web page, for example; or
                the file, which is saved, did not pass the `check`.
            APITimeoutError: It timed out; no partial file is left.
            OSError: The file could not be written: the disk is full, or the reader of
                the pipe has closed it, for example.
        """
        from finetuning_async._downloads import (
            Finish,
            names_other_format,
            resolve_target,
        )

        _api.check_callback(on_progress, "on_progress")
        deadline = deadline_of(timeout)
        session = self._session()
        download = _new_download(session, generation_or_url, on_progress, max_retries)
        finish = None
        if check or metadata is not False:
            finish = Finish(generation_or_url, metadata, check=check)
        around = session.download_operation(generation_or_url)
        with session.calls.scope(deadline), around:
            async with session.account.concurrency.downloads:
                target = resolve_target(generation_or_url, Path(path))
                if names_other_format(target):
                    logger.warning("%s holds an MP3, whatever its name says", target)
                saved = await download.to(target, deadline=deadline, finish=finish)
                if finish is not None and finish.problems:
                    raise _failed_check(saved, generation_or_url, finish.problems)
                return saved
        # Reached only if `calls.scope` has cancelled the block.
        if session.calls.is_closing:
            raise ClientClosedError("the client was closed during this download")
        raise APITimeoutError(
            f"the download timed out after {timeout:g} s; no partial file is left",
            safe_to_retry=True,
        )

    def open_audio(
        self,
        generation_or_url: Generation | SoundEffect | str,
        *,
        start: int = 0,
        end: int | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> AudioStream:
        """Open the audio of a track, to pass it on without a file.

        The same hosts and redirects are allowed as for `download`, and the length is
        checked as well: an iteration that ends without an error was complete. A stream
        that breaks goes on where it broke, if the host proves that the rest belongs to
        the same version of the file. It does not count among the eight downloads at a
        time, but takes a connection while it is open: one of the caller's, if the
        client has an `http_client`.

        Args:
            generation_or_url: A completed track, or its `audio_url`.
            start: The first byte wanted, at least 0. For the ``Range`` header
                ``bytes=500-999`` of a player: ``start=500, end=1000``.
            end: The byte before which to end, more than `start`; `None` for the end of
                the file, which comes sooner if the file is shorter.
            timeout: Seconds for which opening, and then each wait for the next bytes,
                may take, with all retries; `None` for no limit. What the caller does
                in between does not count.
            max_retries: How often in a row a broken stream is resumed, at least 0;
                `None` for the client's number.

        Returns:
            An ``async with`` block. Entering it raises all errors but those that break
            the stream later.

        Raises:
            InvalidRequestError: The track has no audio, its URL is not on a public
                host, or `start` is behind the end of the file.
            APIStatusError: The media host responded with an error status.
            APIConnectionError: The stream broke too often, it was not resumed because
                the host had another version of the file by then, or a redirect led to
                an address that is not allowed.
            APIResponseError: The response is not audio, but a web page, for example.
            APITimeoutError: It timed out.
            ClientClosedError: The client was closed.

        Example:
            track = await client.generate("rain", duration=30)
            async with client.open_audio(track) as audio:
                print(audio.content_type, audio.size)
                async for chunk in audio:
                    print(len(chunk))
        """
        from finetuning_async._downloads import AudioStream, audio_url

        if timeout is not None:
            _api.check_timeout(timeout)
        _check_range(start, end)
        session = self._session()
        return AudioStream(
            session.pipeline.transport,
            session.pipeline.retry.with_max_retries(max_retries),
            session.calls,
            audio_url(generation_or_url),
            start=start,
            end=end,
            timeout=timeout,
            hook=session.pipeline.hook,
        )


def _check_range(start: int, end: int | None) -> None:
    """Check a range of bytes.

    Raises:
        InvalidRequestError: It is not one, or is empty.
    """
    first = _api.whole_number(start)
    if first is None or first < 0:
        raise InvalidRequestError("start", start, "a whole number of at least 0")
    if end is None:
        return
    last = _api.whole_number(end)
    if last is None or last <= first:
        raise InvalidRequestError("end", end, f"a whole number above start, {first}")


def deadline_of(timeout: float | None) -> float:
    """The deadline on the loop's clock of a call that begins now.

    Raises:
        InvalidRequestError: The timeout is not a number of seconds.
    """
    if timeout is None:
        return inf
    return anyio.current_time() + _api.check_timeout(timeout)


def _failed_check(
    path: Path, track: Generation | SoundEffect | str, problems: list[str]
) -> APIResponseError:
    """The error of a file that is saved, but is not what was asked for."""
    track_id = None if isinstance(track, str) else track.id
    found = " and ".join(problems)
    return APIResponseError(
        f"{path} is saved, but it {found}; to have another one made costs another"
        " credit",
        generation_id=track_id,
    )


def _new_download(
    session: Session,
    generation_or_url: Generation | SoundEffect | str,
    on_progress: Callable[[int, int | None], object] | None,
    max_retries: int | None,
) -> Download:
    from finetuning_async._downloads import Download, audio_url

    return Download(
        session.pipeline.transport,
        session.pipeline.retry.with_max_retries(max_retries),
        audio_url(generation_or_url),
        on_progress,
        session.pipeline.hook,
    )

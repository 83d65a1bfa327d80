"""What people do to the service by hand: in the web app, at its page, in a suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetuning_async.emulator import _control
from finetuning_async.emulator._settings import EmulatorSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async.emulator._records import Account, Job
    from finetuning_async.emulator._service import Service


class ManualControl(EmulatorSettings):
    """The part of an `Emulator` that works on tracks, playlists and the clock."""

    _service: Service | None = None

    # What users do in the web app.

    def add_playlist(
        self,
        name: str,
        tracks: Iterable[str] = (),
        *,
        description: str | None = None,
        public: bool = False,
        account: Account | None = None,
    ) -> str:
        """Create a playlist of existing tracks, which the API cannot do.

        Args:
            name: Its name.
            tracks: Ids of its tracks.
            description: Its description.
            public: Whether others see it; a public one accepts public tracks only.
            account: Its owner, by default the first account.

        Returns:
            Its id.

        Raises:
            KeyError: No track has this id.
        """
        state = self._state()
        body = {"name": name, "description": description, "public": public}
        tracks = list(tracks)
        for track_id in tracks:
            _ = state.jobs[track_id]
        entry = _control.add_playlist(state, {**body, "tracks": tracks})
        entry.owner = account or state.account
        return entry.id

    def set_public(self, track_id: str, *, public: bool = True) -> None:
        """Change a track's visibility, which the API cannot do.

        Args:
            track_id: Its id.
            public: Whether others see it.

        Raises:
            KeyError: No track has this id.
        """
        self._state().jobs[track_id].is_public = public

    # What suites and people at the page do.

    def add_track(self, prompt: str, **more: Any) -> Job:
        """Add a ready-made track or sound effect, which costs nothing.

        Args:
            prompt: Its description.
            more: What ``POST /_emulator/tracks`` takes: ``kind``, ``status``,
                ``after_reads``, ``id``, ``public``, ``webhook``, ``api_key`` of the
                owner, and the parameters of a create, such as ``duration``.

        Raises:
            ValueError: A value is not allowed.
        """
        return _control.add_track(self._state(), {"prompt": prompt, **more})

    def change_track(self, track_id: str, **changes: Any) -> Job:
        """Decide anew how a track in progress ends.

        Args:
            track_id: Its id.
            changes: What ``PATCH /_emulator/tracks/{id}`` takes: ``status``
                (``"completed"``, ``"failed"``, ``"stuck"``), ``after_reads``,
                ``public``.

        Raises:
            ValueError: There is no such track, it has ended, or a value is not allowed.
        """
        state = self._state()
        return _control.change_track(
            state, _control.find_track(state, track_id), changes
        )

    def advance(self, seconds: float) -> None:
        """Put the emulator's clock forward: windows, tracks, dates and due webhooks.

        Args:
            seconds: At least 0; real seconds, whatever the speed.

        Raises:
            ValueError: They are negative or infinite.
        """
        if not 0 <= seconds < float("inf"):
            message = f"seconds must be 0 or more and finite, got {seconds!r}"
            raise ValueError(message)
        clock = self._state().clock
        clock.advance(seconds)
        self._state().settle(clock.now())

    def _state(self) -> Service:
        if self._service is None:
            raise RuntimeError(
                "the emulator is not entered: use `async with Emulator() as emulator:`"
            )
        return self._service

"""Keeps what is served what the releases root and its state file say, from a thread of its own.

What is new is loaded (serving.loading) beside what answers, then takes its place by one assignment. A request that has
begun ends on the release it began with, for it holds it; a release that nobody holds any more is freed. What is loaded
follows from the folder and the state alone, not from what was loaded before: a restart comes to the same. Only while
TensorFlow Serving is waited for, what answered goes on in place of what will.
"""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from serving.config import TowerConfig, VersionPolicy
from serving.loading import Loader
from serving.release import ReleaseError, list_versions
from serving.retriever import Retriever
from serving.served import Current, Served, VersionState
from serving.state import ServingState, change_state, parse, read_bytes, read_state
from serving.status import RequestError
from serving.versions import Selection

POLL_SECONDS = 0.5
RELOAD_SECONDS = 1.0  # a caller's change waits so long for a load under way, and a worker with it

logger = logging.getLogger(__name__)


class Manager:
    """Watches one releases root. `poll`, `reload` and all that they call run under one lock; no query takes it."""

    def __init__(self, root: Path, current: Current, policy: VersionPolicy, remote: TowerConfig | None = None) -> None:
        """Does nothing yet.

        Args:
          root: folder of the releases.
          current: what the servicers answer from; the manager alone writes to it.
          policy: the configuration's.
          remote: where the towers run; None for this process.
        """
        self.root, self._current = root, current
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="releases", daemon=True)
        self._state = ServingState()
        self._state_bytes: bytes | None = None
        self._loader = Loader(root, current, policy, remote, self._stopped)
        self._leaving: dict[int, weakref.ref[Retriever]] = {}
        self._complaints: list[str] = []

    def start(self, stopped: threading.Event | None = None) -> int:
        """Loads what is to be served, then goes on watching.

        Args:
          stopped: ends the waiting for TensorFlow Serving.

        Returns:
          The version that answers requests which name none.

        Raises:
          ReleaseError: there is no release that can be served, or the state file is broken.
        """
        self._state_bytes = read_bytes(self.root)
        self._state = parse(self.root, self._state_bytes)
        self._complaints = [self._why_none(list_versions(self.root), self._state)]  # raised below, not logged as well
        self.poll()
        while (version := self._current.served.default[1]) is None and self._loader.is_waiting():
            if (stopped or self._stopped).wait(POLL_SECONDS):
                break
            self.poll()
        if version is None:
            raise ReleaseError(self._why_none(list_versions(self.root), self._state))
        self._thread.start()
        return version

    def stop(self) -> None:
        """Ends the watching; a release that is being loaded is waited for, TensorFlow Serving is not."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def poll(self) -> None:
        """Looks once, loads what is new, swaps, and lets go of what nobody uses.

        Raises:
          ReleaseError: the root cannot be listed.
        """
        with self._lock, self._listing():
            self._look()

    def reload(self, change: Callable[[ServingState], ServingState]) -> None:
        """Changes the state of the root, for all its servers, and loads what it asks for.

        The state is written when this server has a version that it asks for, so that no state stays behind with which
        no server can start.

        Raises:
          RequestError: UNAVAILABLE, for a release is being loaded.
          ReleaseError: the change does not fit, the state cannot be written, or none of its versions can be served.
        """
        if not self._lock.acquire(timeout=RELOAD_SECONDS):
            raise RequestError(grpc.StatusCode.UNAVAILABLE, "a release is being loaded: try again later")
        try:
            with self._listing():
                versions = list_versions(self.root)
                state = change(read_state(self.root))
                selection, loaded = self._loader.load(versions, state)
                wanted = () if state.policy is None else state.policy.versions
                if wanted and not loaded.keys() & set(wanted):
                    reasons = "; ".join(f"{version}{self._why(version)}" for version in sorted(wanted))
                    raise ReleaseError(f"none of the specific versions can be served: {reasons}")
                if selection.newest is None:
                    raise ReleaseError(self._why_none(versions, state))
                change_state(self.root, change)
                self._follow(versions, selection, loaded, self._read_state())
        finally:
            self._lock.release()

    @contextmanager
    def _listing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReleaseError(f"{self.root}: cannot look for releases: {error}") from error

    def _look(self) -> None:
        complaints = self._read_state()
        versions = list_versions(self.root)
        selection, loaded = self._loader.load(versions, self._state)
        if not self._stopped.is_set():
            self._follow(versions, selection, loaded, complaints)

    def _follow(
        self, versions: list[int], selection: Selection, loaded: dict[int, Retriever], complaints: list[str]
    ) -> None:
        pinned = self._state.pinned
        if selection.newest is None:
            complaints.append(self._why_none(versions, self._state))
        else:
            self._swap(selection, loaded)
            if pinned is not None and pinned not in selection.versions:
                complaints.append(f"version {pinned} is pinned, which cannot be served{self._why(pinned)}")
        for label, version in self._state.labels.items():
            if version not in selection.versions:
                complaints.append(
                    f"label {label!r} names version {version}, which cannot be served{self._why(version)}"
                )
        self._complain(complaints)
        self._bury(versions)

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self.poll()
            except ReleaseError as error:
                self._complain([str(error)])

    def _read_state(self) -> list[str]:
        """Takes over the state file where it has changed. Returns what is wrong with it."""
        try:
            content = read_bytes(self.root)
            if content != self._state_bytes:
                self._state = parse(self.root, content)
                self._state_bytes = content
        except ReleaseError as error:
            return [f"{error}; what was decided before still holds"]
        return []

    def _swap(self, selection: Selection, loaded: dict[int, Retriever]) -> None:
        """Has what is loaded answer; where a release is awaited, what answers now goes on."""
        before, state, newest = self._current.served, self._state, selection.newest
        if newest not in loaded:
            newest = before.newest
        if newest is None:
            return
        named = {
            label: version if version in loaded else before.labels.get(label)
            for label, version in state.labels.items()
            if version in selection.versions
        }
        labels = {label: version for label, version in named.items() if version is not None}
        kept = dict.fromkeys([newest, *(v for v in selection.versions if v in loaded), *labels.values()])
        after = Served(before.model_name, {v: loaded[v] for v in kept}, labels, state.traffic, state.salt, newest)
        if after == before:
            return
        self._current.served = after
        for version in after.retrievers.keys() - before.retrievers.keys():
            self._current.tell(version, VersionState.AVAILABLE)
        for version in before.retrievers.keys() - after.retrievers.keys():
            self._leaving[version] = weakref.ref(before.retrievers[version])
            self._current.tell(version, VersionState.UNLOADING)
        logger.info(
            "version %d answers; loaded: %s; labels: %s; traffic: %s",
            newest, list(after.retrievers), dict(after.labels), dict(after.traffic),
        )  # fmt: skip

    def _bury(self, versions: list[int]) -> None:
        """Frees the releases that their last request has let go of, and forgets what is neither loaded nor on disk."""
        gone = [version for version, retriever in self._leaving.items() if retriever() is None]
        if gone:
            gc.collect()  # a SavedModel is full of cycles, which would hold its memory for a long time
        for version in gone:
            del self._leaving[version]
            if self._current.statuses[version].state is VersionState.UNLOADING:
                self._current.tell(version, VersionState.END)
        known = {*versions, *self._current.served.retrievers, *self._leaving}
        statuses = self._current.statuses
        if not known.issuperset(statuses):
            self._current.statuses = {version: statuses[version] for version in statuses if version in known}

    def _complain(self, complaints: list[str]) -> None:
        """Logs what is wrong once, not with each look."""
        for complaint in complaints:
            if complaint not in self._complaints:
                logger.error("%s", complaint)
        self._complaints = complaints

    def _why(self, version: int) -> str:
        status = self._current.statuses.get(version)
        if status is None:
            return ": there is no such release"
        waits = "TensorFlow Serving does not answer for it yet" if status.state is VersionState.LOADING else ""
        message = status.error_message or waits
        return f": {message}" if message else ""

    def _why_none(self, versions: list[int], state: ServingState) -> str:
        if not versions:
            return f"there is no release in {self.root}"
        pinned = "" if state.pinned is None else f" with version {state.pinned} pinned"
        name = self._current.served.model_name
        return f"none of the {len(versions)} releases in {self.root} can be served as {name!r}{pinned}"

"""Where a lane shows what it saw: the journal on the disk and the page. Both take anonymised pictures only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from walt_edge.agent.eyes import Seen
from walt_edge.agent.journal import Journal
from walt_edge.agent.sight import Sight, instance_ids
from walt_edge.camera import Frame
from walt_edge.contract.labels import Label
from walt_edge.privacy.anonymiser import AnonymisedImage, SealedEnvelope
from walt_edge.web.board import LiveBoard
from walt_edge.web.status import Carried, LiveFrame


class Showing:
    """The journal and the page of one camera; used by its lane's thread.

    Args:
        camera: Its name.
        journal: A diary, if wanted.
        board: Where the page looks.
    """

    def __init__(self, camera: str = "", journal: Journal | None = None, board: LiveBoard | None = None) -> None:
        self._camera = camera
        self._journal = journal
        self._board = board

    def show(self, watched: Frame | None, shown: Seen, sight: Sight | None) -> None:
        """Shows a step.

        Args:
            watched: The frame that was just watched, if any; only its number and time are taken.
            shown: What may be shown, of that frame or of one a moment ago.
            sight: What the model made of the frame shown.
        """
        if self._journal is not None:
            about = shown.frame or (watched if shown.is_learning else None)
            if about is None:  # It waits, or is thinned out: a frame has one line, when it is shown.
                self._journal.note_sealed(shown.sealed)
            else:
                self._journal.write(about, shown.image, shown.sightings, shown.sealed, sight.look if sight else None)
        if self._board is not None and shown.image is not None and self._board.is_watched(self._camera):
            self._board.show(self._live_frame(shown.image, shown, sight))

    def note_sealed(self, sealed: Sequence[SealedEnvelope]) -> None:
        """Notes what the last tracks gave."""
        if self._journal is not None:
            self._journal.note_sealed(sealed)

    def clear(self) -> None:
        """Takes the picture off the page: the anonymiser has failed since."""
        if self._board is not None:
            self._board.clear(self._camera)

    def _live_frame(self, image: AnonymisedImage, shown: Seen, sight: Sight | None) -> LiveFrame:
        assert shown.frame is not None
        frame = LiveFrame(self._camera, image, shown.frame.captured, tuple(shown.sightings))
        if sight is None:
            return frame
        found = sight.look.instances
        carried = tuple(
            Carried(one.id, Label(one.label), one.box_xyxy, max(one.place_std_xy))
            for one in sight.objects
            if one.instance is None and one.state in ("hidden", "missed")
        )
        return replace(frame, instances=found, track_ids=instance_ids(sight.objects, len(found)), carried=carried)

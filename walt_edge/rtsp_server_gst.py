"""Plays one stream of access units by RTSP; run by the system's Python, which has GStreamer's bindings.

Not a part of the package's imports: `walt_edge.rtsp_server` starts it as `/usr/bin/python3 rtsp_server_gst.py`
and writes one line of JSON to its standard input:
{"film", "index", "codec", "size_wh", "host", "port", "path", "loop", "once", "live"}.
It answers with one line of JSON, {"port": N} or {"error": TEXT}, and ends when its standard input does.

Every client gets the film from its first frame, with RTP times that count from it, so that nothing is missed and
frame i is at i/fps whoever asks when; unless the film is `live`, which plays whether or not anybody looks. Only
appsrc and the codec's payloader are needed (plugins-base and plugins-good).
"""

import json
import os
import signal
import sys
import threading
import time
from typing import Any

CLOCK_HZ = 90_000
_UNITS = "stream-format=byte-stream,alignment=au"
# Of each codec what its access units are, and which payloader takes them.
CODECS = {
    "h264": (f"video/x-h264,{_UNITS}", "rtph264pay", "aggregate-mode=zero-latency"),
    "h265": (f"video/x-h265,{_UNITS}", "rtph265pay", "aggregate-mode=zero-latency"),
    "mjpeg": ("image/jpeg,width={},height={}", "rtpjpegpay", ""),
}


def main() -> None:
    """Serves until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes our standard input
    order = json.loads(sys.stdin.readline())
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtsp", "1.0")
        gi.require_version("GstRtspServer", "1.0")
        from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
    except (ImportError, ValueError) as error:
        answer({"error": f"missing: {error}"})
        return
    Gst.init(None)
    missing = [name for name in ("appsrc", CODECS[order["codec"]][1]) if Gst.ElementFactory.find(name) is None]
    if missing:
        answer({"error": f"missing: {', '.join(missing)}"})
        return
    serve(order, GLib, Gst, GstRtsp, GstRtspServer)


def serve(order: dict[str, Any], glib: Any, gst: Any, rtsp: Any, rtsp_server: Any) -> None:
    """Binds, says which port, and plays."""
    loop = glib.MainLoop()
    film = Film(order["film"], order["index"])
    began_s = time.monotonic()
    server = rtsp_server.RTSPServer()
    server.set_address(order["host"])
    server.set_service(str(order["port"]))
    factory = rtsp_server.RTSPMediaFactory()
    caps, payloader, options = CODECS[order["codec"]]
    caps = caps.format(*order["size_wh"])
    factory.set_launch(
        f"( appsrc name=film is-live=false format=time block=false max-bytes=4000000 caps={caps} "
        f"! {payloader} name=pay0 pt=96 {options} )"
    )
    factory.set_shared(False)
    factory.set_latency(0)
    factory.set_protocols(rtsp.RTSPLowerTrans.TCP | rtsp.RTSPLowerTrans.UDP)

    def configure(_factory: Any, media: Any) -> None:
        source = media.get_element().get_by_name("film")
        player = Player(gst, source, film, loop=order["loop"] or order["live"])
        if order["live"]:
            player.join(time.monotonic() - began_s)
        source.connect("need-data", player.need)
        if order["once"]:
            media.connect("unprepared", lambda _media: player.ended and loop.quit())

    factory.connect("media-configure", configure)
    server.get_mount_points().add_factory(order["path"], factory)
    if server.attach(None) == 0:
        answer({"error": f"cannot listen on {order['host']}:{order['port']}"})
        return
    answer({"port": server.get_bound_port()})
    threading.Thread(target=end_with_parent, args=(glib, loop), daemon=True).start()
    # Sessions of clients that vanished without a word.
    glib.timeout_add_seconds(5, lambda: server.get_session_pool().cleanup() >= 0)
    loop.run()


class Film:
    """The access units of a film, read as they are needed; shared by all its players."""

    def __init__(self, path: str, index: list[tuple[int, int]]) -> None:
        self.file = os.open(path, os.O_RDONLY)
        self.index: list[tuple[int, int, int]] = []
        offset = 0
        for ticks, size in index:
            self.index.append((ticks, offset, size))
            offset += size
        shown = sorted(ticks for ticks, _ in index)
        self.length_ticks = shown[-1] + (shown[-1] - shown[-2] if len(shown) > 1 else CLOCK_HZ)

    def unit(self, number: int) -> tuple[int, bytes]:
        """Presentation time in ns and bytes of one access unit; numbers beyond the end begin again."""
        rounds, number = divmod(number, len(self.index))
        ticks, offset, size = self.index[number]
        # Rounded up, since the payloader rounds down to whole ticks.
        pts_ns = -(-(ticks + rounds * self.length_ticks) * 1_000_000_000 // CLOCK_HZ)
        return pts_ns, os.pread(self.file, size, offset)

    def number_at(self, passed_s: float) -> int:
        """The access unit that is due by then; its pictures are taken to be evenly spaced."""
        return int(passed_s * CLOCK_HZ * len(self.index) / self.length_ticks)


class Player:
    """Feeds one client's appsrc, whose sink paces it."""

    def __init__(self, gst: Any, source: Any, film: Film, *, loop: bool) -> None:
        self.gst, self.source, self.film, self.loop = gst, source, film, loop
        self.position = 0
        self.first_pts_ns = 0
        self.ended = False

    def join(self, passed_s: float) -> None:
        """Begins where the film is by now, most likely between two keyframes; time begins at zero all the same."""
        self.position = self.film.number_at(passed_s)
        self.first_pts_ns, _ = self.film.unit(self.position)

    def need(self, _source: Any, _length: int) -> None:
        """Pushes the next access unit, or the end."""
        if self.position >= len(self.film.index) and not self.loop:
            self.ended = True
            self.source.emit("end-of-stream")
            return
        pts_ns, data = self.film.unit(self.position)
        buffer = self.gst.Buffer.new_wrapped(data)
        buffer.pts = max(0, pts_ns - self.first_pts_ns)
        self.position += 1
        self.source.emit("push-buffer", buffer)


def end_with_parent(glib: Any, loop: Any) -> None:
    """Standard input ends when the parent closes it, and also when the parent is killed."""
    sys.stdin.read()
    glib.idle_add(loop.quit)


def answer(message: dict[str, Any]) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
    # GStreamer's threads may still be taking a film down, and the interpreter must not clear away what they use: once
    # that was a crash after all had been played. Nothing is left to be written.
    os._exit(0)

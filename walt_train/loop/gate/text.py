"""A verdict as text that a person understands at a glance: a pure function of it."""

from __future__ import annotations

from collections.abc import Iterator

from walt_train.loop.gate.verdict import Effect, Entrant, Slice, Verdict

FILE_NAME = "verdict.txt"
_MARKS = {Effect.BETTER: "+", Effect.EVEN: "=", Effect.WORSE: "!", Effect.TOO_FEW: "?"}


def render(verdict: Verdict) -> str:
    """The whole report, ends with a newline."""
    return "\n".join(_lines(verdict)) + "\n"


def _lines(verdict: Verdict) -> Iterator[str]:
    yield verdict.line
    if verdict.findings:
        yield from ("", "Against it")
        yield from (f"  {one.kind}: {one.line}" for one in verdict.findings)
    if verdict.slices:
        yield from ("", f"Mask IoU x 100, candidate against {verdict.against} (+ better, = even, ! worse, ? too few)")
        yield from _table(verdict.slices)
    if verdict.holdouts:
        yield from ("", "Judged by")
        for held in verdict.holdouts:
            where = "from elsewhere" if held.independent else "of its own devices"
            yield (
                f"  {held.name}: {held.source}, {where}, {held.frames} frames, {held.cases} half hidden objects, "
                f"sha256 {held.content_sha256[:12]}"
            )
    yield from _entrants(verdict)
    if verdict.parity is not None:
        figures = ", ".join(f"{name} {value:g}" for name, value in sorted(verdict.parity.figures.items()))
        yield from ("", f"Export against the trained network: {figures or 'nothing told'}")
    if verdict.rules is not None:
        rules = verdict.rules
        yield ""
        yield (
            f"Rules: a first generation {rules.gain_points:+g} points, a later one surely better; no slice of "
            f"{rules.objects_min} objects and more surely worse by over {rules.harm_points:g} points "
            f"(all slices together: {rules.harm_level:.0%} by chance)"
        )
    if verdict.versions:
        yield "Programs: " + ", ".join(f"{name} {value}" for name, value in sorted(verdict.versions.items()))


def _table(slices: tuple[Slice, ...]) -> Iterator[str]:
    names = [one.name if one.dimension == "all" else f"{one.dimension} {one.name}" for one in slices]
    width = max(map(len, names))
    for name, one in zip(names, slices, strict=True):
        interval = "" if one.interval is None else "[{:+.1f}, {:+.1f}]".format(*one.interval)
        yield (
            f"  {_MARKS[one.decision]} {name:<{width}}  {one.candidate:5.1f} {one.champion:5.1f}  "
            f"{one.difference:+6.1f} {interval:<16} {one.cases:>6} cases {one.objects:>5} objects"
        )


def _entrants(verdict: Verdict) -> Iterator[str]:
    found = [("Candidate", verdict.model), ("Champion", verdict.champion)]
    if any(one is not None for _, one in found):
        yield ""
    for title, one in found:
        if one is not None:
            yield f"{title}: {_entrant(one)}"


def _entrant(one: Entrant) -> str:
    named = f"{one.name}, sha256 {one.sha256[:12]}" if one.sha256 else one.name
    if one.cost is None:
        return named
    cost = one.cost
    return f"{named}, {cost.latency_ms_p50:.1f} ms (p99 {cost.latency_ms_p99:.1f}), {cost.memory_mb:.0f} MB"

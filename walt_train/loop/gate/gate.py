"""The gate: a pure function of evaluations, of what the candidate learned from, and of rules.

The measure is the mask IoU x 100 of objects of which at least half is hidden (γ = 0.5), over all holdouts: what the
loop is for. The first generation has to beat the eyes without weights by a margin; a later one has to beat the
camera's champion surely: the 95 % interval of the paired difference lies above 0. Whoever is better is refused all
the same if there is evidence against the figures (leaks, labels of its own, its own device as the only judge) or if
it does harm: in a slice, in its export, in time or in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from walt_edge.contract.labels import Label
from walt_train.loop.gate.evaluation import GAMMA, MOTION, Evaluation, GateError
from walt_train.loop.gate.holdout import Holdout
from walt_train.loop.gate.provenance import Provenance, foreign_makers, leaks, own_labels, trained_on
from walt_train.loop.gate.rules import Rules
from walt_train.loop.gate.slices import Pair, difference, sliced
from walt_train.loop.gate.verdict import Decision, Effect, Entrant, Finding, Judged, Kind, Parity, Slice, Verdict

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Trial:
    """One holdout, and what both made of it.

    Attributes:
        holdout: As it was frozen.
        candidate: The candidate's evaluation.
        champion: Of what has to be beaten.
    """

    holdout: Holdout
    candidate: Evaluation
    champion: Evaluation


def evidence(
    candidate: Entrant, champion: Entrant, holdouts: Sequence[Holdout], provenance: Provenance, rules: Rules
) -> tuple[Finding, ...]:
    """What speaks against the candidate before anybody has looked at a picture: then nobody needs to."""
    found = [*leaks(provenance, holdouts, rules), *foreign_makers(holdouts, (candidate, champion))]
    if holdouts and not any(provenance.is_independent(one) for one in holdouts):
        names, own = ", ".join(one.name for one in holdouts), ", ".join(provenance.devices) or provenance.camera
        line = (
            f"{names} is of the devices that the model is for ({own}): "
            "give a rendered holdout, one that people drew, or one of other devices besides"
        )
        found.append(Finding(kind=Kind.OWN_DEVICE, line=line))
    return tuple(found)


def judge(
    candidate: Entrant,
    champion: Entrant,
    trials: Sequence[Trial],
    provenance: Provenance,
    *,
    parity: Parity | None = None,
    rules: Rules | None = None,
    versions: Mapping[str, str] | None = None,
) -> Verdict:
    """Decides whether a candidate may replace what runs.

    Args:
        candidate: Who is judged.
        champion: What has to be beaten; named `motion` where no model runs.
        trials: Each holdout with both evaluations.
        provenance: What the candidate learned from.
        parity: Of its export; None does not ask.
        rules: What is asked for.
        versions: Of the programs, for the report.

    Raises:
        GateError: An evaluation is not of this candidate, champion or holdout.
    """
    rules = rules or Rules()
    holdouts = [trial.holdout for trial in trials]
    for trial in trials:
        _check(trial, candidate, champion)
    pairs = [pair for place, trial in enumerate(trials) for pair in _pairs(place, trial)]
    slices = sliced(pairs, rules)
    findings = (
        *evidence(candidate, champion, holdouts, provenance, rules),
        *(one for trial in trials for one in _of_trial(trial, provenance, rules)),
        *_too_few_independent(trials, provenance, rules),
        *export_findings(parity, rules),
        *_costs(candidate, champion, rules),
        *_harm(slices, champion, rules),
    )
    verdict = Verdict(
        decision=Decision.UNJUDGED,
        line="",
        against=champion.name,
        model=candidate,
        champion=champion,
        findings=findings,
        slices=slices,
        holdouts=tuple(_judged(trial, provenance) for trial in trials),
        parity=parity,
        rules=rules,
        versions=dict(versions or {}),
    )
    return _decided(verdict, [one for one in pairs if one.occlusion >= GAMMA], rules)


def refused(
    candidate: Entrant, champion: Entrant, holdouts: Sequence[Holdout], findings: Sequence[Finding], rules: Rules
) -> Verdict:
    """The verdict where the evidence is enough, and nothing was evaluated."""
    return Verdict(
        decision=Decision.REFUSED,
        line=f"refused: {_first(findings)}",
        against=champion.name,
        model=candidate,
        champion=champion,
        findings=tuple(findings),
        holdouts=tuple(
            Judged(name=one.name, source=one.source, content_sha256=one.content_sha256, frames=len(one.frames))
            for one in holdouts
        ),
        rules=rules,
    )


def _decided(verdict: Verdict, hidden: Sequence[Pair], rules: Rules) -> Verdict:
    """With decision, figures and line."""
    is_first = verdict.against == MOTION
    needed = f"expected {rules.gain_points:+g} or more" if is_first else "expected an interval above 0"
    decision, line = Decision.UNJUDGED, f"no object in the truth is hidden by half (γ={GAMMA:g})"
    if hidden:
        points, interval = difference(hidden, rules.seed, _LEVEL)
        verdict = msgspec.structs.replace(
            verdict,
            needed_points=rules.gain_points if is_first else 0.0,
            points=points,
            interval=interval,
            candidate=sum(one.candidate for one in hidden) / len(hidden),
            baseline=sum(one.champion for one in hidden) / len(hidden),
            cases=len(hidden),
            objects=len({one.object for one in hidden}),
        )
        if not is_first and interval is None:
            line = f"the truth's {len(hidden)} cases at γ={GAMMA:g} show one object, expected several"
        else:
            is_better = points >= rules.gain_points if is_first else interval is not None and interval[0] > 0
            decision = Decision.PASSED if is_better else Decision.REFUSED
            line = f"{_words(verdict)}; {needed}"
    if verdict.findings:
        decision, line = Decision.REFUSED, f"{_first(verdict.findings)}" + (f"; {_words(verdict)}" if hidden else "")
    return msgspec.structs.replace(verdict, decision=decision, line=f"{decision}: {line}")


def _words(verdict: Verdict) -> str:
    interval = "" if verdict.interval is None else " [{:+.1f}, {:+.1f}]".format(*verdict.interval)
    return (
        f"mask IoU at γ={GAMMA:g} {verdict.candidate:.1f} against {verdict.baseline:.1f} of {verdict.against}, "
        f"{verdict.points:+.1f} points{interval} on {verdict.cases} cases of {verdict.objects} objects"
    )


def _first(findings: Sequence[Finding]) -> str:
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return f"{findings[0].kind}: {findings[0].line}{more}"


def _check(trial: Trial, candidate: Entrant, champion: Entrant) -> None:
    """Both looked at this very holdout, whole, and are who they are said to be."""
    files = {frame.file for frame in trial.holdout.frames}
    for found, entrant in ((trial.candidate, candidate), (trial.champion, champion)):
        if (found.model, found.model_sha256) != (entrant.name, entrant.sha256):
            raise GateError(
                f"an evaluation is of {found.model} ({found.model_sha256[:12]}), "
                f"expected {entrant.name} ({entrant.sha256[:12]}): evaluate again"
            )
        strange = sorted({case.image for case in found.result.cases} - files)
        if strange or found.result.frames != len(files):
            raise GateError(
                f"{found.model} was evaluated on {found.result.frames} frames{', such as ' * bool(strange)}"
                f"{''.join(strange[:1])}, expected the {len(files)} of {trial.holdout.name}: evaluate again"
            )
    if trial.candidate.data_sha256 != trial.champion.data_sha256:
        raise GateError(
            f"{candidate.name} and {champion.name} were evaluated on different truth: evaluate both again"
        )


def _pairs(place: int, trial: Trial) -> Iterator[Pair]:
    """The cases of a holdout, side by side."""
    others = {case.truth: case for case in trial.champion.result.cases}
    cameras = {frame.file: frame.camera for frame in trial.holdout.frames}
    if others.keys() != {case.truth for case in trial.candidate.result.cases}:
        raise GateError(f"the evaluations on {trial.holdout.name} do not hold the same cases: evaluate both again")
    for case in trial.candidate.result.cases:
        yield Pair(
            object=f"{place}/{case.object}",
            occlusion=case.occlusion,
            candidate=100 * case.mask_iou,
            champion=100 * others[case.truth].mask_iou,
            source=trial.holdout.source.value,
            camera=cameras[case.image],
            label=Label(case.label).title,
        )


def _of_trial(trial: Trial, provenance: Provenance, rules: Rules) -> Iterator[Finding]:
    yield from trained_on(provenance, trial.holdout, trial.candidate)
    for found in (trial.candidate, trial.champion):
        if found.model != MOTION:
            yield from own_labels(trial.holdout, found, rules)


def _too_few_independent(trials: Sequence[Trial], provenance: Provenance, rules: Rules) -> Iterator[Finding]:
    """A holdout from elsewhere that shows next to nothing is no judge."""
    judged = [_judged(trial, provenance) for trial in trials]
    cases = sum(one.cases for one in judged if one.independent)
    if any(one.independent for one in judged) and cases < min(
        rules.independent_cases_min, sum(one.cases for one in judged if not one.independent)
    ):
        line = (
            f"only {cases} half hidden objects judge that are not of the devices which the model is for, "
            f"expected {rules.independent_cases_min}: give a larger holdout from elsewhere"
        )
        yield Finding(kind=Kind.OWN_DEVICE, line=line)


def _judged(trial: Trial, provenance: Provenance) -> Judged:
    return Judged(
        name=trial.holdout.name,
        source=trial.holdout.source,
        content_sha256=trial.holdout.content_sha256,
        frames=len(trial.holdout.frames),
        cases=sum(case.occlusion >= GAMMA for case in trial.candidate.result.cases),
        independent=provenance.is_independent(trial.holdout),
    )


def export_findings(parity: Parity | None, rules: Rules) -> Iterator[Finding]:
    """The bundle is that checkpoint, and answers as it does."""
    if parity is None:
        return
    if parity.trouble:
        yield Finding(kind=Kind.PARITY, line=f"its bundle does not hold on this machine: {parity.trouble}")
    if parity.checkpoint_sha256 != parity.trained_sha256:
        line = (
            f"its bundle is of checkpoint {parity.checkpoint_sha256[:12]}, the trained one is "
            f"{parity.trained_sha256[:12]}"
        )
        yield Finding(kind=Kind.PARITY, line=line)
    if parity.foreign_golden:
        line = f"{parity.foreign_golden[0]} in its bundle is no golden picture of its training"
        yield Finding(kind=Kind.PARITY, line=line)
    if "mask_iou" not in parity.figures:
        yield Finding(kind=Kind.PARITY, line="its bundle does not tell how far it agrees with the trained network")
    for name, limit in rules.parity.items():
        value = parity.figures.get(name)
        is_least = name.endswith(("_iou", "_f1"))
        if value is not None and not (value >= limit if is_least else value <= limit):
            line = f"its bundle differs from the trained network: {name} {value:g}, allowed {limit:g}"
            yield Finding(kind=Kind.PARITY, line=line)


def _costs(candidate: Entrant, champion: Entrant, rules: Rules) -> Iterator[Finding]:
    """Nobody gets a model that is much slower or larger than what runs, or than it promised to be."""
    cost, before = candidate.cost, champion.cost
    if cost is None:
        return
    slow_ms, large_mb = candidate.limit_ms, candidate.limit_mb
    if slow_ms is not None and cost.latency_ms_p99 > slow_ms:
        line = f"it takes {cost.latency_ms_p99:.0f} ms a picture (p99), and promises {slow_ms:g} ms"
        yield Finding(kind=Kind.LATENCY, line=line)
    if large_mb is not None and cost.memory_mb > large_mb:
        yield Finding(kind=Kind.MEMORY, line=f"it takes {cost.memory_mb:.0f} MB, and promises {large_mb:g} MB")
    if before is None:
        return
    if cost.latency_ms_p50 > before.latency_ms_p50 * rules.latency_factor:
        line = (
            f"it takes {cost.latency_ms_p50:.1f} ms a picture, {champion.name} {before.latency_ms_p50:.1f} ms, "
            f"allowed {rules.latency_factor:g} times that"
        )
        yield Finding(kind=Kind.LATENCY, line=line)
    if cost.memory_mb > before.memory_mb * rules.memory_factor + rules.memory_slack_mb:
        line = (
            f"it takes {cost.memory_mb:.0f} MB, {champion.name} {before.memory_mb:.0f} MB, "
            f"allowed {rules.memory_factor:g} times that and {rules.memory_slack_mb:g} MB"
        )
        yield Finding(kind=Kind.MEMORY, line=line)


def _harm(slices: Sequence[Slice], champion: Entrant, rules: Rules) -> Iterator[Finding]:
    """Silhouettes of what moves promise nothing by parts; a champion does."""
    if champion.name == MOTION:
        return
    for one in slices:
        if one.decision is Effect.WORSE and one.interval is not None:
            line = (
                f"{one.dimension} {one.name}: {one.difference:+.1f} points "
                f"[{one.interval[0]:+.1f}, {one.interval[1]:+.1f}] on {one.cases} cases of {one.objects} objects, "
                f"allowed {-rules.harm_points:+g}"
            )
            yield Finding(kind=Kind.HARM, line=line)

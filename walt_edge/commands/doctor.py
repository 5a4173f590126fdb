"""`walt-edge doctor`: what the agent needs, one line each, and what to do where something is amiss."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable
from itertools import chain

from walt_edge.agent.logs import configure
from walt_edge.contract.redaction import Redactor
from walt_edge.doctor import Finding, State, all_checks, examine
from walt_edge.doctor.folder import config_file
from walt_edge.settings.flags import add_config_arguments, sources

_NAME_CHARS = 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options: those of `run`, and how to print."""
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")


def run(args: argparse.Namespace) -> int:
    """Prints every finding; 1 if something is in the agent's way."""
    config = sources(args).load()
    redactor = configure(config)
    logging.getLogger().setLevel(logging.ERROR)  # the lines say it all
    findings: Iterable[Finding] = examine(config, all_checks())
    if args.config:
        findings = chain([config_file(args.config, config)], findings)
    found = _print_json(findings, redactor) if args.json else _print_lines(findings, redactor)
    return int(State.FAIL in found)


def _print_lines(findings: Iterable[Finding], redactor: Redactor) -> list[State]:
    states: list[State] = []
    for finding in findings:
        states.append(finding.state)
        line = f"{finding.state:<5} {finding.name:<{_NAME_CHARS}} {redactor(finding.text)}"
        _write(line + (f" -> {redactor(finding.remedy)}" if finding.remedy else ""))
    counts = {state: states.count(state) for state in State}
    _write(f"{counts[State.OK]} ok, {counts[State.WARN]} to look at, {counts[State.FAIL]} in the way")
    return states


def _print_json(findings: Iterable[Finding], redactor: Redactor) -> list[State]:
    lines = [
        {"name": one.name, "state": str(one.state), "text": redactor(one.text), "remedy": redactor(one.remedy)}
        for one in findings
    ]
    states = [State(line["state"]) for line in lines]
    _write(json.dumps({"ok": State.FAIL not in states, "findings": lines}, indent=1, ensure_ascii=False))
    return states


def _write(line: str) -> None:
    """At once: a person waits for the next line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()

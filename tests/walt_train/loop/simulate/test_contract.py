"""A simulated device is only worth something if it speaks as a real one: both play the same scripts of faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.client import MQTTMessage

from tests.broker import Broker
from tests.fakes.home import ScriptedHome, silent, stored
from tests.waiting import wait_for
from tests.walt_train.loop.simulate.senders import TOPICS, Real, Sender, Simulated
from walt_edge.contract.messages import Ack, AckState, Status, decode_envelope, encode_json
from walt_edge.contract.topics import EnvelopeTopic
from walt_train.loop.simulate.window import Times

PATIENT = Times(window=4, ack_timeout_s=300.0, unheard_s=0.1, reconnect_min_s=0.05, reconnect_max_s=0.3)
HASTY = replace(PATIENT, ack_timeout_s=0.3, ack_timeout_cap_s=0.6)
LONG_S = 30


@dataclass(frozen=True, order=True)
class Seen:
    """What anybody can observe of a message; a crop is told by its number, a status by its state."""

    leaf: str
    what: str
    qos: int
    properties: tuple[tuple[str, str], ...]


def seen(message: MQTTMessage) -> Seen:
    leaf = message.topic.removeprefix("walt/v1/test/walt-test/").partition("/")[0]
    payload, what = bytes(message.payload), ""
    if leaf == "crop":
        what = str(decode_envelope(payload).header.captured.monotonic_ns)
    elif leaf == "status":
        what = str(msgspec.json.decode(payload, type=Status))
    elif leaf == "ack":
        what = payload.decode()
    properties = sorted((name, str(value)) for name, value in vars(message.properties).items() if name[0].isupper())
    return Seen(leaf, what, message.qos, tuple(properties))


class Stage:
    """A script's broker, home and sender, and what home has seen of the sender."""

    def __init__(self, broker: Broker, home: ScriptedHome, sender: Sender) -> None:
        self.broker = broker
        self.home = home
        self.sender = sender

    def seen(self, since: int = 0) -> list[Seen]:
        return [seen(one) for one in list(self.home.messages)[since:] if "/ack/" not in one.topic]

    def crops(self, since: int = 0) -> list[int]:
        return [int(one.what) for one in self.seen(since) if one.leaf == "crop"]

    def drained(self) -> None:
        wait_for(lambda: self.sender.depth == 0, LONG_S, "for everything to be home")

    def answer(self, number: int, state: AckState) -> None:
        (id_,) = {
            EnvelopeTopic.parse(m.topic).sha256
            for m in self.home.messages
            if "/crop/" in m.topic and seen(m).what == str(number)
        }
        self.home.publish(TOPICS.ack(id_), encode_json(Ack(state=state)))


Script = Callable[[Stage], object]


def everything_goes_home_in_order(stage: Stage) -> object:
    stage.sender.accept(20)
    stage.drained()
    return stage.seen()


def at_most_a_window_is_unanswered(stage: Stage) -> object:
    stage.home.answer = silent
    stage.sender.accept(10)
    wait_for(lambda: len(stage.crops()) == 4, LONG_S)
    stage.answer(2, AckState.DUPLICATE)
    stage.answer(0, AckState.REJECTED)
    wait_for(lambda: len(stage.crops()) == 6, LONG_S)
    wait_for(lambda: stage.sender.settled == (1, 1), LONG_S)
    return stage.seen(), stage.sender.depth


def a_cut_line_speaks_the_will_and_begins_with_the_oldest(stage: Stage) -> object:
    stage.home.answer = silent
    stage.sender.accept(10)
    wait_for(lambda: len(stage.crops()) == 4, LONG_S)
    stage.sender.cut()
    wait_for(lambda: len(stage.crops()) == 8, LONG_S)
    stage.home.answer = stored
    for number in range(4):
        stage.answer(number, AckState.STORED)
    stage.drained()
    # The will and the next connection's words may overtake one another at the broker.
    return stage.crops(), sorted(set(stage.seen())), stage.sender.settled


def what_home_does_not_answer_waits_outside(stage: Stage) -> object:
    late = "3"
    stage.home.answer = lambda topic: None if seen(stage_message(stage, topic)).what == late else stored(topic)
    stage.sender.accept(12)
    wait_for(lambda: stage.sender.depth == 1 and stage.crops().count(3) >= 2, LONG_S)
    stage.home.answer = stored
    stage.drained()
    return sorted(set(stage.crops())), stage.sender.settled


def a_silent_home_is_asked_again_from_the_same_slots(stage: Stage) -> object:
    stage.home.answer = silent
    stage.sender.accept(9)
    wait_for(lambda: min(stage.crops().count(number) for number in range(4)) >= 2, LONG_S)
    outside = [number for number in stage.crops() if number > 3]
    stage.home.answer = stored
    stage.drained()
    return outside, sorted(set(stage.crops())), stage.sender.settled


def a_broker_that_dies_comes_back_to_the_same(stage: Stage) -> object:
    stage.home.answer = silent
    stage.sender.accept(6)
    wait_for(lambda: len(stage.crops()) == 4, LONG_S)
    before = len(stage.home.messages)
    stage.broker.kill()
    wait_for(lambda: not stage.sender.connected, LONG_S)
    stage.broker.restart()
    wait_for(lambda: set(stage.crops(before)) == {0, 1, 2, 3}, LONG_S)
    again = {one for one in stage.seen(before) if one.leaf != "info"}
    stage.home.answer = stored
    stage.sender.cut()
    stage.drained()
    return sorted(again), stage.sender.settled


def a_home_that_comes_late_is_found_soon(stage: Stage) -> object:
    stage.home.__exit__()
    stage.sender.accept(9)
    wait_for(lambda: stage.sender.connected, LONG_S)
    with ScriptedHome(stage.broker) as late:
        stage.drained()
        return sorted({seen(one) for one in late.messages if "/crop/" in one.topic}), stage.sender.settled


def answers_that_are_none_change_nothing(stage: Stage) -> object:
    stage.home.answer = silent
    stage.sender.accept(1)
    wait_for(lambda: len(stage.crops()) == 1, LONG_S)
    stage.home.publish(TOPICS.ack("e" * 64), encode_json(Ack(state=AckState.STORED)))
    for payload in (b"not json", b'{"state":"perhaps"}', b"\xff\xfe"):
        stage.home.publish(TOPICS.ack("f" * 64), payload)
    wait_for(lambda: stage.sender.malformed == 3, LONG_S)
    before = stage.sender.depth, stage.sender.settled
    stage.answer(0, AckState.STORED)
    stage.drained()
    return before, stage.sender.settled


def stage_message(stage: Stage, topic: EnvelopeTopic) -> MQTTMessage:
    return next(message for message in reversed(stage.home.messages) if message.topic.endswith(topic.sha256))


SCRIPTS: list[tuple[Script, Times]] = [
    (everything_goes_home_in_order, PATIENT),
    (at_most_a_window_is_unanswered, PATIENT),
    (a_cut_line_speaks_the_will_and_begins_with_the_oldest, PATIENT),
    (what_home_does_not_answer_waits_outside, HASTY),
    (a_silent_home_is_asked_again_from_the_same_slots, HASTY),
    (a_broker_that_dies_comes_back_to_the_same, PATIENT),
    (a_home_that_comes_late_is_found_soon, replace(PATIENT, ack_timeout_s=2.0)),
    (answers_that_are_none_change_nothing, PATIENT),
]


@pytest.mark.parametrize(("script", "times"), SCRIPTS, ids=[script.__name__ for script, _ in SCRIPTS])
def test_a_simulated_device_is_told_from_a_real_one_by_nothing(tmp_path: Path, script: Script, times: Times) -> None:
    told = []
    for kind in (Real, Simulated):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        with Broker.start(folder) as broker:
            with ScriptedHome(broker) as home, kind(broker, times, folder / "spool") as sender:
                wait_for(partial(getattr, sender, "connected"), LONG_S)
                met = script(Stage(broker, home, sender))
            told.append((met, last_word(broker)))
    real, simulated = told
    assert simulated == real


def last_word(broker: Broker) -> Seen:
    """What the broker keeps of a sender that has left: it said goodbye before it closed the connection."""
    with ScriptedHome(broker, silent) as later:
        wait_for(lambda: any(one.topic.endswith("/status") for one in later.messages), LONG_S)
        (status,) = [seen(one) for one in later.messages if one.topic.endswith("/status")]
    return status

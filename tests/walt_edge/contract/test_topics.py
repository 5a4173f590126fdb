"""Topics are written and read in one place; nothing else gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from walt_edge.contract.topics import DeviceTopics, EnvelopeTopic, Kind, TopicError, subscriptions

SHA = "ab" * 32


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_written_is_read(kind: Kind) -> None:
    topic = DeviceTopics("home", "walt-0123").envelope(kind, SHA)
    assert EnvelopeTopic.parse(topic) == EnvelopeTopic("home", "walt-0123", kind, SHA)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "walt/v1/home/dev/crop",
        f"walt/v2/home/dev/crop/{SHA}",
        f"walt/v1/home/dev/ack/{SHA}",
        f"walt/v1/ho me/dev/crop/{SHA}",
        f"walt/v1/../dev/crop/{SHA}",
        f"walt/v1/home/+/crop/{SHA}",
        f"walt/v1/home/dev/crop/{SHA.upper()}",
        f"walt/v1/home/dev/crop/{SHA}/more",
    ],
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        EnvelopeTopic.parse(topic)


@given(st.text(max_size=200))
def test_hostile_topics_never_crash(topic: str) -> None:
    with pytest.raises(TopicError):
        EnvelopeTopic.parse(topic)


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "$share", "a" * 65, "..", "a..b", ".hidden", "ä"])
def test_names_that_would_break_a_topic_or_a_path_are_refused(name: str) -> None:
    with pytest.raises(TopicError, match="site"):
        DeviceTopics(name, "device")


def test_one_shared_subscription_per_kind() -> None:
    assert subscriptions("ingest") == [f"$share/ingest/walt/v1/+/+/{kind}/+" for kind in ("crop", "plate", "frame")]

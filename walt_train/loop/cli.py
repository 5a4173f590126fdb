"""`walt-loop`: what runs at home."""

from __future__ import annotations

import sys

from walt_edge.contract.console import Command, Script

SCRIPT = Script(
    prog="walt-loop",
    description="Takes in what the cameras saw whole, and makes their models better.",
    commands=(
        Command(
            "ingest",
            "store every crop that the broker brings, exactly once",
            module="walt_train.loop.commands.ingest",
            extra="loop",
            example="walt-loop ingest --broker localhost:1883 --store ./store",
            group="the loop",
        ),
        Command(
            "serve",
            "composite, train, export, judge and roll out by itself",
            module="walt_train.loop.commands.serve",
            extra="loop",
            example="walt-loop serve --store ./store --home ./loop --broker localhost:1883 --truth cam-1=./truth",
            group="the loop",
        ),
        Command(
            "rollout",
            "which releases are on their way to whom; begin, pause, abort one",
            module="walt_train.loop.commands.rollout",
            extra="loop",
            example="walt-loop rollout start ./model.walt --all --canary 5 --store ./store --home ./loop",
            group="the loop",
        ),
        Command(
            "holdout",
            "freeze truth that judges models, list it, check every byte of it",
            module="walt_train.loop.commands.holdout",
            extra="loop",
            example="walt-loop holdout freeze ./truth --source human --camera cam-1 "
            "--device north/walt-0123456789abcdef --by anna",
            group="the loop",
        ),
        Command(
            "label",
            "what people drew on frames that judge; write it as truth",
            module="walt_train.loop.commands.label",
            extra="loop",
            example="walt-loop label export --store ./store --camera cam-1 --out ./truth-cam-1",
            group="the loop",
        ),
        Command(
            "demo",
            "a camera, an agent, a broker and a store on this machine, and a report of what they did",
            module="walt_train.loop.commands.demo",
            extra="loop",
            example="walt-loop demo --out demo-out",
            group="the loop",
        ),
        Command(
            "web",
            "the dashboard: the fleet, rollouts, trainings and clip art, for people who sign in",
            module="walt_train.loop.commands.web",
            extra="loop",
            example="walt-loop web --store ./store --home ./loop",
            group="to look at it",
        ),
        Command(
            "users",
            "who may sign in at the dashboard, and tokens for programs",
            module="walt_train.loop.commands.users",
            extra="loop",
            example="walt-loop users add ann --role operator --store ./store",
            group="to look at it",
        ),
        Command(
            "fleet",
            "which devices there are, how they are, and what to do about it",
            module="walt_train.loop.commands.fleet",
            extra="loop",
            example="walt-loop fleet --store ./store",
            group="to look at it",
        ),
        Command(
            "store",
            "what a store holds; export a camera's clip art",
            module="walt_train.loop.commands.store",
            extra="loop",
            example="walt-loop store --store ./store --export ./clipart --camera cam-1",
            group="to look at it",
        ),
        Command(
            "trace",
            "what a crop, model or release was made of, and where it runs",
            module="walt_train.loop.commands.trace",
            extra="loop",
            example="walt-loop trace cam-1/3 --store ./store",
            group="to look at it",
        ),
        Command(
            "broker",
            "home's certificate authorities, and a Mosquitto that lets in whom they signed",
            module="walt_train.loop.commands.broker",
            extra="loop",
            example="walt-loop broker --store ./store --home ./loop --host home.local",
            group="who may",
        ),
        Command(
            "identity",
            "give devices their certificates by HTTPS, and keep the broker's files up to date",
            module="walt_train.loop.commands.identity",
            extra="loop",
            example="walt-loop identity --store ./store --home ./loop",
            group="who may",
        ),
        Command(
            "enroll",
            "a token that lets one device in, once",
            module="walt_train.loop.commands.enroll",
            extra="loop",
            example="walt-loop enroll --store ./store --home ./loop --site north",
            group="who may",
        ),
        Command(
            "revoke",
            "a device that no longer counts",
            module="walt_train.loop.commands.revoke",
            extra="loop",
            example="walt-loop revoke north/walt-0123456789abcdef --reason stolen --store ./store --home ./loop",
            group="who may",
        ),
        Command(
            "devices",
            "who sends, whose crops wait, and who may train",
            module="walt_train.loop.commands.devices",
            extra="loop",
            example="walt-loop devices approve north/walt-0123456789abcdef --store ./store",
            group="who may",
        ),
        Command(
            "publish",
            "sign a bundle and set the desired version",
            module="walt_train.loop.commands.publish",
            extra="loop",
            example="walt-loop publish street-1.walt --repository ./updates --keys ./keys "
            "--broker localhost:1883 --device home/walt-0123456789abcdef",
            group="models by hand",
        ),
        Command(
            "keys",
            "the keys that sign releases: show, move offline, rotate, renew",
            module="walt_train.loop.commands.keys",
            extra="loop",
            example="walt-loop keys offline /media/stick --home ./loop",
            group="models by hand",
        ),
        Command(
            "keep",
            "let go what is too old, or too much",
            module="walt_train.loop.commands.keep",
            extra="loop",
            example="walt-loop keep --store ./store --home ./loop --days 90 --days frame=7 --gb 200",
            group="to keep and to forget",
        ),
        Command(
            "forget",
            "delete crops for good, with everything that shows them",
            module="walt_train.loop.commands.forget",
            extra="loop",
            example="walt-loop forget --store ./store --home ./loop --camera cam-1 --since 2026-11-23 --retrain",
            group="to keep and to forget",
        ),
        Command(
            "backup",
            "copy the store, and what home has made, while it runs",
            module="walt_train.loop.commands.backup",
            extra="loop",
            example="walt-loop backup /mnt/backup --store ./store --home ./loop",
            group="to keep and to forget",
        ),
        Command(
            "restore",
            "fill an empty store from a backup",
            module="walt_train.loop.commands.restore",
            extra="loop",
            example="walt-loop restore /mnt/backup --store ./store --home ./loop --broker localhost:1883",
            group="to keep and to forget",
        ),
        Command(
            "resend",
            "after a restore, ask devices for what the store has lost",
            module="walt_train.loop.commands.resend",
            extra="loop",
            example="walt-loop resend --broker localhost:1883 --since 2026-11-23T06:00",
            group="to keep and to forget",
        ),
        Command(
            "simulate",
            "thousands of devices with the real protocol, against a broker and a home of your own",
            module="walt_train.loop.commands.simulate",
            extra="loop",
            example="walt-loop simulate --broker localhost:1883 --devices 2000 --crops-per-second 100",
            group="to try out",
        ),
    ),
)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(SCRIPT.main())

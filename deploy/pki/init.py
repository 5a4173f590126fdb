"""Before anything else runs: the bucket, the tables, and every certificate. May run again at any time.

init.py OPTIONS-OF-SETUP        with WALT_DATABASE_URL and WALT_BLOB_URL; setup.py lies beside it
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from walt_edge.contract.errors import UsageError, WaltError
from walt_train.loop.store.arguments import BLOBS_VARIABLE, DATABASE_VARIABLE
from walt_train.loop.store.config import StoreConfig

_ABSENT = ("404", "NoSuchBucket")


def main() -> int:
    """Makes what is not there, and says what."""
    try:
        make_bucket(StoreConfig(os.environ.get(DATABASE_VARIABLE, ""), os.environ.get(BLOBS_VARIABLE, "")))
    except WaltError as error:
        sys.stderr.write(f"init.py: {error}\n")
        return 1
    setup = Path(__file__).with_name("setup.py")
    return subprocess.run([sys.executable, str(setup), *sys.argv[1:]], check=False).returncode


def make_bucket(config: StoreConfig) -> None:
    """Makes the bucket of the blobs, unless they lie in a folder.

    Raises:
        UsageError: The server cannot be reached, or refuses.
    """
    bucket = config.bucket.partition("/")[0]
    if not bucket:
        return
    options = config.s3_options
    client = botocore.session.get_session().create_client(
        "s3", endpoint_url=options.get("endpoint"), region_name=options.get("region")
    )
    try:
        # Asked first: who may use a bucket need not be allowed to make one.
        if not _is_there(client, bucket):
            client.create_bucket(Bucket=bucket)
    except ClientError as error:
        raise UsageError(f"cannot make the bucket {bucket}: {error}; check the keys, or make it yourself") from error
    except BotoCoreError as error:
        raise UsageError(f"cannot make the bucket {bucket}: {error}; is the server there?") from error
    sys.stdout.write(f"bucket {bucket}\n")


def _is_there(client: Any, bucket: str) -> bool:
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABSENT:
            raise
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

"""An S3 server in this process: moto's, over HTTP."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass(frozen=True)
class ObjectStore:
    """A server with one bucket, called `bucket`."""

    endpoint: str

    def uri(self, path: str) -> str:
        """The URI of a folder in the store."""
        return f"s3://{path}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def client(self, service: str) -> Any:
        """Another client than pyarrow's."""
        import boto3

        return boto3.client(service, endpoint_url=f"http://{self.endpoint}", region_name="us-east-1")

    def make_user_without_rights(self) -> dict[str, str]:
        """Credentials of a new user, as the environment has them."""
        name = uuid.uuid4().hex
        self.client("iam").create_user(UserName=name)
        key = self.client("iam").create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def objects(self) -> list[str]:
        """Every object in the bucket."""
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket="bucket")
        return [each["Key"] for page in pages for each in page.get("Contents", ())]


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """The server, while the block lasts, and credentials for it in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in KEYS.items():
                patch.setenv(name, value)
            store = ObjectStore(f"{host}:{port}")
            store.client("s3").create_bucket(Bucket="bucket")
            yield store
    finally:
        server.stop()

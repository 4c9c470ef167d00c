"""A server that speaks S3 on loopback, with one user and one bucket; it refuses everybody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

BUCKET, REGION = "tide", "eu-central-1"


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """Run the server; yield the variables by which a client reaches it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        address = f"http://127.0.0.1:{port}"
        anyone = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
        session = boto3.Session(region_name=REGION, **anyone)
        iam, s3 = (session.client(name, endpoint_url=address) for name in ("iam", "s3"))
        iam.create_user(UserName="tidegate")
        key = iam.create_access_key(UserName="tidegate")["AccessKey"]
        may = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
        iam.put_user_policy(UserName="tidegate", PolicyName="landing", PolicyDocument=policy)
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        # From now on every request is checked: who asks, the signature, what the policy allows.
        reset = httpx.post(f"{address}/moto-api/reset-auth", content="0", headers={"Content-Type": "text/plain"})
        reset.raise_for_status()
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
    finally:
        server.stop()

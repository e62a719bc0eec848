"""S3 as the place of a run's files: whether it can be used, asked once before Snakemake asks it about every file."""

from typing import Any
from urllib.parse import urlsplit

from scripts.common.errors import GradusError

SECONDS = 5  # for a connection, and for an answer
# HTTP status of the answer about a bucket: what is wrong
REFUSED = {
    301: "it is in another region; name that one with --storage-s3-region",
    400: "the request or its credentials are not valid",
    403: "the credentials are wrong, or may not use it",
    404: "it does not exist; create it, or correct --default-storage-prefix",
}


def require_bucket(prefix: str, settings: Any) -> None:
    """Raise GradusError that says what is wrong if the bucket of `prefix` (`s3://<bucket>/…`) cannot be used.

    `settings`: those of Snakemake's storage plugin for S3. Without keys in them, botocore looks for some, in
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY first.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, NoCredentialsError
    from botocore.session import get_session

    bucket = urlsplit(prefix).netloc
    place = settings.endpoint_url or "AWS"
    try:
        client = get_session().create_client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            aws_session_token=settings.token,
            config=Config(
                signature_version=settings.signature_version,
                connect_timeout=SECONDS,
                read_timeout=SECONDS,
                retries={"total_max_attempts": 1},
            ),
        )
        client.head_bucket(Bucket=bucket)
    except NoCredentialsError:
        raise GradusError(
            "S3: no credentials; put them into the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    except (ConnectionError, HTTPClientError):
        raise GradusError(f"S3: no answer from {place}; check the network and --storage-s3-endpoint-url") from None
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        reason = REFUSED.get(status, f"the answer was {status}")
        raise GradusError(f"S3: bucket {bucket} at {place} cannot be used: {reason}") from None
    except (BotoCoreError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise GradusError(f"S3: bucket {bucket!r} at {place} cannot be asked: {reason}") from None

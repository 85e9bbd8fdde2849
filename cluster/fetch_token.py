"""Writes the cluster's token from the cloud's secret store to ~/.ray/auth_token, where Ray looks for it.

    python fetch_token.py aws REGION NAME          # AWS Secrets Manager
    python fetch_token.py gcp PROJECT NAME         # Google Secret Manager

The machine's own role must be allowed to read the secret. The token is neither printed nor given on a command line.
"""

import base64
import os
import sys
from pathlib import Path

SHORTEST = 32


def from_aws(region: str, name: str) -> str:
    """The current value of a secret in AWS Secrets Manager."""
    import boto3

    return str(boto3.client("secretsmanager", region_name=region).get_secret_value(SecretId=name)["SecretString"])


def from_gcp(project: str, name: str) -> str:
    """The latest version of a secret in Google Secret Manager."""
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    url = f"https://secretmanager.googleapis.com/v1/projects/{project}/secrets/{name}/versions/latest:access"
    answer = AuthorizedSession(credentials).get(url, timeout=30)
    answer.raise_for_status()
    return base64.b64decode(answer.json()["payload"]["data"]).decode("ascii")


STORES = {"aws": from_aws, "gcp": from_gcp}


def write(token: str, path: Path) -> None:
    """Writes `token` to `path`, which only its owner can read. Raises SystemExit if it is too short to be one."""
    token = token.strip()
    if len(token) < SHORTEST or not token.isalnum():
        raise SystemExit(f"error: the secret must be at least {SHORTEST} letters and digits: openssl rand -hex 32")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(token)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in STORES:
        raise SystemExit(f"usage: {sys.argv[0]} aws REGION NAME | gcp PROJECT NAME")
    write(STORES[sys.argv[1]](*sys.argv[2:]), Path.home() / ".ray" / "auth_token")

"""Services that a study reports to."""

from pydantic import Field

from diagram_ray.config import Frozen
from diagram_ray.errors import ConfigError, UsageError
from diagram_ray.storage.paths import check_uri


class MlflowConfig(Frozen):
    """The MLflow server to which a study is logged, if any."""

    tracking_uri: str | None = None
    """Address of the server, or of a database such as sqlite:////studies/mlflow.db. None: nowhere."""
    experiment: str = Field(default="diagram_ray", min_length=1)
    """Name of MLflow's experiment; it is made if it does not exist."""


def check_tracking(config: MlflowConfig, where: str) -> None:
    """Raises ConfigError, which does not show it, for a URI with a password or parameters in it."""
    try:
        check_uri(config.tracking_uri or "")
    except UsageError as error:
        raise ConfigError(f"{where}: mlflow.tracking_uri: {error}") from None

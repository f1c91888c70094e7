"""The real helm, built like the other programs of a cluster."""

import pytest

from hacklib.deployment.helm import Helm, provide_helm
from hacklib.ui import Ui


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm without a cluster."""
    return Helm(provide_helm(ui=Ui()))

from tests.unit.serving.conftest import model

__all__ = ["model"]

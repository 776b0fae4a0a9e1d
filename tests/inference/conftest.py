from tests.tiny_models import taught_model, tiny_model

__all__ = ["taught_model", "tiny_model"]

from tests.tiny_models import one_thread, taught_model, tiny_model

__all__ = ["one_thread", "taught_model", "tiny_model"]

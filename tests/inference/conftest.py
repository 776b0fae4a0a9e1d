from tests.ray_cluster import nodes, ray_cluster
from tests.tiny_models import one_thread, taught_model, tiny_model

__all__ = ["nodes", "one_thread", "ray_cluster", "taught_model", "tiny_model"]

from tests.ray_cluster import nodes, ray_cluster

__all__ = ["nodes", "ray_cluster"]

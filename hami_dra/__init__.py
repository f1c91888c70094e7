"""hami-dra: GPU sharing with hard limits on stock Kubernetes, through Dynamic Resource Allocation alone."""

__all__ = ["__version__"]

__version__ = "0.1.0"

"""Retries: the client's policy, and helpers for retry wrappers of your own.

With a wrapper of your own, disable the client's retries (``retry=None``): otherwise the attempts multiply.
"""

from .core.retry import RetryPolicy, retry_if_overloaded, retry_on_overload, wait_retry_after

__all__ = ["RetryPolicy", "retry_if_overloaded", "retry_on_overload", "wait_retry_after"]

"""Asking again while a server is overloaded: the client's own policy, and what wrappers of your own need.

With a wrapper of your own, switch the client's policy off (``retry=None``), or the attempts multiply.
"""

from .core.retry import RetryPolicy, retry_if_overloaded, retry_on_overload, wait_retry_after

__all__ = ["RetryPolicy", "retry_if_overloaded", "retry_on_overload", "wait_retry_after"]

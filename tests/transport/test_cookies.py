"""The jar of cookies that servers set: few, small, and the newest ones."""

from __future__ import annotations

from http.cookiejar import Cookie

import pytest

from hfstream._transport.cookies import (
    MAX_COOKIE_SIZE,
    MAX_COOKIES,
    MAX_COOKIES_PER_DOMAIN,
    MAX_HEADER_SIZE,
    BoundedCookieJar,
)


def cookie(name: str, value: str = "v", domain: str = "h", path: str = "/") -> Cookie:
    return Cookie(
        0, name, value, None, False, domain, False, False, path, True, False, None, False, None, None, {}
    )  # fmt: skip


def names(jar: BoundedCookieJar) -> set[str]:
    return {each.name for each in jar}


def test_the_newest_cookies_of_a_host_are_kept() -> None:
    jar = BoundedCookieJar()
    for number in range(500):
        jar.set_cookie(cookie(f"c{number}", path=f"/{number % 3}"))
    assert len(jar) == MAX_COOKIES_PER_DOMAIN
    assert "c499" in names(jar)
    jar.set_cookie(cookie("other", domain="g"))
    assert len(jar) == MAX_COOKIES_PER_DOMAIN + 1


def test_a_cookie_that_is_set_again_is_a_new_one() -> None:
    jar = BoundedCookieJar()
    jar.set_cookie(cookie("session"))
    for number in range(MAX_COOKIES_PER_DOMAIN - 1):
        jar.set_cookie(cookie(f"c{number}"))
    jar.set_cookie(cookie("session", "again"))
    jar.set_cookie(cookie("one more"))
    assert {"session", "one more"} <= names(jar)
    assert "c0" not in names(jar)
    assert [each.value for each in jar if each.name == "session"] == ["again"]


def test_all_hosts_together_have_a_limit() -> None:
    jar = BoundedCookieJar()
    for number in range(1000):
        jar.set_cookie(cookie(f"c{number}", domain=f"h{number}"))
    assert len(jar) == MAX_COOKIES
    assert "c999" in names(jar)


@pytest.mark.parametrize("size", [MAX_COOKIE_SIZE, 1_000_000])
def test_a_cookie_that_is_too_large_is_not_kept(size: int) -> None:
    jar = BoundedCookieJar()
    jar.set_cookie(cookie("kept"))
    jar.set_cookie(cookie("large", "v" * size))
    assert names(jar) == {"kept"}


def test_the_cookies_of_a_host_fit_into_a_header() -> None:
    jar = BoundedCookieJar()
    for number in range(40):
        jar.set_cookie(cookie(f"c{number}", "v" * 1000))
    assert sum(len(f"{each.name}={each.value}; ") for each in jar) <= MAX_HEADER_SIZE
    assert "c39" in names(jar)
    assert len(jar) == 8

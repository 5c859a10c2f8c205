"""Thousands of grammars. They run by themselves: nox -s guided."""

"""Tests with a real model, by themselves: nox -s real_model."""

"""The same streams read by hfstream, openai and huggingface_hub: what another client reads, hfstream reads.

    python -m tests.stress.differential [--streams 3000] [--seed 1]

Needs both other clients: ``nox -s differential``. Exits with 1 if a stream that another client reads to its end without
an error is read in another way here, and none of `rules.RULES` gives the reason.
"""

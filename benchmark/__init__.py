import npp_rl  # noqa: F401  (first: a signal ends the command in one line while the rest is imported)

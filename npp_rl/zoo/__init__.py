"""Exported agents that the package carries, a folder each, and the command that lists, checks and fetches agents.

Where a checkpoint is expected, `zoo:NAME` stands for an agent (see training/exported.py). The command is
`python -m npp_rl.zoo`.
"""

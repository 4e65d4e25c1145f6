"""Playing a suite of levels and saying how it went; `python -m npp_rl.evaluation` is the command.

suite.py plays, players.py turns agents and ensembles into policies, retrace.py and analysis.py find out how episodes
failed, summary.py and intervals.py make figures and tables of it, result_files.py writes them, cost.py measures what an
agent costs.
"""

"""Evaluation of agents on a suite of levels; `python -m npp_rl.evaluation` is the command.

suite.py plays the levels, players.py turns agents and ensembles into policies, and retrace.py and analysis.py find out
how episodes failed. summary.py and intervals.py compute statistics and tables, search_report.py those of a search at
test time, and result_files.py writes them. cost.py measures what an agent costs.
"""

"""The parts of the report.

experiments.py reads runs, significance.py has the statistics, decision.py weighs criteria. sections.py, scores.py and
details.py write the chapters, plots.py draws, page.py lays out. games.py draws an agent's games for benchmark.curves.
"""

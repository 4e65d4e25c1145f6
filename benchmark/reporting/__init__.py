"""The parts of the report.

experiments.py reads runs and metrics.py their metrics; schemas.py says what files must look like. significance.py has
the statistics, decision.py weighs criteria. sections.py makes contenders of runs and draws the conclusion;
differences.py and sources.py say what else differs between the runs. scores.py, learning.py and details.py write the
chapters, level_views.py the levels that open on a click. plots.py draws, page.py lays out. games.py draws an agent's
games for benchmark.curves.
"""

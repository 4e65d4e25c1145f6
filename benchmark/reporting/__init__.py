"""The report's parts, in the order in which they work.

experiments.py reads runs, significance.py has the statistics, decision.py weighs criteria, scores.py, sections.py and
details.py write the chapters, plots.py draws, page.py lays out. tune_plots.py draws the tuner's pictures.
"""

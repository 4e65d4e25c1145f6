"""The Gymnasium environment: observations, rewards and episodes.

env.py is the environment and says what is rewarded. games.py is one step of a batch of games. goals.py plans where to
go. Each set of observations has a file: observations.py (vectors and the patch), arcs.py, graph.py, and pictures.py
with the looks of things in looks.py. ahead.py compiles all of it before a run's clock starts.
"""

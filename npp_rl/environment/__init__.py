"""The Gymnasium environment: observations, rewards and episodes.

env.py is the environment and says what is rewarded. games.py is what one step does to a batch of games. goals.py knows
where to go next. Each set of observations has a file: observations.py (vectors and the patch), arcs.py, graph.py,
pictures.py.
"""

"""Search over snapshots of the simulator, and demonstrations made from runs that win.

search.py and planner.py solve levels; certify.py solves the built-in ones and writes their table. guided.py lets a
policy guide the search, for `evaluation --search`. held_actions.py turns the runs of people into held actions, as an
agent does. runs.py finds the runs in replay files that can be used, and demonstrations.py makes a data set of them to
imitate.
"""

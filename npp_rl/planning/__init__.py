"""Search over snapshots of the simulator, and demonstrations made from runs that win.

search.py and planner.py solve levels, certify.py solves the built-in ones and writes their table. held_actions.py brings
the runs of people to the agent's grid of held actions, demonstrations.py makes data sets to imitate.
"""

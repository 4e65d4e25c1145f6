"""Levels: the map format, data sets and their splits, free space, the generator and its built-in levels, replays.

maps.py holds a level and its bytes, datasets.py loads and divides sets of levels, fields.py measures distances through
free space. generator.py draws levels from rooms.py and courses.py in the proportions of kinds.py; builtin.py holds the
certified ones. replays.py reads and writes recorded runs.
"""

"""Pictures of levels and games for people.

shapes.py has the geometry, render.py draws, video.py films, window.py shows. Nothing here knows the environment: it
draws a level, a recorded run or the simulator's state.
"""

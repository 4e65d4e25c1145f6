"""Pictures of levels and games for people.

shapes.py has the shapes of things and figure.py that of the ninja. render.py draws levels and games, video.py films.
window.py opens a window, in which player.py plays levels and shows replays, and browser.py lets people choose a level.
Nothing here knows the environment.
"""

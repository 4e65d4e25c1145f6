"""The dashboard: live runs, comparisons, episodes and a level editor in a browser.

server.py says who may ask for what, and serves static/, the page. runs.py and run_files.py read run folders as they
grow, curves.py makes curves of them, compare.py puts two sides beside each other. episodes.py, games.py and editor.py
answer requests for games and levels, which processes of worker.py play. README.md is its manual.
"""

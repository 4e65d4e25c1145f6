"""The tuner's parts.

spaces.py says which values are tried, trials.py trains a trial's runs, study.py keeps what is known of all trials,
standing.py says how sure the best trial is, plots.py draws.
"""

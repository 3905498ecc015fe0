"""Does each interval cover, and is each "shown" as rarely wrong as it says? `interp calibrate` simulates them all.

`intervals`, `verdicts`, `models` and `organism` each say what is simulated, as `Cell`s; `run` simulates them.
"""

"""`python -m probes.calibration`, which is `interp calibrate`."""

from probes.calibration.verb import main

if __name__ == "__main__":
    main()

"""`python -m interp.cli`, and so `accelerate launch -m interp.cli`."""

from interp.cli.app import main

if __name__ == "__main__":
    main()

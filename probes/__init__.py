"""One experiment a file: what is decoded, from where, against which control. Nothing in `interp/` imports these."""

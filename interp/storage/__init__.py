"""Files that survive a kill, and what says where they came from."""

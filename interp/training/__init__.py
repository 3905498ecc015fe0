"""The two stages that internalize a debate: SFT on whole transcripts, then GRPO under a falling limit."""

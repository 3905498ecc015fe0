"""What a scripted agent knows: arithmetic with slips, notation, and three ways of writing."""

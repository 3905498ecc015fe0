"""The model organism: a Llama of under a million parameters that debates small sums, made here from nothing.

Knows its language, its lessons and its pre-training; knows nothing about the stages that internalize its debates.
"""

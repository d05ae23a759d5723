"""Prompts with one instruction that a program can check, for real language models.

topics          what the prompts are about; those of the test split are in no other
instructions    the kinds of instructions: how each is worded, and how it is checked
prompts         the prompts of each split
gold            the gold reward: whether a response follows its prompt's instruction, on its topic
pairs/          preference pairs, sampled from SmolLM2-135M-Instruct and ordered by the gold reward (`make pairs`)
"""

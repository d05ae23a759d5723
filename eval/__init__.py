"""From stage directories to figures: how the trained models behave, and what they cost.

Commands, each with its own options (`python -m eval.<name> --help`):
    __main__    the table of a session: log-probs, responses, gold reward, costs
    table       that table again; also report its page, card a model card for each stage, readme the published table
    likelihood  log-probs and preference accuracy on any pairs
    diversity   the paper's Table 4, and verbosity
    reward      rewards of a reward model
    judge       pairwise comparison by a judge
    mt_bench    MT-Bench, graded by a judge
    alpaca      AlpacaEval 2
    harness     lm-evaluation-harness
    dynamics    the paper's figures 3 and 7, from checkpoints
    export      a directory or a GGUF file for other programs; push uploads it to the Hub

commands/ has their common command line, and the commands that the launcher and export start. answers/ queries models,
endpoints and judges; prompts/ has the judges' prompts. results/ has a session's measurements, their statistics and the
table; pages/ has figures and templates. The paper's claims, ratios and exhibits are in the package `paper`.
"""

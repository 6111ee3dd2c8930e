# armdb: a SQLite extension with a storage engine of its own.
#
#   make          builds armdb_vtab.so
#   make demo     shows it at work in the sqlite3 shell
#   make check    builds and tests everything; the last line counts
#   make help     lists all targets
#
# One file for everything. The list of modules below is the architecture: each
# module may include only what stands before it (test/tidy.sh checks that).
# FLAVOR=release|debug|asan|tsan|cov|fuzz builds into build/$(FLAVOR)/, so flavours
# live side by side; where a target needs another flavour (make asan), this same
# file is called again with it.

# ---- Modules, bottom to top ---------------------------------------------------

BASE_MODULES  := plant rc bytes mem check thread histogram
IO_MODULES    := io io_posix io_rw io_mem io_plain io_uring \
                 cache cache_internal cache_page cache_read cache_file cache_large
LOG_MODULES   := location record frame zeros segfile superblock manifest run run_block run_build hint scan segment \
                 gsn log shard moment
INDEX_MODULES := epoch node hashmap order order_block order_inner order_leaf \
                 order_path order_edit order_scan order_check
STORE_MODULES := recover recover_internal recover_scan recover_gsn recover_verdict \
                 bump compact hints internal load load_merge version spill read write txn table \
                 newid session snapshot cursor point range modify warm \
                 compact_internal compact_scan compact_tombs compact_write compact_install \
                 hints_make hook migrate stat segments keeper target backup \
                 decisions verify_internal verify_index verify_log verify \
                 salvage_internal salvage_write salvage_read salvage store
EXT_MODULES   := errmap bytebuf affinity keycodec keycodec_private keyrange keytext rowcodec \
                 token path options schema schema_private schema_row schema_agree \
                 plan conn shadow drop vtab txn restore update cursor \
                 filter_private filter_list filter_number filter bestindex \
                 functions atomic maintain config tables list findings verify salvage ext

MODULES := $(addprefix engine/base/,$(BASE_MODULES)) \
           $(addprefix engine/io/,$(IO_MODULES)) \
           $(addprefix engine/log/,$(LOG_MODULES)) \
           $(addprefix engine/index/,$(INDEX_MODULES)) \
           $(addprefix engine/store/,$(STORE_MODULES)) \
           $(addprefix ext/,$(EXT_MODULES))

ALL_SOURCES := $(wildcard engine/base/*.c engine/io/*.c engine/log/*.c \
                          engine/index/*.c engine/store/*.c ext/*.c)
LISTED      := $(filter $(ALL_SOURCES),$(addsuffix .c,$(MODULES)))
UNLISTED    := $(filter-out $(LISTED),$(ALL_SOURCES))
ifneq ($(UNLISTED),)
$(warning not in the module list, built all the same: $(UNLISTED))
endif

SOURCES        := $(LISTED) $(UNLISTED)
ENGINE_SOURCES := $(filter engine/%,$(SOURCES))
EXT_SOURCES    := $(filter ext/%,$(SOURCES))

# ---- Tools and flags -----------------------------------------------------------

ifeq ($(origin CC),default)
CC := gcc
endif
AR      ?= ar
OBJCOPY ?= objcopy
FLAVOR  ?= release
BUILD   ?= build/$(FLAVOR)
STRICT  ?= 0
# libFuzzer is clang's.
ifeq ($(FLAVOR),fuzz)
override CC := $(filter ccache,$(CC)) $(or $(filter clang%,$(CC)),clang)
endif
# V=1 shows the commands.
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))
JOBS    ?= $(shell nproc 2>/dev/null || echo 2)
PYTHON  ?= /usr/bin/python3
IS_CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null))

WARN_COMMON := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes \
  -Wmissing-prototypes -Wold-style-definition -Wredundant-decls -Wpointer-arith \
  -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wswitch-enum \
  -Wnull-dereference -Wdouble-promotion -Wdate-time -Wunused-macros
WARN_CONVERSION := -Wconversion -Wsign-conversion
ifeq ($(IS_CLANG),)
WARN_COMMON += -Wcast-align=strict -Wlogical-op -Wduplicated-cond \
  -Wduplicated-branches -Wjump-misses-init -Walloca -Wimplicit-fallthrough=5 \
  -Wformat-overflow=2 -Wformat-truncation=2
WARN_CONVERSION += -Warith-conversion
else
WARN_COMMON += -Wthread-safety -Wcomma -Wassign-enum -Wconditional-uninitialized \
  -Wunreachable-code-aggressive
WARN_CONVERSION += -Wshorten-64-to-32
endif
ifeq ($(STRICT),1)
WARN_COMMON += -Werror
endif

FLAGS_release := -O2 -g -D_FORTIFY_SOURCE=3 -fstack-protector-strong \
  -fstack-clash-protection
FLAGS_debug   := -O0 -g3 -DADB_DEBUG
FLAGS_asan    := -O1 -g -DADB_DEBUG -fno-omit-frame-pointer \
  -fsanitize=address,undefined -fno-sanitize-recover=undefined -Wno-null-dereference
FLAGS_tsan    := -O1 -g -DADB_DEBUG -fno-omit-frame-pointer -fsanitize=thread \
  -Wno-null-dereference
FLAGS_cov     := -O0 -g --coverage
FLAGS_plant   := -O2 -g -DADB_PLANT
FLAGS_fuzz    := -O1 -g -DADB_DEBUG -fno-omit-frame-pointer \
  -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
  -Wno-null-dereference
FLAVOR_FLAGS  := $(FLAGS_$(FLAVOR))
ifeq ($(FLAVOR_FLAGS),)
$(error FLAVOR=$(FLAVOR): want release, debug, asan, tsan, cov, plant or fuzz)
endif

comma := ,
BASE_FLAGS := -std=c11 -D_POSIX_C_SOURCE=200809L -I. $(FLAVOR_FLAGS) -fno-common \
  -fvisibility=hidden -fPIC
MODULE_FLAGS = $(BASE_FLAGS) $(WARN_COMMON) $(WARN_CONVERSION) $(CPPFLAGS) $(CFLAGS)
# Tests link the ext modules with SQLite itself instead of loading them. A compiler
# does not see that an assertion of cmocka does not return, nor that a test is alone
# with what it looks into.
TEST_FLAGS = $(BASE_FLAGS) $(WARN_COMMON) -Wno-null-dereference \
  $(if $(IS_CLANG),-Wno-conditional-uninitialized -Wno-thread-safety) -DSQLITE_CORE \
  $(CPPFLAGS) $(CFLAGS)

LINK_FLAGS := $(filter -fsanitize=% --coverage,$(FLAVOR_FLAGS)) \
  $(if $(filter cov,$(FLAVOR)),-Wl$(comma)--wrap=_exit -u __gcov_dump) \
  -Wl,-z,relro,-z,now -Wl,--as-needed
ENGINE_LIBS := -luring -lpthread
ifeq ($(filter asan tsan fuzz,$(FLAVOR)),)
SO_FLAGS := -Wl,-z,defs
endif

# ---- Files made -----------------------------------------------------------------

ENGINE_OBJECTS := $(ENGINE_SOURCES:%.c=$(BUILD)/obj/%.o)
EXT_OBJECTS    := $(EXT_SOURCES:%.c=$(BUILD)/obj/%.o)
CORE_OBJECTS   := $(EXT_SOURCES:%.c=$(BUILD)/core/%.o)

SO          := $(BUILD)/armdb_vtab.so
ENGINE_LIB  := $(BUILD)/libarmdb.a
CORE_LIB    := $(BUILD)/libarmdb_core.a
LINK_MAP    := $(BUILD)/armdb_vtab.map

# A test .c with a main() is a program; the others of its folder and those in
# test/lib/ are helpers that the folder's programs may link. Programs that speak of
# ext/ are linked with it, the others with the engine alone.
TEST_KINDS    := unit prop crash sim bench
TEST_SOURCES  := $(wildcard $(TEST_KINDS:%=test/%/*.c))
TEST_MAINS    := $(if $(TEST_SOURCES),$(shell grep -l '^int main' $(TEST_SOURCES)))
EXT_MAINS     := $(if $(TEST_MAINS),$(shell grep -l '"ext/\|armdbvtab_init' $(TEST_MAINS)))
THREAD_MAINS  := $(if $(TEST_MAINS),$(shell grep -l 'adb_thread_start\|pthread_create' \
                   $(TEST_MAINS)))
TEST_PROGRAMS := $(TEST_MAINS:%.c=$(BUILD)/%)
helpers        = $(patsubst %.c,$(BUILD)/obj/%.o,$(filter-out $(TEST_MAINS),\
                   $(wildcard test/$(1)/*.c test/lib/*.c)))
HELPER_OBJECTS := $(sort $(foreach kind,$(TEST_KINDS),$(call helpers,$(kind))))
programs       = $(filter $(BUILD)/test/$(1)/%,$(TEST_PROGRAMS))
scripts        = $(wildcard test/$(1)/*.sh test/$(1)/*.py)
threaded       = $(filter $(BUILD)/test/$(1)/%,$(THREAD_MAINS:%.c=$(BUILD)/%))

# A fuzzing program is a harness, what the harnesses share, and the simulated disk and
# threads; its main() is libFuzzer's.
FUZZ_MAINS    := $(wildcard test/fuzz/fuzz_*.c)
FUZZ_PROGRAMS := $(FUZZ_MAINS:%.c=$(BUILD)/%)
FUZZ_HELPERS  := $(patsubst %.c,$(BUILD)/obj/%.o,test/fuzz/harness.c test/fuzz/input.c \
  test/fuzz/reseal.c test/fuzz/folder.c test/sim/sim_sched.c test/sim/sim_disk.c test/sim/sim_content.c)
EXT_MAINS     += $(shell grep -l '"ext/\|armdbvtab_init' $(FUZZ_MAINS))
MEM_WATCH_FLAGS := $(foreach f,alloc alloc_zero realloc alloc_aligned map,-Wl,--wrap=adb_$f)

ifeq ($(FLAVOR),release)
TOP_SO := armdb_vtab.so
endif

# ---- Building -------------------------------------------------------------------

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all objects tests lib deps help test unit sql prop crash soak check demo bench bench-engines \
  install uninstall asan tsan cov tidy format clean FORCE

all: $(SO) $(ENGINE_LIB) $(TOP_SO) ## build armdb_vtab.so and libarmdb.a

objects: $(ENGINE_OBJECTS) $(EXT_OBJECTS)

tests: $(TEST_PROGRAMS) ## build the test programs

# The flags in use; everything is compiled anew when they change.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(subst ','"'"',$(MODULE_FLAGS) $(TEST_FLAGS))' | cmp -s - $@ || \
	  printf '%s\n' '$(CC) $(subst ','"'"',$(MODULE_FLAGS) $(TEST_FLAGS))' > $@

$(BUILD)/obj/test/%.o: test/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(TEST_FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/obj/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(MODULE_FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/core/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(MODULE_FLAGS) -DSQLITE_CORE -MMD -MP -c -o $@ $<

# Exported is what armdb_vtab.def lists, and nothing else.
$(LINK_MAP): armdb_vtab.def
	@mkdir -p $(@D)
	@awk '/^[ \t]*(;|$$|LIBRARY|EXPORTS)/ {next} {names = names " " $$1 ";"} \
	  END {print "{ global:" names " local: *; };"}' $< > $@

$(SO): $(EXT_OBJECTS) $(ENGINE_OBJECTS) $(LINK_MAP)
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(LINK_FLAGS) $(SO_FLAGS) -Wl,--version-script=$(LINK_MAP) \
	  $(LDFLAGS) -o $@ $(EXT_OBJECTS) $(ENGINE_OBJECTS) $(ENGINE_LIBS)

$(ENGINE_LIB): $(ENGINE_OBJECTS)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

# The engine for C programs: one object, of which nothing but armdb.h's names can be seen,
# and the header with the one that it includes.
PUBLIC      := $(BUILD)/lib
PUBLIC_LIB  := $(PUBLIC)/libarmdb.a
PUBLIC_NAMES := 'armdb_*' adb_rc_name adb_fail adb_fail_errno

lib: $(PUBLIC_LIB) $(PUBLIC)/armdb.h $(PUBLIC)/armdb.pc ## build the engine for C programs

$(PUBLIC_LIB): $(ENGINE_OBJECTS)
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(CC) -r -nostdlib -o $(@D)/armdb.o $^
	$(Q)$(OBJCOPY) --wildcard $(PUBLIC_NAMES:%=--keep-global-symbol=%) $(@D)/armdb.o
	$(Q)$(AR) rcs $@ $(@D)/armdb.o

$(PUBLIC)/armdb.h: engine/armdb.h engine/base/rc.h
	@mkdir -p $(@D)
	@sed -e '/^#include "engine.base.rc.h"/ {' -e 'r engine/base/rc.h' -e 'd' -e '}' $< > $@

$(PUBLIC)/armdb.pc: engine/armdb.h $(BUILD)/prefix
	@mkdir -p $(@D)
	@printf '%s\n' 'Name: armdb' 'Description: the storage engine of armdb, without SQLite' \
	  "Version: $$(sed -n 's/.*ARMDB_RELEASE "\(.*\)"/\1/p' $<)" \
	  'Cflags: -I$(prefix)/include' 'Libs: -L$(libdir) -larmdb $(ENGINE_LIBS)' > $@

# Written anew when make is called with another prefix.
$(BUILD)/prefix: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(prefix) $(libdir)' | cmp -s - $@ || \
	  printf '%s\n' '$(prefix) $(libdir)' > $@

$(CORE_LIB): $(CORE_OBJECTS)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)$(AR) rcs $@ $^

armdb_vtab.so: build/release/armdb_vtab.so
	@cp $< $@.tmp && mv $@.tmp $@

$(EXT_MAINS:%.c=$(BUILD)/%): $(CORE_LIB)
$(EXT_MAINS:%.c=$(BUILD)/%): EXT_LIBS = $(CORE_LIB)

# It watches every demand for memory (test/fuzz/mem_watch.h).
$(BUILD)/test/unit/test_hostile: LINK_FLAGS += $(MEM_WATCH_FLAGS)

# Programs of one kind: their own object, the helpers of the kind, the libraries.
define TEST_RULE
$(BUILD)/test/$(1)/%: $(BUILD)/obj/test/$(1)/%.o $(call helpers,$(1)) $(ENGINE_LIB)
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) $$(LINK_FLAGS) $$(LDFLAGS) -o $$@ $$< $(call helpers,$(1)) $$(EXT_LIBS) \
	  $$(ENGINE_LIB) $$(ENGINE_LIBS) -lcmocka -lsqlite3
endef
$(foreach kind,$(TEST_KINDS),$(eval $(call TEST_RULE,$(kind))))

$(BUILD)/test/fuzz/fuzz_%: $(BUILD)/obj/test/fuzz/fuzz_%.o $(FUZZ_HELPERS) $(ENGINE_LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LINK_FLAGS) -fsanitize=fuzzer $(MEM_WATCH_FLAGS) $(LDFLAGS) -o $@ $< \
	  $(FUZZ_HELPERS) $(EXT_LIBS) $(ENGINE_LIB) $(ENGINE_LIBS) -lsqlite3

# What writes the seeds needs no clang.
SEED_MAKER := $(BUILD)/test/fuzz/make_seeds
$(SEED_MAKER): $(BUILD)/obj/test/fuzz/make_seeds.o \
    $(filter-out %/harness.o,$(FUZZ_HELPERS)) $(CORE_LIB) $(ENGINE_LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LINK_FLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(CORE_LIB) $(ENGINE_LIB) \
	  $(ENGINE_LIBS) -lsqlite3

-include $(FUZZ_HELPERS:.o=.d) $(FUZZ_MAINS:%.c=$(BUILD)/obj/%.d)
-include $(ENGINE_OBJECTS:.o=.d) $(EXT_OBJECTS:.o=.d) $(CORE_OBJECTS:.o=.d) \
  $(HELPER_OBJECTS:.o=.d) $(TEST_MAINS:%.c=$(BUILD)/obj/%.d)

# ---- Testing --------------------------------------------------------------------

RUN = ARMDB_VTAB=$(CURDIR)/$(SO) FLAVOR=$(FLAVOR) CC='$(CC)' JOBS=$(JOBS) sh test/run.sh

test: unit ## the unit tests (alias: unit)

unit: $(call programs,unit)
	@$(RUN) unit $(call programs,unit)

sql: all lib ## SQL scripts, the tour, loading from the shell, C, Python and Node
	@$(RUN) sql $(call scripts,sql)

prop: all $(call programs,prop) ## random operations against a model and against SQLite
	@TIMEOUT=900 $(RUN) prop $(call programs,prop) $(call scripts,prop)

crash: all $(call programs,crash) $(call programs,sim) ## kill, crashes, failed calls
	+@$(AGAIN) FLAVOR=plant plant-run
	@TIMEOUT=900 $(RUN) crash $(call programs,crash) $(call programs,sim) \
	  $(call scripts,crash) $(call scripts,sim)

# The simulations, and the test of the statistics, with mistakes in them:
# test/sim/planted.sh.
plant-run: $(call programs,sim) $(BUILD)/test/unit/test_stat
.PHONY: plant-run

SECONDS ?= 600
soak: $(call programs,sim) ## simulated crashes for SECONDS=n (600) seconds
	$(BUILD)/test/sim/enumerate --seconds=$(SECONDS) --jobs=$(JOBS)

# This file again, with another flavour or after packages were installed.
AGAIN = $(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(JOBS))

asan: ## the unit tests under AddressSanitizer and UBSan
	+@$(AGAIN) FLAVOR=asan asan-run
asan-run: $(call programs,unit)
	@$(RUN) unit-asan $(call programs,unit)

tsan: ## the unit tests that start threads, under ThreadSanitizer
	+@$(AGAIN) FLAVOR=tsan tsan-run
tsan-run: $(call threaded,unit)
	@$(RUN) unit-tsan $(call threaded,unit)
.PHONY: asan-run tsan-run

# Every STEP-th call fails; each workload crashes in ROUNDS runs.
sim-asan: ## the simulations under AddressSanitizer and UBSan, a part of them
	+@$(AGAIN) FLAVOR=asan sim-asan-run
sim-asan-run: $(call programs,sim)
	@STEP=$${STEP:-41} ROUNDS=$${ROUNDS:-1} TIMEOUT=900 $(RUN) sim-asan $(call programs,sim)
.PHONY: sim-asan sim-asan-run

# Without three programs: valgrind 3.19 gives up on rings in test_io_fallback (its
# "impossible happened"), knows neither what a ring writes nor limits on descriptors in
# test_io_files, and has no long double, by which SQLite compares in test_keycodec.
VALGRIND = valgrind -q --error-exitcode=99 --leak-check=full --fair-sched=yes \
  --errors-for-leak-kinds=definite,indirect --child-silent-after-fork=yes
NOT_VALGRIND = %/test_io_fallback %/test_io_files %/test_keycodec

valgrind: ## the unit tests under valgrind
	+@$(AGAIN) FLAVOR=debug valgrind-run
valgrind-run: $(call programs,unit)
	@TIMEOUT=3000 WRAP='$(VALGRIND)' $(RUN) unit-valgrind \
	  $(filter-out $(NOT_VALGRIND),$(call programs,unit))
.PHONY: valgrind-run

fuzz-check: ## every fuzzing program: its seeds, then a fixed number of runs
	+@$(AGAIN) FLAVOR=fuzz fuzz-check-run
fuzz-check-run: $(FUZZ_PROGRAMS)
	@TIMEOUT=900 $(RUN) fuzz-check $(FUZZ_PROGRAMS)

seeds: $(SEED_MAKER) ## writes the seeds in test/fuzz/seeds anew
	$(SEED_MAKER) test/fuzz/seeds

golden: all ## golden stores that test/golden lacks (GOLDEN=v1: the version of the format)
	@ARMDB_VTAB=$(CURDIR)/$(SO) $(PYTHON) test/golden/make.py $(GOLDEN)
GOLDEN ?= v1

fuzz: ## fuzzing for SECONDS=n (600) seconds; what is found stays in build/fuzz/corpus
	+@$(AGAIN) FLAVOR=fuzz fuzz-run
fuzz-run: $(FUZZ_PROGRAMS)
	@SECONDS_ALL=$(SECONDS) JOBS=$(JOBS) sh test/fuzz/run.sh $(FUZZ_PROGRAMS)
.PHONY: fuzz golden seeds fuzz-check fuzz-check-run fuzz-run

SUITES := style unit sql prop crash asan tsan fuzz-check

# What `make check` starts its random tests from, so that a run can be compared with the
# one before; each suite by itself takes a new seed every time (or SEED=n).
CHECK_SEED := 36

check: ## install what is missing, build, run every test, count
	@sh test/deps.sh check
	@rm -rf build/results
	+@$(AGAIN) all || true
	+@for suite in $(SUITES); do \
	    SEED=$${SEED:-$(CHECK_SEED)} $(AGAIN) $$suite || true; done
	@sh test/run.sh --summary $(SUITES:%san=unit-%san)

demo: ## install what is missing, build, run sql/tour.sql in the sqlite3 shell
	@sh test/deps.sh demo
	+@$(AGAIN) all
	@sh test/demo.sh

bench: all $(call programs,bench) ## armdb beside a native table (N=rows VALUE=bytes)
	@ARMDB_VTAB=$(CURDIR)/$(SO) sh test/bench/run.sh $(call programs,bench)

# Only this needs LMDB and RocksDB; ENGINES= gives further options (test/engines/engines.c).
ENGINES_SOURCES := $(wildcard test/engines/*.c)

bench-engines: $(ENGINE_LIB) ## armdb, LMDB and RocksDB called directly (N=rows VALUE=bytes)
	@sh test/deps.sh engines
	$(call say,CC,$(BUILD)/test/engines)
	$(Q)$(CC) $(TEST_FLAGS) -D_GNU_SOURCE $(LINK_FLAGS) -o $(BUILD)/test/engines \
	  $(ENGINES_SOURCES) $(ENGINE_LIB) $(ENGINE_LIBS) -llmdb -lrocksdb
	@$(BUILD)/test/engines $(if $(N),--rows=$(N)) $(if $(VALUE),--value=$(VALUE)) \
	  --json=build/engines.json $(ENGINES)

cov: ## line and branch coverage of engine/ and ext/ by the tests
	+@$(AGAIN) FLAVOR=cov all tests
	@find build/cov -name '*.gcda' -exec rm -f {} +
	+@for suite in unit sql prop crash; do $(AGAIN) FLAVOR=cov $$suite; done; true
	@$(PYTHON) test/cov.py build/cov

tidy: all ## the rules of style that a machine can check
	@$(RULES) sh test/tidy.sh

# Those of them that need no other tools are part of `make check`.
style: all
	@$(RULES) TIDY=quick $(RUN) style test/tidy.sh
.PHONY: style
RULES = MODULES='$(MODULES)' UNLISTED='$(UNLISTED)' JOBS=$(JOBS)

format: ## clang-format the sources in place
	clang-format -i $(wildcard engine/*.h engine/*/*.[ch] ext/*.[ch] test/*/*.[ch])

# ---- Installing -------------------------------------------------------------------

prefix  ?= /usr/local
DESTDIR ?=
multiarch := $(shell $(CC) -print-multiarch 2>/dev/null)
libdir  ?= $(if $(filter /usr,$(prefix)),/usr/lib$(addprefix /,$(multiarch)),$(prefix)/lib)
extdir  ?= $(libdir)/sqlite3

install: all lib ## copy armdb_vtab.so to $(DESTDIR)$(prefix)/lib/sqlite3, the engine beside
	install -d $(DESTDIR)$(extdir) $(DESTDIR)$(libdir)/pkgconfig $(DESTDIR)$(prefix)/include
	install -m 644 build/release/armdb_vtab.so $(DESTDIR)$(extdir)/armdb_vtab.so
	install -m 644 build/release/lib/libarmdb.a $(DESTDIR)$(libdir)/libarmdb.a
	install -m 644 build/release/lib/armdb.h $(DESTDIR)$(prefix)/include/armdb.h
	install -m 644 build/release/lib/armdb.pc $(DESTDIR)$(libdir)/pkgconfig/armdb.pc

uninstall: ## remove what install copied
	rm -f $(DESTDIR)$(extdir)/armdb_vtab.so $(DESTDIR)$(libdir)/libarmdb.a \
	  $(DESTDIR)$(prefix)/include/armdb.h $(DESTDIR)$(libdir)/pkgconfig/armdb.pc

# ---- The rest ---------------------------------------------------------------------

deps: ## install the packages that building and testing need
	@sh test/deps.sh check

clean: ## remove everything that was built
	rm -rf build armdb_vtab.so

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo "FLAVOR=release|debug|asan|tsan|cov, CC=gcc|clang, STRICT=1, SEED=n, JOBS=n"

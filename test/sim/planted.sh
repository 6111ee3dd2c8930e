#!/bin/sh
# The simulations find classic mistakes: each is switched on in a build that has them
# (FLAVOR=plant, engine/base/plant.h), and a program must fail, within ROUNDS rounds.

dir=build/plant/test/sim
rounds=${ROUNDS:-12}
seed=${SEED:-36}
failed=0

# Runs one program with the mistake, and with further arguments; its complaint goes to
# $said.
finds()
{
    mistake=$1
    program=$2
    shift 2
    said=$(ADB_PLANT=$mistake timeout 200 "$dir/$program" --seed="$seed" \
        --rounds="$rounds" --jobs="${JOBS:-2}" "$@" 2>&1)
    rc=$?
    said=$(printf '%s\n' "$said" | grep -m 1 'not ok' | cut -c 10-170)
    [ $rc -ne 0 ] && [ -n "$said" ]
}

check()
{
    if finds "$@"; then
        echo "ok - planted: $1: found by $2: $said"
    else
        echo "not ok - planted: $1: $2 did not find it"
        failed=1
    fi
}

# The same for mistakes in what is only counted.
check_counts()
{
    said=$(ADB_PLANT=$1 SEED=$seed timeout 200 build/plant/test/unit/test_stat 2>&1)
    rc=$?
    said=$(printf '%s\n' "$said" | grep -m 1 '^\[  [FE][A-Z]*[ ]*\] [a-z]' | cut -c 14-)
    if [ "$1" = none ] && [ $rc -eq 0 ]; then
        echo "ok - without a mistake all counts are right"
    elif [ "$1" != none ] && [ $rc -ne 0 ] && [ -n "$said" ]; then
        echo "ok - planted: $1: found by test_stat: $said"
    else
        echo "not ok - planted: $1: test_stat ended with $rc: $said"
        failed=1
    fi
}

if finds none enumerate; then
    echo "not ok - without a mistake nothing is found: $said"
    failed=1
else
    echo "ok - without a mistake nothing is found"
fi
check sync_skipped enumerate
check ack_before_sync enumerate
check ack_before_written enumerate
check lower_gsn_not_waited_for enumerate
check two_writes_in_flight enumerate
check seal_not_synced enumerate
check segment_before_manifest enumerate
check directory_sync_left_out enumerate
check rename_not_synced enumerate
check rename_before_data enumerate
check abort_verdict_lost enumerate
check verdict_not_synced enumerate
check tail_not_cut enumerate
check gap_ignored enumerate
check gsn_reused enumerate
check check_not_verified enumerate
check in_doubt_rule_ignored enumerate
check void_runs_ignored enumerate
check recovery_not_synced enumerate
check superseded_not_durable found
check tombstone_dropped_early enumerate --plan=compact
check output_not_synced enumerate --plan=compact
check verdict_compacted_away enumerate --plan=compact
check stale_location_used enumerate --plan=moved
check hint_of_live_keys enumerate --plan=hints
check hint_of_aborted enumerate --plan=hints
# Shows in about one of 20 runs.
check orphan_hint enumerate --plan=hinted --rounds=90
check failed_sync_believed fail_calls
check wound_forgotten found
check table_id_reused found
check_counts none
check_counts counters_reset_by_reading
check_counts closed_session_forgotten
check_counts dead_bytes_forgotten
check_counts live_bytes_not_moved
exit $failed

#!/usr/bin/env bash
# restore.sh DUMP
#
# Restores a dump of backup.sh into an empty database: all of it or, if anything fails, nothing. The connection is said by
# libpq's variables (PGHOST, PGUSER, PGPASSWORD, PGDATABASE), as the role that the service uses, so that it owns its tables.
#
# Start the service on it so that it sends nothing at first: docs/operations.md says how, and why.
set -euo pipefail

say() { printf 'restore: %s\n' "$*" >&2; }

if (($# != 1)); then
    say "usage: restore.sh DUMP"
    exit 64
fi
dump=$1
if [[ ! -r $dump ]]; then
    say "$dump cannot be read"
    exit 66
fi

tables=$(psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --command \
    "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
if ((tables > 0)); then
    say "the database has $tables tables already: restore into an empty one, and give the service its address"
    exit 1
fi
pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --dbname="${PGDATABASE:?the database to restore into}" "$dump"
# What the planner knows is not part of a dump.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --command 'ANALYZE'
say "restored $dump"

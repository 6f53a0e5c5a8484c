#!/usr/bin/env bash
# restore.sh DUMP
#
# Restores a dump of backup.sh into an empty database, in one transaction. libpq's variables set the connection (PGHOST,
# PGUSER, PGPASSWORD, PGDATABASE). Use the service's role, so that it owns the tables.
#
# Start the service on it with sending paused: see docs/operations.md.
set -euo pipefail

say() { printf 'restore: %s\n' "$*" >&2; }

if (($# != 1)); then
    say "usage: restore.sh DUMP"
    exit 64
fi
dump=$1
if [[ ! -r $dump ]]; then
    say "cannot read $dump"
    exit 66
fi

tables=$(psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --command \
    "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
if ((tables > 0)); then
    say "the database has $tables tables already: restore into an empty one, and set DATABASE_URL to it"
    exit 1
fi
pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --dbname="${PGDATABASE:?the database to restore into}" "$dump"
# A dump has no planner statistics.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --command 'ANALYZE'
say "restored $dump"

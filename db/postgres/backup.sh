#!/usr/bin/env bash
# backup.sh --once | --every SECONDS
#
# Writes a dump of the database into BACKUP_FOLDER as fanfare-<UTC time>.dump and keeps the newest BACKUP_KEEP (14) dumps.
# With --every it repeats, and retries a failed dump after a minute. libpq's variables set the connection (PGHOST, PGUSER,
# PGPASSWORD, PGDATABASE). The service may be running: a dump is a consistent snapshot.
set -euo pipefail

say() { printf 'backup: %s\n' "$*" >&2; }

folder=${BACKUP_FOLDER:?the folder for the dumps}
keep=${BACKUP_KEEP:-14}
every=
case ${1:-}/$# in
--once/1) ;;
--every/2) every=$2 ;;
*) keep= ;;
esac
if [[ ! $keep =~ ^[1-9][0-9]*$ || ! $every =~ ^([1-9][0-9]*)?$ ]]; then
    say "usage: backup.sh --once | --every SECONDS, with BACKUP_FOLDER and BACKUP_KEEP of at least 1"
    exit 64
fi

dump() {
    local name part
    name=fanfare-$(date -u +%Y%m%dT%H%M%SZ).dump
    part=$folder/.$name.part
    # An incomplete dump has another name and is removed, as is a dump that pg_restore cannot read.
    if ! (
        umask 077
        pg_dump --format=custom --no-owner --no-privileges --file="$part" &&
            pg_restore --list "$part" >/dev/null &&
            sync -- "$part" && mv -- "$part" "$folder/$name" && sync -- "$folder"
    ); then
        rm -f -- "$part"
        return 1
    fi
    say "wrote $folder/$name ($(stat -c %s "$folder/$name") bytes)"
    find "$folder" -maxdepth 1 -name 'fanfare-*.dump' -printf '%f\n' | sort -r | tail -n "+$((keep + 1))" |
        while read -r old; do
            rm -f -- "$folder/$old"
            say "removed $folder/$old"
        done
}

if [[ -z $every ]]; then
    dump || exit 1
    exit 0
fi
trap 'exit 0' TERM INT
while :; do
    pause=$every
    dump || { say "the dump failed; retrying in a minute"; pause=60; }
    # In the background, so that a signal ends the wait.
    sleep "$pause" &
    wait $!
done

#!/bin/sh
# Build the page from web/ into src/hpcq/page, unless it is newer than all that it is made of.
set -eu
cd "$(dirname "$0")/.."

page=src/hpcq/page/index.html
if [ -e $page ] && [ -z "$(find web -name node_modules -prune -o -type f -newer $page -print)" ]
then
    exit 0
fi
echo "Building the page"
installed=web/node_modules/.package-lock.json
if [ ! -e $installed ] || [ web/package-lock.json -nt $installed ]; then
    scripts/npm.sh ci --no-audit --no-fund --loglevel error
fi
scripts/npm.sh run --silent build -- --logLevel warn
